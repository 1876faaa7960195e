"""How fast `mt` trains and decodes here, on one core: own corpus, 3+3 layers of width 256. `make bench` runs it.

Training is the real step: batches, forward and backward pass, clipping, optimizer. In decoding every translation has
14 tokens. The share is of the machine's own rate of matrix products, measured in the same run, in the model's products
(6 operations a weight and token in training; element-wise work and attention's own products are left out).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from benchmarks.never_ending import never_ending
from benchmarks.peers.products import rate as rate_of_products
from transformer_mt.config import Config, Transformer
from transformer_mt.config_file import load_config
from transformer_mt.data.batching import Batches, Position
from transformer_mt.data.fingerprint import fingerprint
from transformer_mt.data.prepare import evaluation_set, prepare
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.training.trainer import Tally, Trainer
from transformer_mt.translate import Translator, make_model

ROOT = Path(__file__).resolve().parents[1]
MODEL = "{size: tiny, layers: 3, width: 256, heads: 4, feed_forward: 1024, dropout: 0.1}"
LENGTH = 14  # tokens of a translation, end token included
JOBS = [("train", p) for p in ("float32", "bfloat16")] + [
    (f"decode {batch} {beam}", p)
    for batch, beam in ((64, 1), (64, 5), (1, 1), (1, 5))
    for p in ("float32", "bfloat16", "int8")
]


def operations(config: Config, store: Store, vocabulary: int) -> float:
    """Floating-point operations of training, a target token."""
    assert isinstance(config.model, Transformer)
    m, ratio = config.model, (store.source.offsets[-1] + len(store)) / (store.target.offsets[-1] + len(store))
    square, feed_forward = m.width**2, 2 * m.width * m.feed_forward
    encoder = m.layers * (4 * square + feed_forward + 2 * square)  # and keys and values of cross-attention
    return float(6 * (ratio * encoder + m.layers * (6 * square + feed_forward) + vocabulary * m.width))


def train(config: Config, store: Store, tokenizer: Tokenizer, seconds: float) -> dict[str, Any]:
    """Target tokens a CPU-second, after a warm-up of five steps."""
    batches = Batches(store, config.training.batch_tokens, config.training.device_tokens, seed=1)
    unused = cast(Any, SimpleNamespace())
    trainer = Trainer(make_model(config.model, tokenizer).train(), batches, config.training, unused, unused,
                      lambda go_on: unused, seed=1, about={}, started=time.monotonic())  # fmt: skip
    tally, begun = Tally(), 0.0
    for step, (buckets, _) in enumerate(batches.walk(Position()), start=1):
        trainer.update(buckets, step, tally)
        if step == 5:
            tally, begun = Tally(), time.process_time()
        if step > 5 and time.process_time() - begun > seconds:
            break
    rate = tally.tokens / (time.process_time() - begun)
    share = rate * operations(config, store, tokenizer.target_size) / rate_of_products(trainer.model.precision)
    return {"tokens_per_cpu_second": rate, "share": share}


def decode(config: Config, tokenizer: Tokenizer, lines: list[str], seconds: float) -> dict[str, Any]:
    """Output tokens a CPU-second."""
    translator = Translator(make_model(config.model, tokenizer).eval(), tokenizer, config.decoding, torch.device("cpu"))
    size, tokens = config.decoding.batch_size, 0
    parts = [lines[i : i + size] for i in range(0, 320, size)]
    with never_ending(translator.packed, LENGTH):
        translator.translate(parts[0])
        begun = time.process_time()
        for part in parts * 100:
            translator.translate(part)
            tokens += LENGTH * len(part)
            if time.process_time() - begun > seconds:
                break
    return {"tokens_per_cpu_second": tokens / (time.process_time() - begun)}


def measure(directory: Path, job: str, precision: str, seconds: float) -> dict[str, Any]:
    """One figure, in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    _, *search = job.split()
    batch, beam = map(int, search or (64, 1))
    config = load_config(ROOT / "configs" / "demo.yaml", [f"model={MODEL}", "training.device_tokens=4096",
        "training.batch_tokens=4096", f"decoding.batch_size={batch}", f"decoding.beam_size={beam}",
        f"{'decoding' if search else 'training'}.precision={precision}"])  # fmt: skip
    tokenizer = Tokenizer.load(directory / "tokenizer")
    if search:
        result = decode(config, tokenizer, evaluation_set(directory / "data", "test")[0], seconds)
    else:
        result = train(config, Store(directory / "data"), tokenizer, seconds)
    return {"job": job, "precision": precision, **result,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip


def main() -> None:
    """Print a line for each figure, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="CPU-seconds of each figure; 15 in training")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        directory, job, precision = options.measure
        print(json.dumps(measure(Path(directory), job, precision, options.seconds)))
        return
    config = load_config(ROOT / "configs" / "demo.yaml")
    with tempfile.TemporaryDirectory() as folder:
        prepare(config, fingerprint(config), Path(folder, "tokenizer"), Path(folder, "data"))
        print("| | precision | tokens a CPU-second | share of products | peak MB |\n|---|---|---:|---:|---:|")
        for job, precision in JOBS:
            seconds = options.seconds if job != "train" else options.seconds * 15 / 8
            given = ["--seconds", str(seconds), "--measure", folder, job, precision]
            command = [sys.executable, "-m", "benchmarks.speed", *given]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout)
            share = f"{found['share']:.0%}" if "share" in found else ""
            what = "training" if job == "train" else "decoding, batch {1}, beam {2}".format(*job.split())
            print(f"| {what} | {precision} | {found['tokens_per_cpu_second']:,.0f} | {share} "
                  f"| {found['peak_mb']:,.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
