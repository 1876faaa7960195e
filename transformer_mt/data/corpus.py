"""Raw text in: text, TSV, JSON lines and Parquet files and data sets of the hub, as pairs."""

import gzip
import json
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from transformer_mt.config import Languages, Source
from transformer_mt.data.links import parse_links
from transformer_mt.errors import DataError, missing, unreadable

Pair = tuple[str, list[str]]
"""A source line and its target lines: one, or several references."""

_BLOCK = 1 << 17  # bytes, read at once
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}
_PACKED = {  # by how they start
    rb"\x1f\x8b": "a gzip file",
    rb"\xfd7zXZ\0": "an xz file",
    rb"PK\x03\x04": "a zip file",
    rb"BZh\d1AY&SY": "a bzip2 file",
    rb"\x28\xb5\x2f\xfd": "a Zstandard file",
    rb"(?s:.{257})ustar": "a tar file",
}


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file, which may be compressed by gzip or xz.

    Lines end at ``\n`` (a ``\r`` before it is dropped, so is a byte order mark) and nowhere else: U+2028, U+0085, form
    feeds and lone carriage returns are text. Raises DataError naming file and line.
    """
    number = 0
    lines: Iterable[str] | None
    try:
        with path.open("rb") as file:
            refuse_device(path, file)
            start = file.peek(8)
            decompress = next((use for magic, use in _COMPRESSED.items() if start.startswith(magic)), None)
            for block in _blocks(file if decompress is None else decompress(file)):
                if not number and (kind := _packed(block)):
                    inside = "" if decompress is None else " inside a compressed one"
                    raise DataError(f"{path}: not text but {kind}{inside}; unpack it")
                lines = _plain_lines(block) if number else None
                if lines is None:
                    raw = enumerate(BytesIO(block), start=number + 1)
                    lines = (decode_line(line, f"{path}:{n}", first=n == 1) for n, line in raw)
                yield from lines
                number += block.count(b"\n")
    except FileNotFoundError as error:
        raise DataError(missing(path)) from error
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is damaged after line {number}; copy it again") from error
    except OSError as error:
        raise DataError(unreadable(path, error)) from error


def refuse_device(path: Path, file: BinaryIO) -> None:
    """Raise DataError for a device without an end, such as /dev/zero; /dev/null, a terminal and a pipe have one."""
    found = os.fstat(file.fileno())
    if stat.S_ISCHR(found.st_mode) and not file.isatty() and found.st_rdev != Path(os.devnull).stat().st_rdev:
        raise DataError(f"{path}: a device, not a file of text; give a file of text")


def _packed(start: bytes) -> str | None:
    """The kind of file that starts so, if it has to be unpacked."""
    return next((kind for sign, kind in _PACKED.items() if re.match(sign, start)), None)


def _blocks(stream: Any) -> Iterator[bytes]:
    """Whole lines, many at once; where the stream turns out to be damaged, all that are before it."""
    while data := stream.read1(_BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            yield data[:end]
        if end < len(data):
            yield data[end:] + stream.readline()


def _plain_lines(block: bytes) -> list[str] | None:
    """The lines of some bytes, as :func:`decode_line` gives them, all at once; None when one is at fault."""
    if b"\0" in block:
        return None
    try:
        lines = block.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        return None
    return lines if lines[-1] else lines[:-1]


def decode_line(raw: bytes, where: str, *, first: bool = False) -> str:
    """Decode one line, its end taken off. Raises DataError, saying ``where``, on invalid UTF-8 and on NUL."""
    if first:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    if raw.endswith(b"\n"):
        raw = raw[:-1].removesuffix(b"\r")
    if b"\0" in raw:
        raise DataError(f"{where}: contains a NUL character, so it is no plain text; is it UTF-16? Convert it to UTF-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise DataError(
            f"{where}: not UTF-8 (byte 0x{byte:02X}); convert it: iconv -f cp1252 -t utf-8 OLD > NEW"
        ) from error


def read_pairs(source: Source, languages: Languages) -> Iterator[Pair]:
    """Yield the pairs of a corpus, as they are. Raises DataError when the text is at fault."""
    if source.source is not None:
        return _text_pairs([Path(path) for path in source.files])
    if source.tsv is not None:
        return _tsv_pairs(Path(source.tsv), [int(column) for column in source.columns or (1, 2)])
    columns = [str(column) for column in source.columns or (languages.source, languages.target)]
    example = json.dumps(dict.fromkeys(columns, "text"), ensure_ascii=False)
    return _row_pairs(_rows(source, example), columns, example)


def read_training_pairs(source: Source, languages: Languages) -> Iterator[tuple[str, ...]]:
    """Yield source line, target line and, of a corpus that has them, word links, checked. Raises DataError."""
    if source.alignment is None:
        yield from ((line, targets[0]) for line, targets in read_pairs(source, languages))
        return
    paths = [Path(path) for path in (*source.files, source.alignment)]
    for number, (line, (target, links)) in enumerate(_text_pairs(paths), start=1):
        parse_links(links, (len(line.split()), len(target.split())), f"{source.alignment}:{number}")
        yield line, target, links


def name(source: Source) -> str:
    """What to call a corpus: its first file, or its name on the hub."""
    return source.files[0] if source.files else str(source.hub)


def _text_pairs(paths: list[Path]) -> Iterator[Pair]:
    for number, lines in enumerate(zip_longest(*map(read_lines, paths)), start=1):
        if None in lines:
            counts = [f"{path} has {sum(1 for _ in read_lines(path)):,}" for path in paths]
            raise DataError(
                f"the files do not have the same number of lines: {', '.join(counts)}; line i must be the "
                f"translation of line i (one ends before line {number})"
            )
        yield lines[0], list(lines[1:])


def _tsv_pairs(path: Path, columns: list[int]) -> Iterator[Pair]:
    """Columns are separated by tabs, and nothing is quoted: a quotation mark is text."""
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) < max(columns):
            raise DataError(
                f"{path}:{number}: has {len(fields)} of the {max(columns)} columns asked for; fields are separated by "
                "tabs, one pair a line"
            )
        yield fields[columns[0] - 1], [fields[column - 1] for column in columns[1:]]


def _row_pairs(rows: Iterator[tuple[str, Any]], columns: list[str], example: str) -> Iterator[Pair]:
    """Columns may be flat, or inside ``translation``."""
    for where, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{where}: not an object; expected a row such as {example}")
        texts = nested if isinstance(nested := row.get("translation"), dict) else row
        fields: list[Any] = [texts.get(column) for column in columns]
        for column, field in zip(columns, fields, strict=True):
            if not isinstance(field, str):
                has = ", ".join(map(str, texts)) or "none"
                raise DataError(f"{where}: no text in column '{column}'; columns are {has}; choose with 'columns'")
            if "\0" in field:
                raise DataError(f"{where}: contains a NUL character; remove it")
        yield one_line(fields[0]), [one_line(field) for field in fields[1:]]


def one_line(text: str) -> str:
    """A row's text as a line of a file could hold it; half of a character becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold half of a character
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(text.split("\n")).removesuffix("\r")


