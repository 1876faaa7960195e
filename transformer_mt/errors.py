"""Errors that a user can cause or mend, each with the exit code of the command line."""

import difflib
import errno
import re
from pathlib import Path


class MtError(Exception):
    """An error to be told in one line, without a traceback; ``code`` is the exit code.

    One that is ``silent`` is told by another process.
    """

    code = 1
    silent = False


class ConfigError(MtError):
    """The command line or the configuration is wrong."""

    code = 2


class DataError(MtError):
    """The text is at fault: missing, unreadable, unequal, not UTF-8, empty or too small."""

    code = 3


class ArtefactError(MtError):
    """A file that this program wrote is corrupt, mismatched or unsafe."""

    code = 4


class NumericsError(MtError):
    """The loss or the weights are not finite."""

    code = 5


class SystemFault(MtError):
    """The system refuses: disk full, permission denied, lock held."""

    code = 6


class Interrupted(MtError):
    """The run was stopped by a signal, after saving: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


_REMEDIES = {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another file system",
    errno.EROFS: "choose another place",
    errno.EISDIR: "give a file",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or free memory",
    errno.ENOTDIR: "a file is in the way, choose another",
    errno.ELOOP: "a link leads to itself, choose another",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the limit of open files",
    errno.EIO: "check the disk",
    errno.EBADF: "it is closed, send it to a file or a program",
    errno.ESTALE: "check the network file system, and start again",
}
_READ = {  # where the file is at fault, and not the system
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EISDIR: "give a file of text",
    errno.ENXIO: "give a file of text",  # a socket
    errno.ELOOP: "a link leads to itself, check the path",
    errno.ENOTDIR: "check the path",
    errno.ENAMETOOLONG: "check the path",
}


def system_fault(error: OSError, path: Path | None = None) -> SystemFault:
    """Turn an operating system's error into one line that names the file: ``path`` where the error knows none."""
    where = f"{error.filename or path}: " if error.filename or path else ""
    reason = error.strerror or error
    return SystemFault(f"{where}{reason}; {remedy(error.errno)}")


def remedy(number: int | None) -> str:
    """What to do about an error of the operating system, by its ``errno``."""
    return _REMEDIES.get(number or 0, "check the path")


def unreadable(path: Path, error: OSError) -> str:
    """What to say of a file that is there and cannot be read. Raises SystemFault when that is no fault of the file."""
    if error.errno not in _READ:
        raise system_fault(error, path) from error
    return f"{path}: cannot be read: {error.strerror}; {_READ[error.errno]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of a GPU, has run out."""
    signs = ("allocate memory", "out of memory", "failed to map segment")  # the last one of a library to be loaded
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def missing(path: Path) -> str:
    """What to say of a file that is not there: it is a URL, a link, its neighbour is called so, or no folder is."""
    if url := re.match(r"([a-z]+):/+", str(path)):
        address = f"{url[1]}://{str(path)[url.end() :]}"  # a path has single slashes
        return f"{address}: a URL, not a file; download it and give the file"
    if path.is_symlink():
        return f"{path}: a link that leads nowhere; check the path"
    if not path.parent.is_dir():
        return f"{path}: no such file, for there is no folder {path.parent}; check the path"
    try:
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1, cutoff=0.65)
    except OSError:
        near = []
    return f"{path}: no such file; did you mean {near[0]}?" if near else f"{path}: no such file; check the path"
