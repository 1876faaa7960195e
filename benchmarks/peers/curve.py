"""Minutes to quality: `mt train` and Hugging Face transformers, one after the other.

Validation BLEU against wall-clock time from the start of each command. Both have the settings of a configuration of
`mt`, and run as one process a core, by torchrun; the other's tokenization is done for it. `make bench-bleu CORPUS=DIR`
runs it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import run, venvs
from transformer_mt.config_file import load_config
from transformer_mt.experiment.tokenization import tokenize

FOLDER = run.ROOT / "runs" / "bench-bleu"
Point = dict[str, float]  # minutes, step, bleu
_NAMES = {"mt": "mt", "hf": "HF transformers"}


def settings(config: Path, corpus: Path, valid: str, every: int) -> list[str]:
    """What is set of the configuration: the files, and a run that ends when it is told to."""
    languages = load_config(config).languages
    codes = {"source": languages.source, "target": languages.target}
    validation = {side: str(corpus / f"{valid}.{code}") for side, code in codes.items()}
    changes = {
        "data.train": {side: str(corpus / f"train.{code}") for side, code in codes.items()},
        "data.valid": validation,
        "data.test": validation,  # not used: but without one, some of the training text would be held out
        "training.validate_every": every,
        "training.log_every": 10,
        "training.max_minutes": None,
        "training.max_steps": 1_000_000,
        "training.patience": None,
    }
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def watch(command: list[str], folder: Path, bleu: float, minutes: float) -> list[Point]:
    """Run a command until a validation in ``folder/metrics.jsonl`` has that BLEU or the time is over."""
    metrics, curve, log = folder / "metrics.jsonl", list[Point](), folder.with_suffix(".log")
    started = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, cwd=run.ROOT, env=run.environment(), stdout=file, stderr=file) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(0.5)
                passed = (time.monotonic() - started) / 60
                lines = metrics.read_text(encoding="utf-8").split("\n")[:-1] if metrics.exists() else []
                for event in [event for event in map(json.loads, lines) if event["event"] == "valid"][len(curve) :]:
                    curve.append({"minutes": passed, "step": event["step"], "bleu": event["bleu"]})
                    print(f"{folder.name}: {passed:.2f} minutes, step {event['step']:,}, "
                          f"BLEU {event['bleu']:.2f}", file=sys.stderr)  # fmt: skip
                if passed >= minutes or (curve and curve[-1]["bleu"] >= bleu):
                    return curve
        finally:
            process.terminate()
    raise RuntimeError(f"the command ended by itself; see {log}")


def reached(curve: list[Point], bleu: float) -> float | None:
    """The minutes to that BLEU, on a straight line between the validations before and after; None if it never was."""
    before: Point = {"minutes": 0.0, "bleu": 0.0}
    for point in curve:
        if point["bleu"] >= bleu:
            share = (bleu - before["bleu"]) / (point["bleu"] - before["bleu"])
            return before["minutes"] + share * (point["minutes"] - before["minutes"])
        before = point
    return None


def markdown(results: dict[str, Any], bleu: float, cores: int) -> str:
    """A table, and the ratio."""
    lines = [
        f"| {cores} cores, from the start of the command | minutes to BLEU {bleu:g} | first validated there "
        "| updates | last BLEU, minutes |",
        "|---|---|---|---|---|",
    ]
    minutes = {engine: reached(result["curve"], bleu) for engine, result in results.items()}
    for engine, result in results.items():
        last, exact = result["curve"][-1], minutes[engine]
        end = f"{last['minutes']:.1f}"
        cells = (f"> {end}", "–") if exact is None else (f"{exact:.1f}", end)
        lines.append(f"| {_NAMES[engine]} | {' | '.join(cells)} | {last['step']:,} | {last['bleu']:.2f}, {end} |")
    if len(results) == 2 and minutes["mt"] is not None:
        theirs = minutes["hf"]
        ratio = minutes["mt"] / (theirs or results["hf"]["curve"][-1]["minutes"])
        lines += ["", f"mt needs {'' if theirs else 'less than '}{ratio:.0%} of the time."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train with each engine until the BLEU is reached; write table, JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of train.* and val.*")
    parser.add_argument("--config", type=Path, default=run.ROOT / "configs" / "multi30k_de_en.yaml")
    parser.add_argument("--valid", default="val", metavar="NAME", help="the validation files are NAME.LANGUAGE (val)")
    parser.add_argument("--bleu", type=float, default=37, help="where each stops (37)")
    parser.add_argument("--minutes", type=float, default=60, help="after which each is stopped (60)")
    parser.add_argument("--validate-every", type=int, default=300, metavar="UPDATES")
    parser.add_argument("--engines", default="mt,hf", help="both: mt,hf; of one left out the last result is shown")
    parser.add_argument("--cores", type=int, default=2, help="how many processes of one thread (2)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.cores]))
    interpreters = {engine: str(venvs.python(engine, run.FOLDER / "venvs")) for engine in ("mt", "hf", "plot")}
    changes = settings(options.config, options.corpus.resolve(), options.valid, options.validate_every)
    config = load_config(options.config, [*changes, f"run_dir={FOLDER / 'store'}"])
    tokenize(config)
    run.read_work(options.config, FOLDER / "store").save(FOLDER)
    sections = {"model": config.model.model_dump(), "training": config.training.model_dump()}
    overrides = [part for change in [*changes, f"run_dir={FOLDER / 'mt'}"] for part in ("--set", change)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.cores)]
    commands = {
        "mt": [*launcher, "-m", "transformer_mt", "train", str(options.config), *overrides],
        "hf": [*launcher, "-m", "benchmarks.peers.curve_hf", str(FOLDER), json.dumps(sections)],
    }
    for engine in options.engines.split(","):
        shutil.rmtree(FOLDER / engine, ignore_errors=True)
        curve = watch([interpreters[engine], *commands[engine]], FOLDER / engine, options.bleu, options.minutes)
        result = {"settings": sections, "curve": curve}
        (FOLDER / f"{engine}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    files = {engine: FOLDER / f"{engine}.json" for engine in _NAMES}
    results = {engine: json.loads(path.read_text(encoding="utf-8")) for engine, path in files.items() if path.exists()}
    summary = {
        "bleu": options.bleu,
        "cores": options.cores,
        "minutes": {engine: reached(result["curve"], options.bleu) for engine, result in results.items()},
        "results": results,
    }
    (FOLDER / "result.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table = markdown(results, options.bleu, options.cores)
    (FOLDER / "result.md").write_text(table, encoding="utf-8")
    print(table, end="")
    subprocess.run([interpreters["plot"], "-m", "benchmarks.peers.curve_plot", str(FOLDER)], cwd=run.ROOT, check=True)


if __name__ == "__main__":
    main()
