"""A matrix of attention as a picture, by Matplotlib, in fonts that have the characters."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from transformer_mt.errors import ConfigError
from transformer_mt.terminal import visible, warn

_CELL = 0.3  # inches
_BAR = 0.15  # inches, the width of the scale and its distance
_FAMILY = "DejaVu Sans"  # comes with Matplotlib
_LAST_RESORT = "Last Resort"  # as well; its glyphs only say that one is missing
_SHOWN = 10  # characters that a warning names


def draw(source: Sequence[str], target: Sequence[str], weights: Tensor, title: str, path: Path) -> None:
    """Draw weights [T, S], a row a target word, into a PNG or SVG file; an SVG keeps text as text.

    Raises ConfigError where Matplotlib is not installed. Warns of characters that no installed font has; in a PNG they
    are drawn as boxes.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"--output {path}: pictures need Matplotlib, which is not installed; pip install 'transformer_mt[viz]'"
        ) from error
    source, target = [visible(word) for word in source], [visible(word) for word in target]
    families, missing = _fonts(set("".join([*source, *target])) - set("\u200b\u200c\u200d\u200e\u200f"))
    if missing and path.suffix == ".png":
        warn(f"{path}: no installed font has {' '.join(sorted(missing)[:_SHOWN])}; install one, or ask for .svg")
    width, height = _CELL * len(source), _CELL * len(target)
    with (
        matplotlib.rc_context({"font.family": families, "svg.fonttype": "none"}),
        warnings.catch_warnings(action="ignore", category=UserWarning),  # of each glyph that no font has
    ):
        figure = Figure(figsize=(width, height))
        axes, scale = figure.add_axes((0, 0, 1, 1)), figure.add_axes((1 + _BAR / width, 0, _BAR / width, 1))
        image = axes.imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(source)), source, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(len(target)), target, parse_math=False)
        axes.tick_params(length=0)
        axes.set_xlabel(title)
        figure.colorbar(image, cax=scale)
        figure.savefig(path, bbox_inches="tight", dpi=150)


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """Families of installed fonts that have the characters, few of them, and the characters that none has."""
    from matplotlib.font_manager import fontManager, get_font

    files = {font.name: font.fname for font in fontManager.ttflist if not font.name.startswith(_LAST_RESORT)}
    families, missing = [_FAMILY], characters - {chr(code) for code in get_font(files[_FAMILY]).get_charmap()}
    if missing:
        names = sorted(files, key=lambda name: ("Sans" not in name, name))
        has = {name: missing & {chr(code) for code in get_font(files[name]).get_charmap()} for name in names}
        while new := missing & has[best := max(names, key=lambda name: len(missing & has[name]))]:
            families.append(best)
            missing -= new
    return families, missing
