"""Errors that a user can cause or mend, each with the exit code of the command line."""


class MtError(Exception):
    """An error to be told in one line, without a traceback; ``code`` is the exit code."""

    code = 1


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
    """The run was stopped by a signal, after saving: 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def system_fault(error: OSError) -> SystemFault:
    """Turn an operating system's error into one line that names the file."""
    where = f"{error.filename}: " if error.filename else ""
    return SystemFault(f"{where}{error.strerror or error}")
