"""The token store: ids of a corpus in flat arrays on disk, memory-mapped, with the cleaned text beside them.

A side has ``ids.npy`` (uint16 or uint32, all pieces in a row) and ``offsets.npy`` (int64; pair i is
``ids[offsets[i]:offsets[i + 1]]``); its text, a line a pair, has offsets likewise, in bytes. Every block of pairs has
a checksum, and its text one a side, verified when first used. Where pairs have word links, these lie in the same way
in ``links.ids.npy`` and ``links.offsets.npy``: source word, target word, source word, and so on.
"""

import zlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from transformer_mt.errors import ArtefactError

Array = npt.NDArray[np.integer]
SIDES = ("source", "target")
LINKS = "links"  # between the words of a pair, stored as a third side is
BLOCK = 1024  # pairs
_KINDS = [np.dtype(kind) for kind in ("<u2", "<u4", "<i8")]


class _Column:
    """A one-dimensional .npy file that grows; its header is written again at the end."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype).newbyteorder("<"), 0
        self.file: BinaryIO = path.open("w+b")
        self._header()

    def _header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length,),
        }
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: Array) -> bytes:
        data = values.astype(self.dtype).tobytes()
        self.file.write(data)
        self.length += len(values)
        return data

    def close(self) -> None:
        with self.file:
            self.file.seek(0)
            self._header()  # as long as the first one: NumPy pads it for a growing axis


class StoreWriter:
    """Writes a store block by block, in constant memory: use it as a context and call :meth:`add`.

    ``vocabulary`` says how many ids ``source`` and ``target`` have, and ``links``, how many words, if there are any.
    """

    def __init__(self, directory: Path, vocabulary: dict[str, int]) -> None:
        self._text = {s: _TextWriter(directory, s) for s in SIDES}
        self._ids = {
            s: _Column(directory / f"train.{s}.ids.npy", np.uint16 if size <= 1 << 16 else np.uint32)
            for s, size in vocabulary.items()
        }
        self._offsets = {s: _Column(directory / f"train.{s}.offsets.npy", np.int64) for s in vocabulary}
        self._checksums = _Column(directory / "train.checksums.npy", np.uint32)
        self._end = dict.fromkeys(vocabulary, 0)
        self._pending = [Pieces.of([]) for _ in vocabulary]
        self._pending_text = [Pieces.lines(b"") for _ in SIDES]
        for side in vocabulary:
            self._offsets[side].append(np.zeros(1, np.int64))

    def add(self, ids: Sequence["Pieces"], text: Sequence["Pieces"]) -> None:
        """Append pairs: the ids of both sides, source first, and links, if there are any; and the lines of both."""
        self._pending = [old.joined(new) for old, new in zip(self._pending, ids, strict=True)]
        self._pending_text = [old.joined(new) for old, new in zip(self._pending_text, text, strict=True)]
        whole = len(self._pending[0]) // BLOCK * BLOCK
        for first in range(0, whole, BLOCK):
            self._write(first, first + BLOCK)
        self._pending = [side.part(whole) for side in self._pending]
        self._pending_text = [side.part(whole) for side in self._pending_text]

    def _write(self, first: int, end: int | None = None) -> None:
        """Write a block of what is pending."""
        checksum = 0
        for side, ids in zip(self._ids, self._pending, strict=True):
            block = ids.part(first, end)
            starts = (self._end[side] + block.offsets).astype("<i8")
            checksum = zlib.crc32(starts.tobytes(), checksum)
            checksum = zlib.crc32(self._ids[side].append(block.ids), checksum)
            self._offsets[side].append(starts[1:])
            self._end[side] = int(starts[-1])
        for writer, text in zip(self._text.values(), self._pending_text, strict=True):
            writer.append(text.part(first, end))
        self._checksums.append(np.array([checksum], np.uint32))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:  # fmt: skip
        with ExitStack() as files:  # on a full disk closing fails, too: of one file, not of those after it
            for writer in self._text.values():
                files.callback(writer.close)
            for column in (*self._ids.values(), *self._offsets.values(), self._checksums):
                files.callback(column.close)
            if len(self._pending[0]) and kind is None:
                self._write(0)


class _TextWriter:
    """The text of a side, the offsets of its lines, and a checksum a block."""

    def __init__(self, directory: Path, side: str) -> None:
        self._file = (directory / f"train.{side}.txt").open("wb")
        self._offsets = _Column(directory / f"train.{side}.text.offsets.npy", np.int64)
        self._checksums = _Column(directory / f"train.{side}.text.checksums.npy", np.uint32)
        self._end = 0
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, lines: "Pieces") -> None:
        """Write a block."""
        text, offsets = lines.ids.tobytes(), self._end + lines.offsets
        self._file.write(text)
        self._offsets.append(offsets[1:])
        self._checksums.append(np.array([_text_checksum(offsets, text)], np.uint32))
        self._end = int(offsets[-1])

    def close(self) -> None:
        with closing(self._file), closing(self._offsets), closing(self._checksums):
            pass


def _text_checksum(offsets: Array, text: bytes | memoryview) -> int:
    return zlib.crc32(text, zlib.crc32(offsets.astype("<i8").tobytes()))


class Pieces:
    """Sequences of ids in one flat array: number i is ``ids[offsets[i]:offsets[i + 1]]``."""

    def __init__(self, ids: Array, offsets: Array) -> None:
        self.ids, self.offsets = ids, offsets

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> "Pieces":
        """The same of lists."""
        ids, offsets = array("I"), array("q", [0])
        for sequence in sequences:
            ids.extend(sequence)
            offsets.append(len(ids))
        return cls(np.array(ids), np.array(offsets))

    @classmethod
    def lines(cls, text: bytes) -> "Pieces":
        """The lines of a text, each with its end, as sequences of bytes."""
        values = np.frombuffer(text, np.uint8)
        return cls(values, np.append(0, np.flatnonzero(values == ord("\n")) + 1))

    def joined(self, other: "Pieces") -> "Pieces":
        """These sequences, and those of ``other`` after them."""
        offsets = np.concatenate([self.offsets, len(self.ids) + other.offsets[1:]])
        return Pieces(np.concatenate([self.ids, other.ids]), offsets)

    def part(self, first: int, end: int | None = None) -> "Pieces":
        """The sequences from ``first`` to before ``end``."""
        offsets = self.offsets[first : None if end is None else end + 1]
        return Pieces(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0])

    def where(self, wanted: npt.NDArray[np.bool_]) -> "Pieces":
        """The sequences that are ``wanted`` [N]."""
        if wanted.all():
            return self
        lengths = np.diff(self.offsets)
        return Pieces(self.ids[np.repeat(wanted, lengths)], np.append(0, np.cumsum(lengths[wanted])))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> list[int]:
        return self.ids[self.offsets[number] : self.offsets[number + 1]].tolist()  # type: ignore[no-any-return]

    def lengths(self, rows: Array) -> Array:
        """Pieces of each of ``rows``, without an end token."""
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows])

    def padded(self, rows: Array, *, before: int = 0, after: int = 0, fill: int = 0) -> npt.NDArray[np.int64]:
        """The ids of ``rows`` as a matrix [rows, before + longest + after], filled up with ``fill``."""
        lengths = self.lengths(rows)
        columns = np.arange(int(lengths.max(initial=0)))
        inside = columns < lengths[:, None]
        where = np.minimum(self.offsets[rows][:, None] + columns, max(len(self.ids) - 1, 0))
        matrix = np.full((len(rows), before + len(columns) + after), fill, np.int64)
        ids = self.ids[where].astype(np.int64)  # `fill` may be below 0
        matrix[:, before : before + len(columns)] = np.where(inside, ids, fill)
        return matrix


class Side(Pieces):
    """One language of a store, memory-mapped: ``ids``, ``offsets`` and, opened when first asked for, the text.

    Links have no text.
    """

    def __init__(self, directory: Path, side: str) -> None:
        self._directory, self._name = directory, side
        super().__init__(_map(directory / f"train.{side}.ids.npy"), _map(directory / f"train.{side}.offsets.npy"))
        self._verified: set[int] = set()

    def text(self, rows: Array) -> list[str]:
        """The text of ``rows``, which gave their ids. Raises ArtefactError when a block that they lie in is damaged."""
        text, offsets, checksums = self._text
        for number in sorted({*(rows // BLOCK).tolist()} - self._verified):
            starts = offsets[number * BLOCK : (number + 1) * BLOCK + 1]
            if _text_checksum(starts, text[starts[0] : starts[-1]]) != checksums[number]:
                raise self._damaged()
            self._verified.add(number)
        bounds = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
        return [str(text[start : end - 1], "utf-8") for start, end in bounds]

    @cached_property
    def _text(self) -> tuple[memoryview, Array, Array]:
        """Bytes, offsets of lines and checksums of blocks."""
        path = self._directory / f"train.{self._name}.txt"
        try:
            text = np.memmap(path, np.uint8, "r").data
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise self._damaged() from error
        offsets, checksums = (
            _map(self._directory / f"train.{self._name}.text.{part}.npy") for part in ("offsets", "checksums")
        )
        pairs = len(self.offsets) - 1
        if len(offsets) != pairs + 1 or len(checksums) != -(-pairs // BLOCK) or offsets[-1] != len(text):
            raise self._damaged()
        return text, offsets, checksums

    def _damaged(self) -> ArtefactError:
        path = self._directory / f"train.{self._name}.txt"
        return ArtefactError(f"{path}: the text of the token store is missing or damaged; train in a new run_dir")


class Store:
    """The training pairs, read through memory maps: opening is instant, memory does not grow with the corpus."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source, self.target = (Side(directory, side) for side in SIDES)
        self.links = Side(directory, LINKS) if (directory / f"train.{LINKS}.ids.npy").exists() else None
        self._sides = [side for side in (self.source, self.target, self.links) if side is not None]
        self._checksums = _map(directory / "train.checksums.npy")
        self._verified: set[int] = set()
        pairs = {len(side.offsets) - 1 for side in self._sides}
        if len(pairs) != 1 or len(self._checksums) != -(-min(pairs) // BLOCK) or min(pairs) < 1:
            raise ArtefactError(f"{directory}: the token store is damaged; train in a new run_dir")

    def __len__(self) -> int:
        return len(self.source.offsets) - 1

    @property
    def blocks(self) -> int:
        """The number of blocks of pairs."""
        return len(self._checksums)

    def block(self, number: int) -> Array:
        """The rows of a block, verified at the first use. Raises ArtefactError when it is damaged."""
        first, end = number * BLOCK, min((number + 1) * BLOCK, len(self))
        if number not in self._verified:
            checksum = 0
            for side in self._sides:
                starts = side.offsets[first : end + 1]
                checksum = zlib.crc32(starts.tobytes(), checksum)
                checksum = zlib.crc32(side.ids[starts[0] : starts[-1]].tobytes(), checksum)
            if checksum != self._checksums[number]:
                raise ArtefactError(
                    f"{self.directory}: pairs {first + 1} to {end} of the token store are damaged; train in a "
                    "new run_dir"
                )
            self._verified.add(number)
        return np.arange(first, end)


def _map(path: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header NumPy makes half a dozen kinds
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
        raise ArtefactError(f"{path}: {reason}; train in a new run_dir") from error
    if array.ndim != 1 or array.dtype not in _KINDS:
        raise ArtefactError(f"{path}: damaged; train in a new run_dir")
    return array  # type: ignore[no-any-return]
