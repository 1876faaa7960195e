"""The standard streams, which may be closed, full or a pipe that nobody reads any more."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Log:
    """Standard error, but what cannot be written is dropped: a terminal was closed, the disk of a log is full."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Send what is waiting."""
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = "standard output"
        raise


class _Results(io.TextIOWrapper):
    """Standard output, whose errors name it."""

    def write(self, text: str) -> int:
        """Write text, as any file does."""
        with _naming():
            return super().write(text)

    def flush(self) -> None:
        """Send what is waiting."""
        with _naming():
            super().flush()


def mend() -> None:
    """Let every stream be there, and errors of standard output name it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            # In the place of standard output is what cannot be written: results must not be lost in silence.
            flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            stream = os.fdopen(os.open(os.devnull, flags), mode)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        sys.stdout = _Results(
            out.buffer, out.encoding, out.errors, line_buffering=out.line_buffering, write_through=out.write_through
        )


def close() -> None:
    """Write what is left. What cannot be written was told; Python would try again, and end with a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
