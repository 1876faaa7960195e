"""What grows with the corpus: 0.2, 2 and 20 million pairs, drawn from a small one, are tokenized and trained on.

`mt tokenize` and `mt train` run as a user runs them. Training starts on a finished store, and its memory that is not
of files (RssAnon) is read from /proc, so this is for Linux. A table, the figures as JSON and, with Matplotlib, a plot
are left in runs/bench-scale; corpora and stores, 0.6 GB for a million pairs, are deleted.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MT = [sys.executable, "-m", "transformer_mt"]
COLUMNS = {
    "pairs": "pairs",
    "tokenize_seconds": "tokenize s",
    "tokenize_pairs_per_second": "pairs/s",
    "tokenize_cpu_seconds": "CPU s",
    "tokenize_peak_mb": "peak MB of a process",
    "store_mb": "store MB",
    "first_update_seconds": "s to first update",
    "first_update_cpu_seconds": "CPU s",
    "first_update_anonymous_mb": "RssAnon MB then",
    "anonymous_mb": "at the end",
    "peak_mb": "VmHWM MB",
    "tokens_per_second": "tokens/s",
}


def draw(files: tuple[Path, Path], pairs: int, folder: Path) -> tuple[Path, Path]:
    """Write pairs drawn from a corpus, each with a number of its own, so that none is a duplicate."""
    lines = [path.read_text(encoding="utf-8").removesuffix("\n").split("\n") for path in files]
    chance, drawn = random.Random(1), (folder / "train.source", folder / "train.target")
    with drawn[0].open("w", encoding="utf-8") as source, drawn[1].open("w", encoding="utf-8") as target:
        for number in range(pairs):
            row = chance.randrange(len(lines[0]))
            source.write(f"{lines[0][row]} {number}\n")
            target.write(f"{lines[1][row]} {number}\n")
    return drawn


def settings(languages: str, train: tuple[Path, Path], few: tuple[Path, Path], run: Path, steps: int) -> dict[str, Any]:
    """The configuration of a run; validation, which is not measured, has a few pairs."""
    evaluation = dict(zip(("source", "target"), map(str, few), strict=True))
    return {
        "languages": dict(zip(("source", "target"), languages.split("-"), strict=True)),
        "data": {
            "train": dict(zip(("source", "target"), map(str, train), strict=True)),
            "valid": evaluation,
            "test": evaluation,
        },
        "tokenizer": {"vocab_size": 8000},
        "model": "tiny",
        "training": {"batch_tokens": 4096, "max_steps": steps, "warmup_steps": steps, "log_every": 1, "average": False},
        "device": "cpu",
        "run_dir": str(run),
    }


def tokenize(config: Path, run: Path, pairs: int) -> dict[str, float]:
    """Seconds, pairs a second, memory and the size of the store."""
    begun = time.perf_counter()
    process = subprocess.Popen([*MT, "tokenize", str(config)])
    _, status, usage = os.wait4(process.pid, 0)  # with its processes
    seconds = time.perf_counter() - begun
    if status != 0:
        raise SystemExit("mt tokenize failed")
    return {
        "tokenize_seconds": seconds,
        "tokenize_pairs_per_second": pairs / seconds,
        "tokenize_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "tokenize_peak_mb": usage.ru_maxrss / 1024,
        "store_mb": sum(path.stat().st_size for path in (run / "data").iterdir()) / 1e6,
    }


def memory(process: int) -> dict[str, float]:
    """The memory of a process in MB, by the names of /proc/PID/status."""
    lines = (line.split() for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[-1] == "kB"}


def cpu_seconds(process: int) -> float:
    """The time on all cores that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # fields 14 and 15 of the whole line


def events(metrics: Path) -> list[dict[str, Any]]:
    """The training lines so far, whole ones."""
    lines = metrics.read_text(encoding="utf-8").split("\n")[:-1] if metrics.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == "train"]


