"""`mt` beside Eole, Hugging Face transformers and CTranslate2: the same work, in turn, on one core.

`make bench-peers` runs it; each engine is installed in an environment of its own under ``runs/bench-peers``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from operator import eq
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import safetensors.torch
import torch

from benchmarks.peers import venvs
from benchmarks.peers.report import check, markdown
from benchmarks.peers.work import (
    BATCH_TOKENS,
    CLIP_NORM,
    DROPOUT,
    FEED_FORWARD,
    HEADS,
    LABEL_SMOOTHING,
    LAYERS,
    WIDTH,
    Work,
)
from transformer_mt import ENVIRONMENT
from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Decoding
from transformer_mt.config_file import load_config
from transformer_mt.data.prepare import read_manifest
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.experiment.run import train
from transformer_mt.experiment.tokenization import tokenize
from transformer_mt.model.positions import sinusoids
from transformer_mt.strict_yaml import dump_yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "runs" / "bench-peers"
DECODING = {
    "mt": list(get_args(Decoding.model_fields["precision"].annotation)),
    "ctranslate2": ["float32", "int8"],
    "eole": ["float32", "bfloat16"],
    "hf": ["float32", "bfloat16"],
}
SAME_WEIGHTS = ("mt", "ctranslate2")  # in decoding; the others' are random
SEARCHES = [(64, 1), (64, 5), (1, 1), (1, 5)]  # batch, beam
MINUTES = 10  # after which a process is given up


class Job(NamedTuple):
    """What is measured once a turn."""

    task: str
    engine: str
    precision: str
    search: tuple[int, ...] = ()  # batch and beam, in decoding


JOBS = [
    *(Job("training", engine, precision) for engine in ("mt", "eole", "hf") for precision in ("float32", "bfloat16")),
    *(
        Job("decoding", engine, precision, search)
        for search in SEARCHES
        for engine, precisions in DECODING.items()
        for precision in precisions
    ),
]


def prepare(corpus: Path, source: str, target: str, test: str, vocabulary: int | None) -> Work:
    """Tokenize the corpus, which is done again only when it changes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    config, run = FOLDER / "mt.yaml", FOLDER / "mt"
    files = {split: {side: str(corpus / f"{name}.{code}") for side, code in (("source", source), ("target", target))}
             for split, name in (("train", "train"), ("test", test))}  # fmt: skip
    settings = {
        "languages": {"source": source, "target": target},
        "data": files,
        "tokenizer": {} if vocabulary is None else {"vocab_size": vocabulary},
        "model": {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "feed_forward": FEED_FORWARD, "dropout": DROPOUT},
        "training": {
            "batch_tokens": BATCH_TOKENS,
            "label_smoothing": LABEL_SMOOTHING,
            "clip_norm": CLIP_NORM,
            "save_every": 1_000_000,
            "validate_every": 1_000_000,
            "max_steps": 1_000_000,
        },
        "run_dir": str(run),
    }
    config.write_text(dump_yaml(settings), encoding="utf-8")
    loaded = load_config(config)
    (run / "metrics.jsonl").unlink(missing_ok=True)  # of what was measured before: the store alone is used again
    tokenize(loaded)
    work = read_work(config, run)
    work.save(FOLDER)
    return work


def read_work(config: Path, run: Path) -> Work:
    """What `mt tokenize` has made of a configuration's corpus in ``run``."""
    tokenizer, manifest = Tokenizer.load(run / "tokenizer"), read_manifest(run / "data") or {}
    offsets = [np.load(run / "data" / f"train.{side}.offsets.npy", mmap_mode="r") for side in ("source", "target")]
    pairs = int(manifest["pairs"])
    return Work(
        str(config), str(run), tokenizer.target_size, pairs, *(int(side[-1] - side[0]) + pairs for side in offsets)
    )


def train_weights(work: Work) -> None:
    """Train a little, unless that is done: the beams of an untrained model do not compete, which flatters a search."""
    overrides = {
        "run_dir": FOLDER / "weights",
        "tokenizer": f"{{from: {work.run}}}",
        "training.batch_tokens": 1024,
        "training.max_steps": 150,
        "training.learning_rate": 2e-3,
        "training.warmup_steps": 50,
        "training.average": "false",
    }
    config = load_config(Path(work.config), [f"{key}={value}" for key, value in overrides.items()])
    tokenizer = Tokenizer.load(Path(work.run) / "tokenizer")
    checkpoints = Checkpoints(FOLDER / "weights" / "checkpoints")
    name = checkpoints.newest()
    if name is None or checkpoints.manifest(name)["tokenizer"] != tokenizer.hashes:
        torch.set_num_threads(1)  # two would wait for each other on the one core that this process may use
        train(config, resume=False, overwrite=(FOLDER / "weights").exists(), started=time.monotonic())
    weights = checkpoints.weights(checkpoints.resolve("last"))
    safetensors.torch.save_file({**weights, "positions": sinusoids(512, WIDTH)}, FOLDER / "model.safetensors")


