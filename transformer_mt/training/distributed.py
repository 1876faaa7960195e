"""Several processes that train one model: what they share, and what they decide together.

``torchrun`` starts them. Each takes its share of every batch and adds its gradient to the others', for a model of its
own or, on one machine, one that they share: see shards.py. Everything else, text, validation, files and what is said,
is the business of the first, the leader.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from transformer_mt import terminal
from transformer_mt.data.batching import Bucket
from transformer_mt.errors import ConfigError, Interrupted, MtError, NumericsError, SystemFault, system_fault

Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
_STEP = timedelta(seconds=120)  # within which all take part in a step, or one hangs
_BEGUN = "begun"  # a key of torchrun's store
_LEADER = timedelta(days=30)  # the others wait for it: it may tokenize or validate for long, and its death is noticed


class Elsewhere(MtError):
    """An error of another process, which tells it; this one ends with the same code and says nothing."""

    silent = True

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Group:
    """The processes of a run; a single one unless it is made by :func:`joined`.

    What all do in a step has to be done in two minutes; ``patient`` is for waiting for the leader.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        device: torch.device | None = None,
        patient: dist.ProcessGroup | None = None,
        store: Any = None,
    ) -> None:
        """``store`` is the one that torchrun keeps when it starts the processes again after one of them died."""
        self.rank, self.size, self._device, self._patient, self._store = rank, size, device, patient, store

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def begin(self) -> None:
        """Remember, even if a process dies, that the run is begun: no flag is to be followed twice."""
        if self._store is not None:
            with self._in_touch():
                self._store.set(_BEGUN, "")

    def begun(self) -> bool:
        """Whether the run was begun by earlier processes, after whose death torchrun has started these."""
        if self._store is None:
            return False
        with self._in_touch():
            return bool(self._store.check([_BEGUN]))

    def share(self, buckets: Sequence[Bucket]) -> list[Bucket]:
        """This process' part of a batch, of about the same cost as any other's; it may be empty.

        Buckets are dealt whole as far as they go round, the largest first; each of the rest is cut into parts.
        """
        order = sorted(buckets, key=lambda bucket: -bucket.positions)
        whole = len(order) // self.size * self.size
        parts = [bucket.part(self.rank, self.size) for bucket in order[whole:]] if self.size > 1 else []
        dealt = order[self.rank : whole : self.size] if self.size > 1 else list(buckets)
        return [bucket for bucket in (*dealt, *parts) if len(bucket.rows)]

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradient of each parameter by the sum of all processes'. Raises SystemFault."""
        if self.size == 1:
            return
        parameters = list(parameters)
        # There is none of an empty share.
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        with self._in_touch():
            dist.all_reduce(flat)
        for parameter, total in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = total.view_as(parameter)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes, the same for all of them. Raises SystemFault."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        with self._in_touch():
            dist.all_reduce(total)
        return total.tolist()

    def meet(self) -> None:
        """Wait until all are here. Raises SystemFault."""
        self.sum([0.0])

    def memory(self, numbers: int) -> torch.Tensor | None:
        """As many float32 zeros in memory that all see; None for one process, for several machines, and with GPUs."""
        here = os.environ.get("LOCAL_WORLD_SIZE") == str(self.size)
        if self.size == 1 or not here or self._device != torch.device("cpu") or not hasattr(os, "memfd_create"):
            return None
        file, memory = None, None
        with suppress(OSError):
            file = os.memfd_create("transformer_mt") if self.leads else None  # it goes with the last process
        path = self.lead(lambda: f"/proc/{os.getpid()}/fd/{file}")
        with suppress(OSError, RuntimeError):
            memory = torch.from_file(path, shared=True, size=numbers)
        (missed,) = self.any(memory is None)
        if file is not None:
            os.close(file)
        return None if missed else memory

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is raised anywhere."""
        return [count > 0 for count in self.sum([float(flag) for flag in flags])]

    def lead(self, job: Callable[[], Result]) -> Result:
        """Let the leader do a job alone; all get what it returns, or end with its error."""
        if self.size == 1:
            return job()
        failure: BaseException | None = None
        outcome: list[Any] = [None, None]  # the result, or the code and message of an error
        if self.leads:
            try:
                outcome[0] = job()
            except BaseException as error:  # a signal, too
                failure = system_fault(error) if isinstance(error, OSError) else error
                code = (
                    failure.code if isinstance(failure, MtError) else 130 if isinstance(error, KeyboardInterrupt) else 1
                )
                outcome[1] = (code, str(failure))
            with suppress(RuntimeError) if failure else self._in_touch():
                dist.broadcast_object_list(outcome, src=0, group=self._patient)
            if failure:
                raise failure
        else:
            with self._in_touch():
                dist.broadcast_object_list(outcome, src=0, group=self._patient)
            if outcome[1] is not None:
                raise Elsewhere(outcome[1][1], outcome[1][0])
        return outcome[0]  # type: ignore[no-any-return]

    def compare(self, mine: dict[str, Any]) -> None:
        """Make sure that all processes have the same. Raises ConfigError naming the first that has not."""
        if self.size == 1:
            return
        everyones: list[Any] = [None] * self.size
        with self._in_touch():
            dist.all_gather_object(everyones, mine, group=self._patient)
        for rank, theirs in enumerate(everyones):
            names = [name for name in everyones[0] if everyones[0][name] != theirs.get(name)]
            if names:
                differences = ", ".join(
                    f"{name} is {theirs.get(name)} but {everyones[0][name]} in rank 0" for name in names
                )
                error = ConfigError(f"rank {rank}: {differences}; start all ranks with the same")
                raise error if self.leads else Elsewhere(str(error), error.code)

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        """Raise SystemFault where another process has gone."""
        try:
            yield
        except RuntimeError as error:
            raise SystemFault(
                f"rank {self.rank}: lost the other processes of the run; see which of them ended first, and why"
            ) from error


def _end_with_parent() -> None:
    """Let SIGTERM tell of the death of torchrun, which starts processes in sessions of their own (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """Join the processes that torchrun has started, if it has. Raises SystemFault when they do not find each other."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    _end_with_parent()
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        # torchrun keeps the store when it starts the processes again: the addresses of the dead are still in it.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        own = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, timeout=_STEP, store=own, rank=rank, world_size=size)
        patient = dist.new_group(backend="gloo", timeout=_LEADER)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SystemFault(
            f"the processes of the run do not find each other: {reason}; start them with torchrun"
        ) from error
    group = Group(rank, size, device, patient, store)
    terminal.mute(not group.leads)
    try:
        yield group
    except (Interrupted, NumericsError, KeyboardInterrupt) as error:  # which all have
        if group.leads:
            raise
        raise Elsewhere(str(error), getattr(error, "code", 130)) from error
    finally:
        terminal.mute(False)
        dist.destroy_process_group()
