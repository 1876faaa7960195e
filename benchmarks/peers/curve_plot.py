"""Draw validation BLEU against minutes, a curve for each engine."""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

_LINES = {"mt": ("mt", "#c44e52"), "hf": ("HF transformers", "#dd8452")}


def main() -> None:
    """Write ``result.svg`` and ``result.png`` beside ``result.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.axhline(summary["bleu"], color="0.7", linewidth=1, linestyle="--")
    for engine, result in summary["results"].items():
        label, colour = _LINES[engine]
        minutes = [point["minutes"] for point in result["curve"]]
        axes.plot(minutes, [point["bleu"] for point in result["curve"]], "o-", label=label, color=colour, markersize=4)
    axes.set_xlabel(f"minutes from the start of the command, cores: {summary['cores']}")
    axes.set_ylabel("BLEU, greedy, validation set")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    for kind in ("svg", "png"):
        figure.savefig(folder / f"result.{kind}", dpi=150)


if __name__ == "__main__":
    main()
