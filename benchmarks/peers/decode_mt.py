"""Translate with ``mt``; its model is kept from ending sentences, and its limit of length is set."""

import argparse
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.never_ending import never_ending
from benchmarks.peers.meter import decode
from benchmarks.peers.work import OUTPUT_TOKENS, Work
from transformer_mt.translate import Translator


def main() -> None:
    """Translate until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision")
    parser.add_argument("seconds", type=float)
    parser.add_argument("batch", type=int)
    parser.add_argument("beam", type=int)
    options = parser.parse_args()
    work = Work.load(options.folder)
    overrides = {"precision": options.precision, "batch_size": options.batch, "beam_size": options.beam}
    translator = Translator.load(
        options.folder / "weights", "last", [f"decoding.{key}={value}" for key, value in overrides.items()]
    )
    lengths: list[int] = []
    decode_target = translator.tokenizer.decode_target

    def counted(ids: Any) -> str:
        lengths.append(len(ids))
        return decode_target(ids)

    def translate(lines: list[str]) -> tuple[list[str], list[int]]:
        lengths.clear()
        return translator.translate(lines), list(lengths)

    with (
        never_ending(translator.packed, OUTPUT_TOKENS),
        mock.patch.object(translator.tokenizer, "decode_target", counted),
    ):
        decode(translate, work.sentences(options.batch), options.batch, options.seconds)


if __name__ == "__main__":
    main()
