"""The attention family on one corpus: BLEU with its interval, and by length; alignment error, speed, memory.

Every system of configs/attention is trained by ``mt train`` in a process of its own that has one core, and then
translates the test set. What is finished is not done again: a new call goes on with what is left, and two with other
cores share the work when each is given its own systems. The alignment error is that of the layer and head that are best
on the validation set, where the corpus has ``.align`` files. Left in runs/bench-family: the figures as JSON, a table of
those that were asked for, and a plot of their BLEU against the length of sentences. `make bench-family` runs it on the
project's own corpus.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.drawing import panels, save
from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data.prepare import evaluation_set
from transformer_mt.errors import ConfigError
from transformer_mt.evaluate import bleu_metric, confidence
from transformer_mt.experiment.align import gold_rates
from transformer_mt.report.analysis import bands, words
from transformer_mt.rundir import RunDirectory
from transformer_mt.translate import Translator, Wanted

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = {path.stem: path for path in sorted((ROOT / "configs" / "attention").glob("*.yaml"))}
_BANDS = 6  # of sentence length; the last one has the long sentences
_COLUMNS = ("system", "parameters, M", "steps", "BLEU", "BLEU, long", "AER", "trains, tokens/s", "memory, MB",
            "translates, tokens/s")  # fmt: skip


def overrides(options: argparse.Namespace, name: str) -> list[str]:
    """What differs from the shipped configuration."""
    run = f"run_dir={options.folder / name}"
    if options.corpus is None:
        return [run, *options.set]
    source, target = options.languages.split("-")
    files = {split: f"{{source: {options.corpus / text}.{source}, target: {options.corpus / text}.{target}}}"
             for split, text in (("train", "train"), ("valid", options.valid), ("test", options.test))}  # fmt: skip
    return [run, f"languages={{source: {source}, target: {target}}}",
            *(f"data.{split}={given}" for split, given in files.items()), *options.set]  # fmt: skip


def train(name: str, given: list[str]) -> float:
    """Train a system to its end, going on with what there is of it; the process's peak memory in MB."""
    command = ["train", str(SYSTEMS[name]), *(word for key in given for word in ("--set", key))]
    resume = ["--resume"] if RunDirectory(Path(load_config(SYSTEMS[name], given).run_dir)).holds_run() else []
    process = subprocess.Popen([sys.executable, "-m", "transformer_mt", *command, *resume])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: mt train ended with code {process.returncode}")
    return used.ru_maxrss / 1024


def tell(name: str, config: Config) -> dict[str, Any]:
    """What is known of a trained system."""
    paths, target = RunDirectory(Path(config.run_dir)), config.languages.target
    translator = Translator.from_config(config)
    lines, references = evaluation_set(paths.data, "test")
    begun = time.process_time()
    found = [best for best, *_ in translator.stream(lines, Wanted(tokens=True))]
    seconds = time.process_time() - begun
    texts = [best.text for best in found]
    lengths = [len(words(line, config.languages.source)) for line in lines]
    metric = bleu_metric(target)

    def bleu(rows: Sequence[int]) -> float:
        score = metric.corpus_score([texts[n] for n in rows], [[gold[n] for n in rows] for gold in references])
        return float(score.score)

    events = [json.loads(line) for line in paths.metrics.read_text(encoding="utf-8").splitlines()]
    steps = [event for event in events if event["event"] == "train"]
    return {
        "system": name,
        "parameters": sum(weight.numel() for weight in translator.model.parameters()),
        "steps": steps[-1]["step"],
        "bleu": bleu(range(len(texts))),
        "interval": confidence(texts, references, target)["bleu"][1],
        "bands": [
            {"words": [band.low, band.high], "sentences": len(band.rows), "bleu": bleu(band.rows)}
            for band in bands(lengths, _BANDS)
        ],
        "alignment_error_rate": alignment_error(translator, config),
        "trains": statistics.median(event["target_tokens_per_second"] for event in steps),
        "translates": sum(len(best.tokens or ()) for best in found) / seconds,
    }


def alignment_error(translator: Translator, config: Config) -> float | None:
    """That of the best layer and head, told by the validation set; None without links or attention."""
    rates = {}
    for split in ("valid", "test"):
        [source] = config.data.sets(split).values()
        files = [Path(str(source.source)), Path(str(source.target)), Path(str(source.target)).with_suffix(".align")]
        if not files[-1].is_file():
            return None
        try:
            _, rates[split] = gold_rates(config, translator, *files)
        except ConfigError:  # of a model without attention
            return None
    return chosen(rates)


def chosen(rates: dict[str, list[list[float]]]) -> float:
    """Of the error rates of layers and heads, that of the best on the validation set in the test set."""
    _, layer, head = min((rate, n, m) for n, row in enumerate(rates["valid"]) for m, rate in enumerate(row))
    return rates["test"][layer][head]


def table(results: list[dict[str, Any]]) -> str:
    """The figures in Markdown, the best BLEU first."""
    rows = [
        (
            result["system"],
            f"{result['parameters'] / 1e6:.2f}",
            f"{result['steps']:,}",
            f"{result['bleu']:.1f} ± {result['interval']:.1f}",
            f"{result['bands'][-1]['bleu']:.1f}",
            "" if (rate := result["alignment_error_rate"]) is None else f"{rate:.2f}",
            f"{result['trains']:,.0f}",
            f"{result['peak_mb']:,.0f}",
            f"{result['translates']:,.0f}",
        )
        for result in sorted(results, key=lambda result: -result["bleu"])
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (_COLUMNS, ("---", *["---:"] * 8), *rows))


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw BLEU against the length of sentences, a line a system."""
    if not (drawn := panels(1, 7, 4)):
        return
    [panel] = drawn
    for result in sorted(results, key=lambda result: -result["bleu"]):
        panel.plot([band["bleu"] for band in result["bands"]], "o-", markersize=4, label=result["system"])
    ranges = ["–".join(str(n) for n in dict.fromkeys(band["words"])) for band in results[0]["bands"]]
    panel.set_xticks(range(len(ranges)), ranges)
    panel.set_xlabel("words of the source sentence")
    panel.set_ylabel("BLEU")
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8, frameon=False)
    save(panel, path)


def main() -> None:
    """Train and tell what is left of the systems, and print the table of those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="all of configs/attention when left out")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-family"))
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="another corpus: train.LANGUAGE and so on")
    parser.add_argument("--languages", default="de-en")
    parser.add_argument("--valid", default="valid", metavar="NAME", help="of that corpus's validation files")
    parser.add_argument("--test", default="test", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of mt train; repeatable")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.systems) - set(SYSTEMS):
        parser.error(f"{', '.join(unknown)}: unknown; choose from {', '.join(SYSTEMS)}")
    os.sched_setaffinity(0, {options.core})
    os.environ["OMP_NUM_THREADS"] = "1"  # of training, a process of its own
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in options.systems or SYSTEMS:
        path = options.folder / f"{name}.json"
        if not path.exists():
            given = overrides(options, name)
            peak = train(name, given)
            known = {**tell(name, load_config(SYSTEMS[name], given)), "peak_mb": peak}
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        results.append(json.loads(path.read_text(encoding="utf-8")))
    text = table(results)
    (options.folder / "table.md").write_text(text + "\n", encoding="utf-8")
    plot(results, options.folder / "lengths.svg")
    print(text)


if __name__ == "__main__":
    main()
