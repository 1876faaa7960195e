"""Translate with Eole; the weights are those of one update of training."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import sentencepiece
from eole.config.run import PredictConfig
from eole.inference_engine import InferenceEnginePY

from benchmarks.peers.meter import decode
from benchmarks.peers.train_eole import configuration, write_corpus
from benchmarks.peers.work import OUTPUT_TOKENS, Work


def save_model(work: Work, folder: Path) -> None:
    """Let Eole train for one update and save, in a process of its own: it would count in the peak memory."""
    vocabulary, file = folder / "vocabulary", folder / "one-update.json"
    before = vocabulary.read_bytes() if (folder / "model" / "config.json").exists() else b""
    write_corpus(work, folder)
    if vocabulary.read_bytes() == before:
        return
    settings = configuration(folder, "float32")
    settings["training"] |= {"train_steps": 1, "save_checkpoint_steps": 1, "bucket_size": 4096}
    file.write_text(json.dumps(settings), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "eole.bin.main", "train", "-config", str(file)], check=True)


def main() -> None:
    """Translate until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("seconds", type=float)
    parser.add_argument("batch", type=int)
    parser.add_argument("beam", type=int)
    options = parser.parse_args()
    work, folder = Work.load(options.folder), options.folder / "eole"
    save_model(work, folder)
    config = PredictConfig(
        model_path=str(folder / "model"),
        src="",
        compute_dtype={"float32": "fp32", "bfloat16": "bf16"}[options.precision],
        batch_size=options.batch,
        beam_size=options.beam,
        min_length=OUTPUT_TOKENS,
        max_length=OUTPUT_TOKENS,
        max_length_ratio=0,
    )
    engine = InferenceEnginePY(config)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)

    def translate(lines: list[str]) -> tuple[list[str], list[int]]:
        _, _, best = engine.infer_list([" ".join(pieces) for pieces in tokenizer.encode(lines, out_type=str)])
        outputs = [hypotheses[0].split(" ") for hypotheses in best]
        return tokenizer.decode(outputs), [len(output) for output in outputs]

    decode(translate, work.sentences(options.batch), options.batch, options.seconds)


if __name__ == "__main__":
    main()
