"""The token store: ids of a corpus in flat arrays on disk, memory-mapped, with the cleaned text beside them.

A side has ``ids.npy`` (uint16 or uint32, all pieces in a row) and ``offsets.npy`` (int64; pair i is
``ids[offsets[i]:offsets[i + 1]]``). Every block of pairs has a checksum, verified when the block is first used.
"""

import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from transformer_mt.errors import ArtefactError

Array = npt.NDArray[np.integer]
SIDES = ("source", "target")
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
        self.file.seek(0)
        self._header()  # as long as the first one: NumPy pads it for a growing axis
        self.file.close()


class StoreWriter:
    """Writes a store block by block, in constant memory: use it as a context and call :meth:`add`."""

    def __init__(self, directory: Path, vocabulary: dict[str, int]) -> None:
        self._text = {s: (directory / f"train.{s}.txt").open("w", encoding="utf-8", newline="\n") for s in SIDES}
        self._ids = {
            s: _Column(directory / f"train.{s}.ids.npy", np.uint16 if vocabulary[s] <= 1 << 16 else np.uint32)
            for s in SIDES
        }
        self._offsets = {s: _Column(directory / f"train.{s}.offsets.npy", np.int64) for s in SIDES}
        self._checksums = _Column(directory / "train.checksums.npy", np.uint32)
        self._end = dict.fromkeys(SIDES, 0)
        self._pending: list[tuple[Sequence[str], Sequence[list[int]]]] = []
        for side in SIDES:
            self._offsets[side].append(np.zeros(1, np.int64))

    def add(self, text: Sequence[str], ids: Sequence[list[int]]) -> None:
        """Append one pair: both texts and both lists of ids, source first."""
        self._pending.append((text, ids))
        if len(self._pending) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        checksum = 0
        for number, side in enumerate(SIDES):
            rows = [ids[number] for _, ids in self._pending]
            flat = np.fromiter(chain.from_iterable(rows), np.int64)
            ends = self._end[side] + np.cumsum([len(row) for row in rows], dtype=np.int64)
            starts = np.concatenate([[self._end[side]], ends]).astype("<i8")
            checksum = zlib.crc32(starts.tobytes(), checksum)
            checksum = zlib.crc32(self._ids[side].append(flat), checksum)
            self._offsets[side].append(ends)
            self._end[side] = int(ends[-1])
            self._text[side].writelines(text[number] + "\n" for text, _ in self._pending)
        self._checksums.append(np.array([checksum], np.uint32))
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:  # fmt: skip
        if self._pending and kind is None:
            self._flush()
        for file in self._text.values():
            file.close()
        for column in (*self._ids.values(), *self._offsets.values(), self._checksums):
            column.close()


class Side:
    """One language of a store: ``ids`` and ``offsets``, memory-mapped."""

    def __init__(self, directory: Path, side: str) -> None:
        self.ids = _map(directory / f"train.{side}.ids.npy")
        self.offsets = _map(directory / f"train.{side}.offsets.npy")

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
        matrix[:, before : before + len(columns)] = np.where(inside, self.ids[where], fill)
        return matrix


class Store:
    """The training pairs, read through memory maps: opening is instant, memory does not grow with the corpus."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source, self.target = (Side(directory, side) for side in SIDES)
        self._checksums = _map(directory / "train.checksums.npy")
        self._verified: set[int] = set()
        pairs = {len(side.offsets) - 1 for side in (self.source, self.target)}
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
            for side in (self.source, self.target):
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
