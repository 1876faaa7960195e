"""Translating on all cores: batches are dealt to processes, and what they find comes back in order."""

import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import torch

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.errors import SystemFault
from transformer_mt.rundir import RunDirectory
from transformer_mt.translate import Batch, Translation, Translator

_PAYS = 2.0  # seconds of translating, about what the start of a process costs
_ROOM = 2  # batches that a worker has at once, so that it never waits for us
_AHEAD = 8  # batches a process that may be done before those in front of them are

_Origin = tuple[Config, str]  # a configuration and the name of a checkpoint
_Found = list[list[Translation]]


def cores() -> int:
    """The processes to translate with on the CPU: the cores that are ours, but no more than PyTorch's threads."""
    return min(len(os.sched_getaffinity(0)), torch.get_num_threads())


@dataclass
class _Task:
    batch: Batch
    found: _Found | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    room: int = 0  # batches that it can be given now; none before its model is loaded
    tasks: deque[_Task] = field(default_factory=deque)


class AllCores(Translator):
    """A Translator that shares long work with processes, one a core; they end with its ``with``.

    On the CPU only. The processes are started once translating has taken some seconds and load the same checkpoint;
    then each, this one too, has one thread. Batches and results are those of a Translator. As ever with
    :mod:`multiprocessing`, a program that uses it needs its ``if __name__ == "__main__"``.
    """

    _origin: _Origin | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cores, self._threads = cores(), torch.get_num_threads()
        self._workers, self._seconds = list[_Worker](), 0.0  # and what it has taken so far

    @classmethod
    def from_config(cls, settings: Config, checkpoint: str = "best") -> Self:
        """As for a Translator; what is the best checkpoint now is so for all processes."""
        name = Checkpoints(RunDirectory(Path(settings.run_dir)).checkpoints).resolve(checkpoint)
        translator = super().from_config(settings, name)
        if translator.device.type == "cpu":
            translator._origin = (settings, name)
        return translator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()
        torch.set_num_threads(self._threads)

    def each(self, batches: Iterable[Batch], best: int, *, tokens: bool) -> Iterator[tuple[Batch, _Found]]:
        """As for a Translator, but that batches are read ahead. Raises SystemFault when a process is killed."""
        left, errors, tasks = iter(batches), list[Exception](), deque[_Task]()

        def take() -> _Task | None:
            try:
                task = _Task(next(left))
            except StopIteration:
                return None
            except Exception as error:  # in the text, after lines that are still to be translated
                errors.append(error)
                return None
            tasks.append(task)
            return task

        while True:
            for worker in self._workers:
                while worker.room and (task := take()) is not None:
                    self._give(worker, task, best, tokens=tokens)
            if len(tasks) < _AHEAD * (1 + len(self._workers)) and (task := take()) is not None:
                if self._seconds > _PAYS:
                    self._start_more()
                begun = time.monotonic()
                task.found = self.translate_batch(task.batch.sources, best, tokens=tokens)
                self._seconds += time.monotonic() - begun
                self._collect(0)
            elif tasks:
                self._collect(None)
            elif errors:
                raise errors[0]
            else:
                return
            while tasks and (found := tasks[0].found) is not None:
                yield tasks.popleft().batch, found

    def _start_more(self) -> None:
        """Double the processes, up to one a core: with little left to do, few are started in vain."""
        if self._origin is None:
            return
        context, now = get_context("spawn"), 1 + len(self._workers)
        for _ in range(now, min(self._cores, 2 * now)):
            torch.set_num_threads(1)
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._origin), daemon=True)
            resource_tracker.ensure_running()  # else the start of the process would start it, which unblocks signals
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # inherited: they end
            try:  # us, we the process
                process.start()
                self._workers.append(_Worker(process, ours))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                theirs.close()

    def _give(self, worker: _Worker, task: _Task, best: int, *, tokens: bool) -> None:
        worker.room -= 1
        worker.tasks.append(task)
        with suppress(ConnectionError):  # it was killed, as will be seen when its results are collected
            worker.pipe.send((task.batch.sources, best, tokens))

    def _collect(self, timeout: float | None) -> None:
        """Take what workers have found; wait ``timeout`` seconds for it, if need be, or as long as it takes (None)."""
        ready = wait([worker.pipe for worker in self._workers], timeout)
        for worker in self._workers:
            while worker.pipe in ready and worker.pipe.poll():
                try:
                    found: _Found | Exception | None = worker.pipe.recv()
                except (EOFError, ConnectionError) as error:
                    processes = 1 + len(self._workers)
                    raise SystemFault(
                        f"process {worker.process.pid}: one of {processes} that translate was killed, perhaps for lack "
                        "of memory; set OMP_NUM_THREADS=1 for a single one"
                    ) from error
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    worker.room = _ROOM
                else:
                    worker.tasks.popleft().found = found
                    worker.room += 1


def _serve(pipe: Connection, origin: _Origin) -> None:
    """What a process does: say None when the model is loaded; then, of each batch, what it found or the error."""
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):  # whoever started it is gone
        try:
            translator = Translator.from_config(*origin)
            pipe.send(None)
            while True:
                sources, best, tokens = pipe.recv()
                pipe.send(translator.translate_batch(sources, best, tokens=tokens))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            error.add_note(traceback.format_exc())  # which is lost on the way, and wanted by --debug
            pipe.send(error)
