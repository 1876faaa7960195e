"""Train with ``mt train`` itself; only its updates are watched."""

import argparse
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.peers.meter import Window
from benchmarks.peers.work import Work
from transformer_mt.__main__ import run
from transformer_mt.training.trainer import Tally, Trainer


def main() -> None:
    """Train until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    work, update = Work.load(options.folder), Trainer.update
    window: Window | None = None
    (Path(work.run) / "metrics.jsonl").unlink(missing_ok=True)  # of the turn before: else there would be a run already

    def watched(trainer: Trainer, *arguments: Any) -> None:
        nonlocal window
        if window is None:
            parameters = sum(p.numel() for p in trainer.model.parameters())
            window = Window(options.seconds, parameters=parameters, pairs=len(trainer.batches.store))
        tally = next(argument for argument in arguments if isinstance(argument, Tally))
        before = tally.tokens
        update(trainer, *arguments)
        window.update(tally.tokens - before)

    with mock.patch.object(Trainer, "update", watched):
        run(["train", work.config, "--set", f"training.precision={options.precision}"])


if __name__ == "__main__":
    main()
