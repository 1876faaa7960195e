"""Work that takes all cores: one function over many jobs, and the results in the order of the jobs."""

import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import islice
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from transformer_mt.errors import SystemFault

ALONE = 64  # jobs that this process does by itself: few are done before others would have started

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def in_order(work: Callable[[_Job], _Result], jobs: Iterable[_Job]) -> Iterator[tuple[_Job, _Result]]:
    """Yield every job with its result, in order; of many jobs, one a core is held in memory.

    ``work`` and jobs travel by pickle. Raises what ``work`` raises, SystemFault when a process is killed.
    """
    jobs, cores = iter(jobs), _cores()
    for job in islice(jobs, ALONE if cores > 1 else None):
        yield job, work(job)
    if (next_job := next(jobs, None)) is None:
        return
    with ExitStack() as stack:
        idle = deque(stack.enter_context(closing(_Worker())) for _ in range(cores))
        for worker in idle:  # once all have started
            worker.send(work)
        busy = deque[tuple[_Job, _Worker]]()
        while next_job is not None:
            finished = []
            if not idle:
                job, worker = busy.popleft()
                finished.append((job, worker.result()))
                idle.append(worker)
            busy.append((next_job, idle.popleft()))
            busy[-1][1].send(next_job)
            yield from finished
            next_job = next(jobs, None)  # is read while the others work
        yield from ((job, worker.result()) for job, worker in busy)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that gets a function, then jobs, and answers each with a result."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        resource_tracker.ensure_running()  # else the start of the process would start it, which unblocks signals
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # inherited: they end
        try:  # us, we the process
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            other.close()

    def send(self, work: Any) -> None:
        try:
            self._pipe.send(work)
        except BrokenPipeError as error:
            raise self._killed() from error

    def result(self) -> Any:
        try:
            result = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._killed() from error
        if isinstance(result, Exception):
            raise result
        return result

    def _killed(self) -> SystemFault:
        return SystemFault(
            f"process {self._process.pid}: one of those that read the text was killed, perhaps for lack of memory; "
            "free some and start again"
        )

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """Do jobs until the other end is closed, as it is, too, when its process is killed."""
    with suppress(EOFError, OSError):
        work = pipe.recv()
        while True:
            job = pipe.recv()
            try:
                result = work(job)
            except Exception as error:
                error.add_note(traceback.format_exc())  # which is lost on the way, and wanted by --debug
                result = error
            pipe.send(result)
