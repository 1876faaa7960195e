"""The run directory: where everything of a run lies, and who may write it."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from transformer_mt.errors import ArtefactError, ConfigError, SystemFault, system_fault


class RunDirectory:
    """Paths of a run, as documented in the README."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.tokenizer = root / "tokenizer"
        self.data = root / "data"
        self.checkpoints = root / "checkpoints"
        self.metrics = root / "metrics.jsonl"
        self.eval = root / "eval"
        self.tensorboard = root / "tensorboard"
        self.exit = root / "exit.json"
        self.scratch = root / ".new"  # tokenizer and store in the making
        self._old = root / ".old"  # what an overwrite will delete
        self._gone = root / ".gone"  # half of that, which must not be put back
        self._lock = root / "lock"
        self._locked: TextIO | None = None

    def holds_run(self) -> bool:
        """Whether training has started here."""
        if not self.config.exists():  # it was lost; a lock and a checkpoint are ours all the same
            return self._lock.exists() and any(self.checkpoints.glob("step-*/manifest.json"))
        return self.metrics.exists() or any(self.checkpoints.glob("step-*"))

    def claim(self, *, resume: bool, overwrite: bool = False) -> None:
        """Make the directory ours to train in.

        Raises ConfigError when it holds a run and neither is asked for, or holds something else.
        """
        if self.root.is_symlink() and not self.root.exists():
            raise ConfigError(f"{self.root}: run_dir is a link that leads nowhere; choose another run_dir")
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root}: run_dir is a file; choose another run_dir")
        if self.holds_run() and not resume and not overwrite:
            raise ConfigError(f"{self.root}: already holds a run; --resume goes on with it, --overwrite starts anew")
        try:
            # Somebody's folder may have a config.yaml and a data folder too; only we leave a lock.
            ours = self._lock.exists() and (self.config.exists() or self._old.exists() or self.holds_run())
            if self.root.exists() and not ours and (overwrite or not self.holds_run()):
                known = (self._lock.name, self.exit.name, self.scratch.name, self._gone.name)
                strange = next((p.name for p in self.root.iterdir() if p.name not in known), None)
                if strange is not None:
                    raise ConfigError(
                        f"{self.root}: not empty, and not a run (it holds {strange}); choose another run_dir"
                    )
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise system_fault(error) from error

    def set_aside(self) -> None:
        """Move what training left out of the way, until :meth:`forget` or :meth:`put_back`.

        Of the configuration it is a copy: were we killed, the directory would still be read as a CONFIG.
        """
        self._gone.mkdir()  # until the copy is whole
        if self.config.exists():
            shutil.copy2(self.config, self._gone)
        self._gone.replace(self._old)
        for path in (self.checkpoints, self.metrics, self.eval, self.tensorboard, self.exit):
            if path.exists():
                path.replace(self._old / path.name)

    def replace_store(self) -> None:
        """Put tokenizer and store that were made in ``scratch`` in their places; old ones are set aside, too.

        Raises SystemFault when the directory is another by now.
        """
        self.guard()
        for path in (self.tokenizer, self.data):
            if path.exists() and self._old.exists():
                path.replace(self._old / path.name)
            shutil.rmtree(path, ignore_errors=True)
            (self.scratch / path.name).replace(path)

    def put_back(self) -> bool:
        """Undo what was set aside; return whether there was anything of ours. Raises SystemFault."""
        if self.lost() or not self._old.exists():
            return False
        try:
            for path in self._old.iterdir():
                place = self.root / path.name
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
                path.replace(place)
            self._old.rmdir()
        except OSError as error:
            raise system_fault(error, self._old) from error
        return True

    def forget(self) -> None:
        """Delete what was set aside. Raises SystemFault."""
        self._clear()
        try:
            if self._old.exists():
                self._old.replace(self._gone)
        except OSError as error:
            raise system_fault(error, self._old) from error
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._gone, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer. The kernel drops the lock of a process that died. Raises SystemFault when held."""
        try:
            file: TextIO = self._lock.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise system_fault(error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                owner = "".join(filter(str.isdigit, file.read(20))) or "unknown"
                raise SystemFault(f"{self.root}: in use by process {owner}; wait for it or stop it") from error
            except OSError as error:
                raise system_fault(error, self._lock) from error
            with suppress(OSError):  # the lock holds without a name: a full disk must not bar the way
                file.truncate(0)
                os.write(file.fileno(), f"{os.getpid()}\n".encode())
            self._clear()  # an overwrite was killed while it deleted
            self.put_back()  # or before it had begun
            self._locked = file
            try:
                yield
            finally:
                self._locked = None

    def lost(self) -> bool:
        """Whether the lock that we took is no longer at its path: the directory was moved, replaced or deleted."""
        if self._locked is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._locked.fileno()), self._lock.stat())
        except OSError:
            return True

    def guard(self) -> None:
        """Raise SystemFault when the directory is lost: what is at its path is not ours to write to."""
        if self.lost():
            raise SystemFault(
                f"{self.root}: was moved, replaced or deleted while in use, so nothing more is written; go on where it "
                "is now, with --resume"
            )


def write_atomically(path: Path, text: str) -> None:
    """Replace a small text file so that a reader, or a crash, sees the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a crash, or somebody's link, which would be followed
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise system_fault(error, path) from error


def sync_directory(path: Path) -> None:
    """Flush a directory, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Read JSON that this program wrote. Raises ArtefactError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}: missing; copy the run directory again, whole") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: damaged or unreadable: {error}; copy the run directory again") from error
