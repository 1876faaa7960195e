"""What the plots of benchmarks have in common."""

from pathlib import Path
from typing import Any


def panels(count: int, width: float, height: float) -> list[Any]:
    """The panels of a new figure, side by side; none, with a word about it, where Matplotlib is not installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("no plot, for Matplotlib is not installed: pip install matplotlib")
        return []
    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    _, axes = plt.subplots(1, count, figsize=(width, height), layout="constrained", squeeze=False)
    for panel in axes[0]:
        panel.spines[["top", "right"]].set_visible(False)
    return list(axes[0])


def save(panel: Any, path: Path) -> None:
    """Write the figure of a panel; the same figure is the same file, whatever the day."""
    panel.figure.savefig(path, metadata={"Date": None})
