"""Work that takes all cores: one function over many jobs, and the results in the order of the jobs."""

import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, NamedTuple, Self, TypeVar

from transformer_mt.errors import SystemFault

PAYS = 2.0  # seconds of work that this process does by itself, about what the start of others takes
_ROOM = 2  # jobs that a process has at once, so that it never waits for us
_AHEAD = 4  # jobs a process that may be read before the results of those in front are taken
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def in_order(work: Callable[[_Job], _Result], jobs: Iterable[_Job]) -> Iterator[tuple[_Job, _Result]]:
    """Yield every job with its result, as :meth:`Pool.in_order` does, with processes that end with the last job."""
    with Pool(work, cores()) as pool:
        yield from pool.in_order(jobs)


def apart(work: Callable[[_Job], _Result], job: _Job) -> _Result:
    """What ``work`` makes of a job in a process of its own: a signal ends it, where ``work`` would not listen."""
    with Pool(work, 1) as pool:
        [(_, result)] = pool.shared([job])
        return result


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool(Generic[_Job, _Result]):
    """Processes that do jobs: started when it pays, kept for more jobs, killed at the end of its ``with``.

    ``work`` and jobs travel by pickle; a program needs its ``if __name__ == "__main__"``, as ever with
    :mod:`multiprocessing`.
    """

    def __init__(self, work: Callable[[_Job], _Result], processes: int) -> None:
        self._work, self._processes = work, processes
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def in_order(
        self, jobs: Iterable[_Job], here: Callable[[_Job], _Result] | None = None
    ) -> Iterator[tuple[_Job, _Result]]:
        """Yield every job with its result, in order, a few a process held in memory; one such call at a time.

        The first are done ``here`` (by ``work``, if left out), where few jobs are done before others would have
        started. What ``jobs`` or ``work`` raise comes after the results in front of it. Raises SystemFault when a
        process is killed.
        """
        left, alone, here = iter(jobs), PAYS, here or self._work
        for job in left:
            if self._processes > 1 and (self._workers or alone <= 0):
                yield from self.shared(chain([job], left))
                return
            begun = time.monotonic()
            result = here(job)
            alone -= time.monotonic() - begun
            yield job, result

    def shared(self, jobs: Iterable[_Job]) -> Iterator[tuple[_Job, _Result]]:
        """As :meth:`in_order`, by the processes alone."""
        left, tasks = _tasks(jobs), deque[_Task]()
        try:
            self._start()
            while True:
                while len(tasks) < _AHEAD * len(self._workers):
                    worker = min(self._workers, key=lambda worker: len(worker.tasks))
                    if len(worker.tasks) == _ROOM or (task := next(left, None)) is None:
                        break
                    tasks.append(task)
                    if not task.future.done():
                        worker.tasks.append(task)
                        worker.send(task.job)
                if not tasks:
                    return
                ready = wait([worker.pipe for worker in self._workers], 0 if tasks[0].future.done() else None)
                for worker in self._workers:
                    if worker.pipe in ready:
                        worker.collect()
                if tasks[0].future.done():
                    yield tasks[0].job, tasks.popleft().future.result()
        except BaseException:  # or nobody wants the rest
            self.stop()
            raise

    def _start(self) -> None:
        if self._workers:
            return
        resource_tracker.ensure_running()  # else the start of a process would start it, which unblocks signals
        # Processes inherit what is blocked: signals end us, and we end them.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            for _ in range(self._processes):
                self._workers.append(_Worker())  # at once: if the next cannot be started, this one is to be killed
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for worker in self._workers:
            worker.send(self._work)

    def stop(self) -> None:
        """Kill the processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


class _Task(NamedTuple):
    job: Any
    future: Future[Any]


def _tasks(jobs: Iterable[Any]) -> Iterator[_Task]:
    """Jobs as tasks; an error in reading them is the last."""
    try:
        for job in jobs:
            yield _Task(job, Future())
    except Exception as error:
        task = _Task(None, Future())
        task.future.set_exception(error)
        yield task


class _Worker:
    """A process that gets a function, then jobs, and answers each with a result."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.tasks = deque[_Task]()

    def send(self, what: Any) -> None:
        with suppress(ConnectionError):  # it was killed, as will be seen when its results are collected
            self.pipe.send(what)

    def collect(self) -> None:
        """Take a result that is there."""
        try:
            result = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise SystemFault(
                f"process {self.process.pid}: one of those that share the work was killed, perhaps for lack of memory; "
                "free some and start again"
            ) from error
        future = self.tasks.popleft().future
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _serve(pipe: Connection) -> None:
    """What a process does until the other end is closed, as it is, too, when its process is killed."""
    jobs = SimpleQueue[Any]()
    with suppress(EOFError, ConnectionError):
        work = pipe.recv()
        Thread(target=_receive, args=(pipe, jobs), daemon=True).start()
        while True:
            job = jobs.get()
            try:
                result = work(job)
            except Exception as error:
                error.add_note(traceback.format_exc())  # which is lost on the way, and wanted by --debug
                result = error
            pipe.send(result)


def _receive(pipe: Connection, jobs: SimpleQueue[Any]) -> None:
    """Take jobs in even while a result is on its way: else, with both ways full, both ends would wait for ever."""
    try:
        while True:
            jobs.put(pipe.recv())
    finally:
        os._exit(0)  # at once, whatever is being done