def environment() -> dict[str, str]:
    """Of a worker: one thread, no network, and nothing of what our package has set for itself when it was imported."""
    inherited = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**inherited, **threads, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def measure(engine: str, module: str, *arguments: object) -> dict[str, Any]:
    """Run a worker in its engine's environment; its last line is the result. What it says else goes to a log."""
    log = FOLDER / "logs" / "-".join([module, *map(str, arguments)])
    log.parent.mkdir(exist_ok=True)
    command = [str(venvs.python(engine, FOLDER / "venvs")), "-m", f"benchmarks.peers.{module}", str(FOLDER)]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))}: failed; see {log}")
    return json.loads(lines[-1])  # type: ignore[no-any-return]


def take_turns(
    jobs: list[Job], count: int, seconds: float
) -> tuple[dict[Job, list[dict[str, Any]]], list[dict[str, Any]], list[str]]:
    """Measure all jobs in turn, ``count`` times: the results of each, the rates of products, and what failed."""
    turns: dict[Job, list[dict[str, Any]]] = defaultdict(list)
    products, failed = list[dict[str, Any]](), list[str]()
    for turn in range(count):
        products.append(measure("mt", "products"))
        for job in jobs:
            training = job.task == "training"
            module = f"{'train' if training else 'decode'}_{job.engine}"
            try:
                result = measure(job.engine, module, job.precision, seconds if training else seconds / 2, *job.search)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(str(error))
                print(f"failed: {error}", file=sys.stderr)
                continue
            turns[job].append(result)
            print(f"turn {turn + 1}: {job.task} {job.engine} {job.precision} {job.search or ''}: "
                  f"{result['tokens'] / result['cpu']:,.0f} tokens/CPU-s", file=sys.stderr)  # fmt: skip
    return turns, products, failed


def main() -> None:
    """Measure in turn, check that the work was equal, write table, JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=ROOT / "data", help="folder of train.* and test.*")
    parser.add_argument("--source", default="en", metavar="LANGUAGE", help="suffix of the source files (en)")
    parser.add_argument("--target", default="de", metavar="LANGUAGE", help="suffix of the target files (de)")
    parser.add_argument("--test", default="test", metavar="NAME", help="the test files are NAME.LANGUAGE (test)")
    parser.add_argument("--vocabulary", type=int, metavar="V", help="left out: as `mt` chooses, mostly 8000")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=20, help="of CPU time, of each measurement; half of it in decoding"
    )
    parser.add_argument("--only", choices=["training", "decoding"])
    parser.add_argument("--engines", default="mt,eole,hf,ctranslate2", help="all: mt,eole,hf,ctranslate2")
    parser.add_argument("--core", type=int, help="to run on; left out: the last that this process may use")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if options.core is None else options.core})
    engines = options.engines.split(",")
    for engine in [*engines, "plot"]:
        venvs.python(engine, FOLDER / "venvs")
    work = prepare(options.corpus.resolve(), options.source, options.target, options.test, options.vocabulary)
    if options.only != "training":
        train_weights(work)
    tasks = ("training", "decoding") if options.only is None else (options.only,)
    jobs = [job for job in JOBS if job.task in tasks and job.engine in engines]
    turns, products, failed = take_turns(jobs, options.turns, options.seconds)
    summary = {
        "work": vars(work),
        "options": {key: str(value) for key, value in vars(options).items()},
        "gigaflops": {
            precision: statistics.median(result[precision] for result in products) / 1e9
            for precision in ("float32", "bfloat16")
        },
        "flops_per_target_token": work.flops,
        "results": [
            summarise(job, results, turns.get(job._replace(engine="mt", precision="float32"), ()))
            for job, results in turns.items()
        ],
    }
    (FOLDER / "result.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table = markdown(summary)
    (FOLDER / "result.md").write_text(table, encoding="utf-8")
    print(table)
    plot = [str(venvs.python("plot", FOLDER / "venvs")), "-m", "benchmarks.peers.plot", str(FOLDER)]
    subprocess.run(plot, cwd=ROOT, check=True)
    faults = [f"FAILED: {line}" for line in failed] + [f"UNEQUAL: {line}" for line in check(summary, work)]
    print("\n".join(faults) or "The work was equal: parameters, tokens, sentences and lengths of output.")
    sys.exit(bool(faults))


def summarise(job: Job, turns: list[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The medians of the turns, and the turns; in decoding the share of texts that are those of ``reference``, too."""
    summary = {
        "task": job.task,
        "engine": job.engine,
        "precision": job.precision,
        **dict(zip(("batch", "beam"), job.search, strict=False)),
        "tokens_per_cpu_second": statistics.median(turn["tokens"] / turn["cpu"] for turn in turns),
        "tokens_per_second": statistics.median(turn["tokens"] / turn["wall"] for turn in turns),
        "peak_mb": statistics.median(turn["peak_mb"] for turn in turns),
    }
    if job.task == "decoding":
        texts = turns[-1]["texts"]
        summary["sentences"] = len(texts)
        if reference and job.engine in SAME_WEIGHTS:
            summary["same"] = sum(map(eq, texts, reference[-1]["texts"])) / len(texts)
    return {**summary, "turns": [{name: turn[name] for name in turn if name != "texts"} for turn in turns]}


if __name__ == "__main__":
    main()
