"""A file that long work writes: it appears when it is whole, and what is there before survives an interruption.

Until then its lines lie beside it in ``NAME.partial``. ``NAME.partial.json`` tells how many of them are safe on the
disk, with their SHA-256, and what they are made from.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from transformer_mt.errors import ArtefactError, Interrupted, MtError, SystemFault, system_fault
from transformer_mt.rundir import sync_directory, write_atomically
from transformer_mt.terminal import say, warn

_BLOCK = 1 << 20  # bytes, read at once
_SHOWN = 24  # characters of a value that differs: enough to tell names and check sums apart
_ANEW = "leave out --resume to start anew"

Origin = dict[str, Any]
"""What a file is made from, by the names that its user knows: check sums, options and settings; values as JSON has."""


def is_file(path: Path) -> bool:
    """Whether a file is at a path, or nothing: neither /dev/null nor a named pipe may be replaced."""
    return path.is_file() or not path.exists()


class OutputFile:
    """The lines of a file in the making; it goes on after the output for ``kept`` lines of input."""

    def __init__(self, path: Path, origin: Origin | None = None, sources: Sequence[Path] = ()) -> None:
        """``sources`` are the files that it is made from; without them and an ``origin`` nothing is to be kept.

        Raises SystemFault for a link that leads to itself.
        """
        self.path, self._origin, self._sources = Path(os.path.realpath(path)), origin, sources
        with self._naming(), suppress(FileNotFoundError):
            path.stat()  # a link that leads to itself cannot be written
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._state = self.partial.with_name(f"{self.partial.name}.json")
        self.kept = 0
        self._bytes, self._digest = 0, hashlib.sha256()  # of what is written
        self._file: BinaryIO

    def is_complete(self, lines: int) -> bool:
        """Whether the file is there, with so many lines and no older than its sources, and nothing is in the making.

        It has no record: whether its ``origin`` was the same cannot be told.
        """
        if self.partial.exists() or not self.path.exists():
            return False
        if self.path.stat().st_mtime_ns < max(source.stat().st_mtime_ns for source in self._sources):
            return False
        with self.path.open("rb") as file:
            complete = sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b"")) == lines
        if complete:
            self._state.unlink(missing_ok=True)  # what came last was interrupted
        return complete

    @contextmanager
    def writing(self, *, resume: bool) -> Iterator[None]:
        """Let lines be written, from the first, or with ``resume`` after those that are ``kept``; then put it in place.

        When something goes wrong, the lines kept stay, and the error says so. Raises ArtefactError when they are
        damaged or made from something else, SystemFault when another process writes them, or nothing can be written.
        """
        self._file = self._locked()
        try:
            if resume:
                self._go_on()
            elif self._state.exists():
                warn(f"{self.partial}: left by an earlier attempt; starting anew, as --resume is not given")
            yield from self._written()
        finally:
            with suppress(OSError):  # what could not be written cannot be flushed either
                self._file.close()

    def _locked(self) -> BinaryIO:
        """Open the lines in the making, for this process alone. Raises SystemFault."""
        while True:
            with self._naming(), ExitStack() as stack:
                file = stack.enter_context(self.partial.open("ab"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise SystemFault(f"{self.partial}: another process writes it; wait for it or stop it") from error
                with suppress(FileNotFoundError):  # before we had the lock, another process put it in its place
                    if os.path.samestat(os.fstat(file.fileno()), self.partial.stat()):
                        stack.pop_all()
                        return file

    def _written(self) -> Iterator[None]:
        try:
            if not self.kept:
                self._state.unlink(missing_ok=True)
            self._file.truncate(self._bytes)
            yield
            with self._naming():
                self._flush()
                self.partial.replace(self.path)
                self._state.unlink(missing_ok=True)
                sync_directory(self.path.parent)
        except BaseException as error:
            lines = self._recorded()  # it may have come in the midst of keeping
            if not lines:
                self.partial.unlink(missing_ok=True)
            told = error
            if isinstance(error, KeyboardInterrupt):
                told = Interrupted("interrupted; start again when you like", 130)
            elif isinstance(error, OSError):
                told = system_fault(error)
            if lines and isinstance(told, MtError):
                told.args = (f"{told} (--resume goes on after line {lines:,})",)
            raise told from (error if told is not error else error.__cause__)

    def _recorded(self) -> int:
        """The lines that are kept, by the record that this process wrote or found in order."""
        return int(json.loads(self._state.read_text(encoding="utf-8"))["lines"]) if self._state.exists() else 0

    def _go_on(self) -> None:
        """Find what is kept."""
        if not self._state.exists() or not self._file.tell():
            say(f"{self.path}: nothing to resume; starting from the beginning")
            return
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            before, lines, size, checksum = dict(state["origin"]), state["lines"], int(state["bytes"]), state["sha256"]
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ArtefactError(f"{self._state}: damaged or unreadable; {_ANEW}") from error
        now = self._origin or {}
        changed = [
            f"{key} is {str(now.get(key))[:_SHOWN]} but was {str(before.get(key))[:_SHOWN]}"
            for key in {**now, **before}
            if now.get(key) != before.get(key)
        ]
        if changed:
            raise ArtefactError(f"{self.partial}: made from something else: {', '.join(changed)}; give the command as "
                                f"it was, or {_ANEW}")  # fmt: skip
        with self.partial.open("rb") as file:
            while self._bytes < size and (block := file.read(min(_BLOCK, size - self._bytes))):
                self._digest.update(block)
                self._bytes += len(block)
        if self._bytes != size or self._checksum(lines) != checksum:
            raise ArtefactError(f"{self.partial}: damaged (its checksum is wrong); {_ANEW}")
        self.kept = lines
        say(f"{self.path}: resuming after line {lines:,}")

    def write(self, text: str) -> None:
        """Write text, which is not kept yet."""
        data = text.encode()
        with self._naming():
            self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def flush(self) -> None:
        """Do nothing: nobody reads before all is there."""

    def keep(self, lines: int) -> None:
        """Flush to the disk what is written, the output for so many ``lines`` of input: from now on it is kept."""
        if self._origin is None:
            return
        with self._naming():
            self._flush()
        state = {"lines": lines, "bytes": self._bytes, "sha256": self._checksum(lines), "origin": self._origin}
        write_atomically(self._state, json.dumps(state, indent=1, ensure_ascii=False) + "\n")

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _checksum(self, lines: int) -> str:
        """The SHA-256 of all that is written and of what the record says of it."""
        digest = self._digest.copy()
        digest.update(json.dumps([lines, self._origin], sort_keys=True).encode())
        return digest.hexdigest()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn the system's errors into one that names the file."""
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = str(self.path), None
            raise system_fault(error) from error
