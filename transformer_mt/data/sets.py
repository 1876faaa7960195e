"""Validation and test sets: raw text beside the token store, held out of training where it is not given."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from transformer_mt.config import Config
from transformer_mt.data.corpus import Pair, name, read_pairs
from transformer_mt.data.store import Array
from transformer_mt.errors import ArtefactError, DataError

_LOST = "put its files back, or train in a new run_dir"
HELD_OUT = 2_000  # pairs at most, of each of validation and test


def write_given_sets(config: Config, data: Path) -> dict[str, list[str]]:
    """Write the sets that the configuration gives; return their names by split. Raises DataError."""
    names: dict[str, list[str]] = {"valid": [], "test": []}
    for split, written in names.items():
        for set_name, source in config.data.sets(split).items():
            try:
                count = _write(data, set_name, read_pairs(source, config.languages))
            except DataError as error:
                raise DataError(f"data.{set_name}: {error}") from error
            if count == 0:
                raise DataError(f"data.{set_name}: {name(source)} is empty; give pairs, or leave data.{split} out")
            written.append(set_name)
    return names


class Lottery:
    """Draws the pairs that are held out: those of the smallest hashes, so that copies stay on one side."""

    def __init__(self, splits: list[str]) -> None:
        self.splits = splits  # that want pairs
        self._total, self._smallest = 0, np.array([], np.uint64)
        self._others, self._waiting = list[Array](), 0  # what came since these were found, and how much it is

    def add(self, hashes: Array) -> None:
        """Let the pairs of these hashes take part."""
        if not self.splits:
            return
        self._total, self._waiting = self._total + len(hashes), self._waiting + len(hashes)
        self._others.append(hashes)
        if self._waiting > 20 * HELD_OUT:
            self._find_smallest()

    def _find_smallest(self) -> None:
        self._smallest = np.unique(np.concatenate([self._smallest, *self._others]))[: 10 * HELD_OUT]
        self._others, self._waiting = [], 0

    def draw(self) -> dict[str, set[int]]:
        """The hashes for each split: 1 % of the pairs, at most HELD_OUT. Raises DataError when there are too few."""
        self._find_smallest()
        different = len(self._smallest)
        if self.splits and different < 10:
            raise DataError(
                f"data.train: {different} different pairs are too few to hold out {' and '.join(self.splits)}; "
                f"give more text, or files for {' and '.join(self.splits)}"
            )
        # A tenth of the different ones, where nearly all are copies.
        size = min(HELD_OUT, max(1, min(self._total // 100, different // 10)))
        chosen = self._smallest.tolist()
        return {split: set(chosen[n * size : (n + 1) * size]) for n, split in enumerate(self.splits)}


def write_held_out(
    data: Path, drawn: dict[str, set[int]], pairs: Iterable[tuple[str, str]], hashes: Iterable[int]
) -> set[int]:
    """Write the pairs that were drawn, each once; return the numbers of all pairs that training must not have."""
    if not drawn:
        return set()
    left = {value: split for split, values in drawn.items() for value in values}
    taken, rows = set(left), set()
    with ExitStack() as stack:
        files = {split: [stack.enter_context(file) for file in _open(data, split, 1)] for split in drawn}
        for number, (value, pair) in enumerate(zip(hashes, pairs, strict=True)):
            if value in taken:
                rows.add(number)
                if (split := left.pop(value, None)) is not None:
                    for file, line in zip(files[split], pair, strict=True):
                        file.write(line + "\n")
    return rows


def _open(data: Path, set_name: str, references: int) -> list[Any]:
    """``NAME.source.txt`` and ``NAME.target.txt`` (or ``.target.0.txt``, … for several references)."""
    targets = ["target"] if references == 1 else [f"target.{i}" for i in range(references)]
    return [
        (data / f"{set_name}.{side}.txt").open("w", encoding="utf-8", newline="\n") for side in ("source", *targets)
    ]


def _write(data: Path, set_name: str, pairs: Iterator[Pair]) -> int:
    count = 0
    files: list[Any] = []
    with ExitStack() as stack:
        for source, targets in pairs:
            files = files or [stack.enter_context(file) for file in _open(data, set_name, len(targets))]
            for file, line in zip(files, (source, *targets), strict=True):
                file.write(line + "\n")
            count += 1
    return count


def own_lines(path: Path) -> Iterator[str]:
    """The lines of a file that this program wrote: to the letter, without the rules for text of others.

    Raises ArtefactError when it is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: damaged or unreadable; {_LOST}") from error


def set_files(data: Path, set_name: str) -> list[Path]:
    """The files of a set: the source, then the references in their order."""
    targets = sorted(data.glob(f"{set_name}.target*.txt"), key=lambda path: (len(path.name), path.name))
    return [data / f"{set_name}.source.txt", *targets]


def digests(data: Path, set_name: str) -> dict[str, str]:
    """The SHA-256 of each file of a set. Raises ArtefactError."""
    found = {}
    for path in set_files(data, set_name):
        try:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror}; {_LOST}") from error
    return found


def read_set(data: Path, set_name: str, known: dict[str, str] | None = None) -> tuple[list[str], list[list[str]]]:
    """The source lines of a set and its references, each a list of lines.

    Raises ArtefactError, also when its digests are not the ``known`` ones.
    """
    source, *targets = set_files(data, set_name)
    if known is not None and known != (found := digests(data, set_name)):
        name = next(name for name in {**known, **found} if known.get(name) != found.get(name))
        what = "damaged" if name in found else "missing"
        raise ArtefactError(f"{data / name}: the text is {what}; {_LOST}")
    if not targets:
        raise ArtefactError(f"{data}: no {set_name} text here; {_LOST}")
    sources, references = list(own_lines(source)), [list(own_lines(path)) for path in targets]
    if any(len(lines) != len(sources) for lines in references):
        raise ArtefactError(f"{data}: the {set_name} text is damaged, its sides have different numbers of lines; "
                            f"{_LOST}")  # fmt: skip
    return sources, references
