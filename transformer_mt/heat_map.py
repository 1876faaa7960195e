"""A matrix of attention as shaded cells on the terminal."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from torch import Tensor

from transformer_mt.data.writing import script
from transformer_mt.terminal import visible

_SHADES = " ░▒▓█"
_SHADED_FROM = (0.05, 0.25, 0.5, 0.75)  # the least weight of each shade but the first
LEGEND = "  ".join(f"{shade} from {least:.0%}" for shade, least in zip(_SHADES[1:], _SHADED_FROM, strict=True))
_LONGEST = 20  # cells of a word; a longer one is cut
_LEFT_TO_RIGHT = "\u200e"  # an invisible mark


def heat_map(source: Sequence[str], target: Sequence[str], weights: Tensor, width: int | None = None) -> Iterator[Text]:
    """The lines of a table of weights [T, S]: a row a target word, a column a source word, the strongest in yellow.

    What is wider than ``width`` cells goes on in further tables below.
    """
    columns, rows = [_label(word) for word in source], [_label(word) for word in target]
    margin = max(map(cell_len, rows), default=0)
    for first, last in _tables([cell_len(label) + 1 for label in columns], width and width - margin):
        if first:
            yield Text()
        yield _line(" " * margin, [Text(label) for label in columns[first:last]])
        for label, row in zip(rows, weights.tolist(), strict=True):
            cells = [
                Text(_shade(weight) * cell_len(columns[n]), "yellow" if weight == max(row) else "cyan")
                for n, weight in enumerate(row[first:last], start=first)
            ]
            yield _line(label + " " * (margin - cell_len(label)), cells)


def _tables(widths: list[int], room: int | None) -> Iterator[tuple[int, int]]:
    """The columns from one to another that find room beside each other, one at least."""
    ends = [0, *accumulate(widths)]
    first = 0
    while first < len(widths):
        last = first + 1
        while last < len(widths) and (room is None or ends[last + 1] - ends[first] <= room):
            last += 1
        yield first, last
        first = last


def _line(label: str, cells: list[Text]) -> Text:
    line = Text(label)
    for cell in cells:
        line.append(" ").append_text(cell)
    line.rstrip()
    return line


def _shade(weight: float) -> str:
    return _SHADES[sum(weight >= least for least in _SHADED_FROM)]


def _label(word: str) -> str:
    """A word as it can stand in a table: of one cell at least, and where it is read from right to left, alone so."""
    word = visible(word)
    if cell_len(word) > _LONGEST:
        word = set_cell_size(word, _LONGEST - 1).rstrip() + "…"
    word += " " * (1 - cell_len(word))
    return word + _LEFT_TO_RIGHT if any(script(c) in ("ARABIC", "HEBREW") for c in word) else word
