"""Raw text in: lines of files and rows of hub data sets, as pairs."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from transformer_mt.config import Languages, Source
from transformer_mt.errors import DataError

Pair = tuple[str, list[str]]
"""A source line and its target lines: one, or several references."""


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file.

    Lines end at ``\n`` (a ``\r`` before it is dropped, so is a byte order mark) and nowhere else: U+2028, U+0085, form
    feeds and lone carriage returns are text. Raises DataError naming file and line.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield decode_line(raw, f"{path}:{number}", first=number == 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def decode_line(raw: bytes, where: str, *, first: bool = False) -> str:
    """Decode one line, its end taken off. Raises DataError, saying ``where``, on invalid UTF-8 and on NUL."""
    if first:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if raw.endswith(b"\n"):
        raw = raw[:-1].removesuffix(b"\r")
    if b"\0" in raw:
        raise DataError(f"{where}: contains a NUL character; the file is not plain text (is it UTF-16?)")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise DataError(f"{where}: not UTF-8 (byte 0x{byte:02X}); convert it, for example with iconv") from error


def read_pairs(source: Source, languages: Languages) -> Iterator[Pair]:
    """Yield the pairs of a corpus, as they are. Raises DataError when the text is at fault."""
    return _hub_pairs(source, languages) if source.hub is not None else _file_pairs(source)


def _file_pairs(source: Source) -> Iterator[Pair]:
    paths = [Path(p) for p in (source.source or "", *source.targets)]
    for number, lines in enumerate(zip_longest(*map(read_lines, paths)), start=1):
        if None in lines:
            counts = [f"{path} has {sum(1 for _ in read_lines(path))}" for path in paths]
            raise DataError(
                f"the files do not have the same number of lines: {', '.join(counts)}; line i must be the "
                f"translation of line i (one ends before line {number})"
            )
        yield lines[0], list(lines[1:])


def _hub_pairs(source: Source, languages: Languages) -> Iterator[Pair]:
    rows = _load_hub(source)
    where = f"{source.hub} ({rows.split})"
    for number, row in enumerate(rows, start=1):
        texts: Any = nested if isinstance(nested := row.get("translation"), dict) else row
        pair = [texts.get(language) for language in (languages.source, languages.target)]
        if not all(isinstance(text, str) for text in pair):
            missing = next(lang for lang, text in zip((languages.source, languages.target), pair, strict=True)
                           if not isinstance(text, str))  # fmt: skip
            raise DataError(f"{where} row {number}: no text in column '{missing}'; columns are {', '.join(texts)}")
        if "\0" in pair[0] + pair[1]:
            raise DataError(f"{where} row {number}: contains a NUL character")
        yield one_line(pair[0]), [one_line(pair[1])]


def one_line(text: str) -> str:
    """A row's text as a line of a file could hold it."""
    return " ".join(text.split("\n")).removesuffix("\r")


def _load_hub(source: Source) -> Any:
    import datasets  # slow to import, and only needed here

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(source.hub, source.name, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises dozens of kinds; all of them mean that the data is not to be had
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{source.hub}: cannot be loaded from the hub or as a local data set: {reason}") from error
    if source.split is None:
        raise DataError(f"{source.hub}: name a split, one of {', '.join(loaded)}: {{hub: {source.hub}, split: …}}")
    return loaded