def _rows(source: Source, example: str) -> Iterator[tuple[str, Any]]:
    """The rows of JSON lines, Parquet or a hub data set, each with the place that errors call it by."""
    if source.jsonl is not None:
        yield from _json_rows(Path(source.jsonl), example)
    else:
        loaded = _load(source)
        what = f"{source.parquet}" if source.parquet is not None else f"{source.hub} ({source.split})"
        try:
            for number, row in enumerate(loaded, start=1):
                yield f"{what} row {number}", row
        except DataError:
            raise
        except Exception as error:  # a stream is only opened, or found damaged, as it is read
            raise DataError(_not_loaded(source, error)) from error


def _json_rows(path: Path, example: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        if line.strip():
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON; expected one object a line, such as {example}") from error


def _load(source: Source) -> Any:
    import datasets  # slow to import, and only needed here

    datasets.disable_progress_bars()
    try:
        if source.parquet is not None:
            if not Path(source.parquet).exists():
                raise DataError(missing(Path(source.parquet)))
            return datasets.load_dataset("parquet", data_files=source.parquet, split="train", streaming=True)
        loaded = datasets.load_dataset(
            source.hub, source.name, split=source.split, revision=source.revision, streaming=source.stream
        )
    except DataError:
        raise
    except Exception as error:  # the library raises dozens of kinds; all of them mean that the data is not to be had
        raise DataError(_not_loaded(source, error)) from error
    if source.split is None:
        raise DataError(f"{source.hub}: has several splits; set 'split' to one of {', '.join(loaded)}")
    return loaded


def _not_loaded(source: Source, error: Exception) -> str:
    reason = re.sub(r" \(\w+\)$", "", " ".join(str(error).split())[:300]).rstrip(".")  # without the error's class
    if source.parquet is not None:
        return f"{source.parquet}: cannot be loaded: {reason}; check that it is Parquet, and copy it again"
    return f"{source.hub}: cannot be loaded: {reason}; check the name (OWNER/NAME), split and connection"
