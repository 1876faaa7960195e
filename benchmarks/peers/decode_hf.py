"""Translate with ``generate`` of Hugging Face transformers; the weights are random."""

import argparse
from pathlib import Path

import sentencepiece
import torch

from benchmarks.peers.meter import decode
from benchmarks.peers.train_hf import make_model, padded
from benchmarks.peers.work import EOS, OUTPUT_TOKENS, PAD, Work


def main() -> None:
    """Translate until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("seconds", type=float)
    parser.add_argument("batch", type=int)
    parser.add_argument("beam", type=int)
    options = parser.parse_args()
    work = Work.load(options.folder)
    model = make_model(work).to(getattr(torch, options.precision)).eval()
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)

    @torch.inference_mode()
    def translate(lines: list[str]) -> tuple[list[str], list[int]]:
        ids = [[*line, EOS] for line in tokenizer.encode(lines)]
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        texts, lengths = [""] * len(ids), list[int]()
        for start in range(0, len(order), options.batch):
            numbers = order[start : start + options.batch]
            source = padded([ids[number] for number in numbers], PAD)
            output = model.generate(  # type: ignore[operator]
                input_ids=source,
                attention_mask=source.ne(PAD).long(),
                num_beams=options.beam,
                do_sample=False,
                min_new_tokens=OUTPUT_TOKENS,
                max_new_tokens=OUTPUT_TOKENS,
            )[:, 1:]
            for number, text in zip(numbers, tokenizer.decode(output.tolist()), strict=True):
                texts[number] = text
            lengths += output.ne(PAD).sum(1).tolist()
        return texts, lengths

    decode(translate, work.sentences(options.batch), options.batch, options.seconds)


if __name__ == "__main__":
    main()
