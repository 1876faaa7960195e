"""Translating on all cores: batches are dealt to processes, and what they find comes back in order."""

from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Self

import torch

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.parallel import Pool, cores
from transformer_mt.rundir import RunDirectory
from transformer_mt.translate import Batch, Translation, Translator, Wanted

_Job = tuple[list[list[int]], Wanted]  # encoded lines, and what of them
_Found = list[list[Translation]]


def processes() -> int:
    """The processes to translate with on the CPU: one a core, but no more than PyTorch's threads."""
    return min(cores(), torch.get_num_threads())


class AllCores(Translator):
    """A Translator that shares long work with processes, one a core; they end with its ``with``.

    On the CPU only. The processes load the same checkpoint and have one thread each; meanwhile this one only deals out
    batches, which are those of a Translator, as are the results.
    """

    _pool: Pool[_Job, _Found] | None = None

    @classmethod
    def from_config(cls, settings: Config, checkpoint: str = "best") -> Self:
        """As for a Translator; what is the best checkpoint now is so for all processes."""
        name = Checkpoints(RunDirectory(Path(settings.run_dir)).checkpoints).resolve(checkpoint)
        translator = super().from_config(settings, name)
        if translator.device.type == "cpu":
            translator._pool = Pool(_Elsewhere(settings, name), processes())
        return translator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.stop()

    def each(self, batches: Iterable[Batch], wanted: Wanted) -> Iterator[tuple[Batch, _Found]]:
        """As for a Translator, but that batches are read ahead. Raises SystemFault when a process is killed."""
        if self._pool is None:
            yield from super().each(batches, wanted)
            return
        batches, again = tee(batches)
        jobs = ((batch.sources, wanted) for batch in batches)
        found = self._pool.in_order(jobs, lambda job: self.translate_batch(*job))
        for (_, translations), batch in zip(found, again, strict=False):  # in this order: the former reads ahead
            yield batch, translations


class _Elsewhere:
    """The Translator of another process, loaded there at the first batch."""

    def __init__(self, settings: Config, checkpoint: str) -> None:
        self._origin = (settings, checkpoint)
        self._translator: Translator | None = None

    def __call__(self, job: _Job) -> _Found:
        if self._translator is None:
            torch.set_num_threads(1)
            self._translator = Translator.from_config(*self._origin)
        return self._translator.translate_batch(*job)