def train(config: Path, run: Path, steps: int) -> dict[str, float]:
    """Seconds from the command to the first update, and the memory of the process then and after the last."""
    begun = time.perf_counter()
    process = subprocess.Popen([*MT, "train", str(config)], stderr=subprocess.DEVNULL)
    wait_for_update(process, run, 1)
    seconds, cpu, first = time.perf_counter() - begun, cpu_seconds(process.pid), memory(process.pid)
    wait_for_update(process, run, steps)
    last = memory(process.pid)
    if process.wait() != 0:
        raise SystemExit("mt train failed")
    return {
        "first_update_seconds": seconds,
        "first_update_cpu_seconds": cpu,
        "first_update_anonymous_mb": first["RssAnon"],
        "anonymous_mb": last["RssAnon"],
        "peak_mb": last["VmHWM"],
        "tokens_per_second": statistics.median(e["target_tokens_per_second"] for e in events(run / "metrics.jsonl")),
    }


def wait_for_update(process: subprocess.Popen[bytes], run: Path, step: int) -> None:
    """Wait until an update is logged."""
    while len(events(run / "metrics.jsonl")) < step:
        if process.poll() is not None:
            raise SystemExit("mt train failed")
        time.sleep(0.02)


def measure(options: argparse.Namespace, pairs: int, tokenizer: Path | None) -> dict[str, float]:
    """All figures of a corpus of so many pairs, by a tokenizer that is there, or else is learnt."""
    folder = options.folder / f"{pairs}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        files = options.source, options.target
        drawn, few, run = draw(files, pairs, folder), (folder / "few.source", folder / "few.target"), folder / "run"
        for path, text in zip(few, files, strict=True):
            path.write_text("".join(text.read_text(encoding="utf-8").splitlines(keepends=True)[:5]), encoding="utf-8")
        tree, config = settings(options.languages, drawn, few, run, options.steps), folder / "config.yaml"
        if tokenizer is not None:
            tree["tokenizer"] = {"from": str(tokenizer)}
        config.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
        figures = {"pairs": pairs, **tokenize(config, run, pairs)}
        if tokenizer is None:
            shutil.rmtree(options.folder / "tokenizer", ignore_errors=True)
            shutil.copytree(run, options.folder / "tokenizer")
            return figures
        return {**figures, **train(config, run, options.steps)}
    finally:
        shutil.rmtree(folder)


def table(results: list[dict[str, float]]) -> str:
    """The figures as Markdown."""
    rows = [[f"{row[key]:,.1f}" if row[key] < 100 else f"{row[key]:,.0f}" for key in COLUMNS] for row in results]
    lines = [list(COLUMNS.values()), ["---:"] * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plot(results: list[dict[str, float]], path: Path) -> None:
    """Draw the figures by the number of pairs."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: pip install 'transformer_mt[bench]'", file=sys.stderr)
        return
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    drawn = {
        "tokenizing, seconds": ("log", ["tokenize_seconds", "tokenize_cpu_seconds"]),
        "from the command to the first update, seconds": ("linear", ["first_update_seconds"]),
        "memory of training, MB": ("linear", ["first_update_anonymous_mb", "anonymous_mb"]),
    }
    for axes, (title, (scale, keys)) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
        for key in keys:
            axes.plot([row["pairs"] for row in results], [row[key] for row in results], "o-", label=COLUMNS[key])
        axes.set(title=title, xlabel="pairs", xscale="log", yscale=scale)
        if scale == "linear":
            axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure each size; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT / "data" / "train.en", help="text to draw from")
    parser.add_argument("--target", type=Path, default=ROOT / "data" / "train.de", help="its translation")
    parser.add_argument("--languages", default="en-de", help="their codes")
    parser.add_argument("--pairs", type=int, nargs="+", default=[200_000, 2_000_000, 20_000_000])
    parser.add_argument("--steps", type=int, default=100, help="updates of the weights")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench-scale", help="where to work")
    options = parser.parse_args()
    learnt = measure(options, min(options.pairs), None)
    results = []
    for pairs in options.pairs:
        results.append(measure(options, pairs, options.folder / "tokenizer"))
        learning = learnt["tokenize_seconds"] - results[0]["tokenize_seconds"]
        text = table(results) + f"\nLearning the tokenizer from {min(options.pairs):,} pairs: {learning:.0f} s more.\n"
        (options.folder / "scale.md").write_text(text, encoding="utf-8")
        (options.folder / "scale.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    plot(results, options.folder / "scale.svg")
    print(text, end="")


if __name__ == "__main__":
    main()
