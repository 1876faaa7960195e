"""Train with ``eole train`` itself; only its updates are watched."""

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import sentencepiece
from eole.bin.main import main as eole
from eole.trainer import Trainer

from benchmarks.peers.meter import Window
from benchmarks.peers.work import (
    BATCH_TOKENS,
    CLIP_NORM,
    DROPOUT,
    FEED_FORWARD,
    HEADS,
    LABEL_SMOOTHING,
    LAYERS,
    LEARNING_RATE,
    WIDTH,
    Work,
)


def write_corpus(work: Work, folder: Path) -> int:
    """Write the pieces of the training text as words, ``source``, ``target`` and ``vocabulary``; return the pairs."""
    folder.mkdir(exist_ok=True)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)
    pieces = [tokenizer.id_to_piece(number) for number in range(work.vocabulary)]
    (folder / "vocabulary").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    pairs = 0
    for side in ("source", "target"):
        lines = [" ".join(pieces[number] for number in ids) for ids in work.ids(side)]
        (folder / side).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pairs = len(lines)
    return pairs


def configuration(folder: Path, precision: str) -> dict[str, Any]:
    """The configuration of Eole for the work."""
    return {
        "seed": 1,
        "share_vocab": True,
        "src_vocab": str(folder / "vocabulary"),
        "vocab_size_multiple": 1,
        "data": {"corpus": {"path_src": str(folder / "source"), "path_tgt": str(folder / "target")}},
        "model": {
            "architecture": "transformer",
            "layers": LAYERS,
            "hidden_size": WIDTH,
            "heads": HEADS,
            "transformer_ff": FEED_FORWARD,
            "add_qkvbias": True,
            "add_final_linear_bias": True,
            "add_ffnbias": True,
            "share_embeddings": True,
            "share_decoder_embeddings": True,
            "embeddings": {
                "word_vec_size": WIDTH,
                "position_encoding": True,
                "position_encoding_type": "SinusoidalInterleaved",
            },
        },
        "training": {
            "model_path": str(folder / "model"),
            "compute_dtype": {"float32": "fp32", "bfloat16": "bf16"}[precision],
            "batch_type": "tokens",
            "batch_size": BATCH_TOKENS,
            "normalization": "tokens",
            "num_workers": 0,  # else batches are made in processes that are not measured
            "optim": "adam",
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": CLIP_NORM,
            "label_smoothing": LABEL_SMOOTHING,
            "dropout": [DROPOUT],
            "attention_dropout": [0.0],
            "param_init_method": "xavier_uniform",
            "log_attention_entropy": False,
            "train_steps": 1_000_000,
        },
    }


def main() -> None:
    """Train until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    work, update = Work.load(options.folder), Trainer._process_accumulated_batches
    folder = options.folder / "eole"
    pairs, window = write_corpus(work, folder), None

    def watched(trainer: Any, batches: list[dict[str, Any]], *arguments: Any) -> None:
        nonlocal window
        if window is None:
            parameters = sum(p.numel() for p in trainer.model.parameters())
            window = Window(options.seconds, parameters=parameters, pairs=pairs)
        update(trainer, batches, *arguments)
        padding = trainer.train_loss.padding_idx
        window.update(sum(int((batch["tgt"][:, 1:] != padding).sum()) for batch in batches))

    file = folder / "config.json"  # JSON is YAML
    file.write_text(json.dumps(configuration(folder, options.precision)), encoding="utf-8")
    with (
        mock.patch.object(Trainer, "_process_accumulated_batches", watched),
        mock.patch("sys.argv", ["eole", "train", "-config", str(file)]),
    ):
        eole()


if __name__ == "__main__":
    main()
