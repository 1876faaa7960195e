"""Draw the result as bars: speed in CPU-seconds, a panel for training and one for each search."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

_COLOURS = {"mt": "#c44e52", "eole": "#4c72b0", "hf": "#dd8452", "ctranslate2": "#55a868"}


def panel(axes: Any, title: str, results: list[dict[str, Any]]) -> None:
    """A bar for each engine and precision, the fastest on top; its label gives peak memory, too."""
    results = sorted(results, key=lambda result: float(result["tokens_per_cpu_second"]))
    names = [f"{result['engine']} {result['precision']}" for result in results]
    speeds = [result["tokens_per_cpu_second"] for result in results]
    bars = axes.barh(names, speeds, color=[_COLOURS[result["engine"]] for result in results])
    labels = [f"{result['tokens_per_cpu_second']:,.0f} ({result['peak_mb']:,.0f} MB)" for result in results]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.margins(x=0.3)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write ``result.svg`` and ``result.png`` beside ``result.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    panels: dict[str, list[dict[str, Any]]] = {}
    for result in summary["results"]:
        if result["task"] == "training":
            title = "training, target tokens / CPU-second"
        else:
            search = "greedy" if result["beam"] == 1 else f"beam {result['beam']}"
            title = f"decoding, batch {result['batch']}, {search}, output tokens / CPU-second"
        panels.setdefault(title, []).append(result)
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 2.4 * len(panels)), squeeze=False, layout="constrained")
    for place, (title, results) in zip(axes[:, 0], panels.items(), strict=True):
        panel(place, title, results)
    for kind in ("svg", "png"):
        figure.savefig(folder / f"result.{kind}", dpi=150)


if __name__ == "__main__":
    main()
