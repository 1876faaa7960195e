"""How the cost of a token grows with the length of its sentence: training and greedy decoding.

Sentences of n pieces on both sides, end token counted, are made of random ids; the model, 3+3 layers of width 256 and a
vocabulary of 8000, is untrained. Training takes as many tokens a batch at every length, decoding as many sentences.
Work a token is a + b·n: every token goes through the same products, and attends to n others (Vaswani et al. 2017,
table 1). Both are fitted to what was measured in CPU time on one core. A table, the figures as JSON and, with
Matplotlib, a plot are left in runs/bench-lengths. `make bench-lengths` runs it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.drawing import panels, save
from benchmarks.never_ending import never_ending
from transformer_mt import config
from transformer_mt.checkpoint import Checkpoints
from transformer_mt.data.batching import Batches, Bucket
from transformer_mt.data.store import Pieces
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import EOS, UNK
from transformer_mt.training.metrics import Metrics
from transformer_mt.training.trainer import Tally, Trainer
from transformer_mt.translate import Translator

VOCABULARY, LAYERS, WIDTH = 8000, 3, 256
MODEL = {"size": "tiny", "layers": LAYERS, "width": WIDTH, "heads": 4, "feed_forward": 1024, "dropout": 0.1}
SENTENCES = 16  # of a batch in decoding
# Multiplications and additions of attention, for each token and each token that it attends to. Training does three
# times those of the forward pass, which has attention of source, target and target to source; a step of decoding sees
# half of the target, on average, and all of the source.
TRAINING_WORK = 3 * 3 * 4 * LAYERS * WIDTH
DECODING_WORK = (1 + 1 + 0.5) * 4 * LAYERS * WIDTH


def make_model() -> Transformer:
    """The untrained model, the same at every call."""
    torch.manual_seed(1)
    return Transformer(config.Transformer.model_validate(MODEL), VOCABULARY)


def sentences(count: int, length: int) -> list[list[int]]:
    """Random ids without an end token."""
    return np.random.default_rng(1).integers(max(EOS, UNK) + 1, VOCABULARY, (count, length - 1)).tolist()  # type: ignore[no-any-return]


def cpu_seconds(work: Callable[[], None], turns: int) -> float:
    """The median of several turns, after one to get warm."""
    work()
    taken = []
    for _ in range(turns):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def train(length: int, tokens: int, precision: str, turns: int) -> float:
    """CPU-seconds a target token of an update."""
    limits = {"max_steps": 1, "batch_tokens": tokens, "device_tokens": tokens, "precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            make_model().train(),
            cast(Batches, None),  # it gets them from us
            config.Training.model_validate(limits),
            Checkpoints(Path(folder)),
            Metrics(Path(folder) / "metrics.jsonl"),
            cast(Any, None),
            seed=1,
            about={},
            started=time.monotonic(),
        )
        side = Pieces.of(sentences(tokens // length, length))
        bucket, tally = Bucket(side, side, np.arange(len(side))), Tally()
        seconds = cpu_seconds(lambda: trainer.update([bucket], 1, tally), turns)
        assert tally.tokens == (turns + 1) * bucket.tokens
        return seconds / bucket.tokens


def decode(length: int, precision: str, turns: int) -> float:
    """CPU-seconds a target token of greedy search that is kept from ending before ``length`` tokens are written."""
    settings = config.Decoding.model_validate({"beam_size": 1, "precision": precision})
    no_text = cast(Tokenizer, None)
    translator = Translator(make_model().eval(), no_text, settings, torch.device("cpu"))
    sources = [[*ids, EOS] for ids in sentences(SENTENCES, length)]

    def search() -> None:
        assert {len(best.ids) for [best] in translator.search(sources, scored=False)} == {length}

    with never_ending(translator.packed, length):
        return cpu_seconds(search, turns) / (SENTENCES * length)


def fit(lengths: list[int], values: list[float]) -> tuple[float, float]:
    """The a and b of a + b·n with the least squares of relative errors."""
    weights = 1 / np.array(values)
    system = np.stack([weights, weights * np.array(lengths)], axis=1)
    a, b = np.linalg.lstsq(system, np.ones(len(values)), rcond=None)[0]
    return float(a), float(b)


def table(result: dict[str, Any]) -> str:
    """The figures in Markdown."""
    rows = ["| pieces | training, µs/token | a + b·n | decoding, µs/token | a + b·n |", "|---:|---:|---:|---:|---:|"]
    training, decoding = result["training"], result["decoding"]
    for n, *measured in zip(result["lengths"], training["microseconds"], decoding["microseconds"], strict=True):
        cells = [
            f"{value:,.0f} | {kind['a'] + kind['b'] * n:,.0f}"
            for value, kind in zip(measured, (training, decoding), strict=True)
        ]
        rows.append(f"| {n} | {' | '.join(cells)} |")
    for name, kind in (("Training", training), ("Decoding", decoding)):
        line = f"{name}: {kind['a']:.0f} + {kind['b']:.3f}·n µs a token. Attention is half at n = {kind['even']:,.0f}"
        rows.append(f"\n{line}; it runs at {kind['gflops']:.1f} GFLOP/s.")
    return "\n".join(rows) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw what was measured over the fitted lines."""
    if not (drawn := panels(2, 9, 3.6)):
        return
    lengths = np.geomspace(result["lengths"][0], result["lengths"][-1], 200)
    for panel, name in zip(drawn, ("training", "decoding"), strict=True):
        kind = result[name]
        panel.axhline(kind["a"], color="0.7", linestyle=":", label=f"a = {kind['a']:.0f}: the same for every token")
        panel.plot(lengths, kind["a"] + kind["b"] * lengths, color="#4c72b0", label=f"a + {kind['b']:.2f}·n: attention")
        panel.plot(result["lengths"], kind["microseconds"], "o", color="#c44e52", label="measured")
        panel.set_xscale("log", base=2)
        panel.set_ylim(bottom=0)
        panel.set_xticks(result["lengths"], map(str, result["lengths"]))
        panel.set_xlabel("pieces of a sentence, n")
        panel.set_title(f"{name}, CPU-µs a target token ({result['precision']})", fontsize=10)
        panel.legend(fontsize=8, frameon=False)
    save(drawn[0], path)


def main() -> None:
    """Measure, fit, and write ``result.md``, ``result.json`` and ``result.svg``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=1024, help="pieces; lengths double from 16 on")
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch in training, the longest or more")
    parser.add_argument("--turns", type=int, default=2, help="of which the median counts")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-lengths"), metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [16 << n for n in range((options.longest // 16).bit_length())]
    result: dict[str, Any] = {"precision": options.precision, "torch": torch.__version__, "lengths": lengths}
    measures: dict[str, tuple[Callable[[int], float], float]] = {
        "training": (lambda n: train(n, options.tokens, options.precision, options.turns), TRAINING_WORK),
        "decoding": (lambda n: decode(n, options.precision, options.turns), DECODING_WORK),
    }
    for name, (measure, work) in measures.items():
        values = []
        for n in lengths:
            values.append(1e6 * measure(n))
            print(f"{name}, {n} pieces: {values[-1]:,.0f} µs a token", flush=True)
        a, b = fit(lengths, values)
        result[name] = {"microseconds": values, "a": a, "b": b, "even": a / b, "gflops": work / b / 1e3}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.output / "result.md").write_text(table(result), encoding="utf-8")
    plot(result, options.output / "result.svg")
    print(table(result), end="")


if __name__ == "__main__":
    main()
