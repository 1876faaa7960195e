"""What training will take: the largest batch, validation, saving and loading, and the time to the end."""

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transformer_mt.checkpoint import load_weights
from transformer_mt.config import Training
from transformer_mt.data.batching import Bucket, Position
from transformer_mt.evaluate import mean_nll
from transformer_mt.training.trainer import Tally, Trainer
from transformer_mt.translate import Translator

_WARM_STEPS, _STEPS, _SECONDS = 3, 12, 15.0  # steps that are timed, at least so many and so long
_MOST_SECONDS = 60.0
_TURNS = 4
_BATCHES = 4  # of the validation set that are tried


@dataclass(frozen=True)
class Preflight:
    """Times are in seconds, memory in bytes."""

    device: str
    precision: str
    parameters: int
    memory: int  # the most that was held, on a GPU of its memory, else by the process
    largest_batch: tuple[int, int, int]  # B, S, T
    step: float
    bfloat16: float | None  # a step in that precision, tried where a CPU computes in float32
    tokens_per_second: float
    steps_per_epoch: float
    validation: float
    saving: float
    loading: float
    sentence: float  # translated alone, as a person at the prompt waits
    checkpoint_bytes: int
    disk_free: int
    total: float  # to the end of the run
    ends_by: str  # the limit that ends it
    steps: int  # until then


def preflight(trainer: Trainer, translator: Translator, sources: Sequence[str], references: Sequence[str]) -> Preflight:
    """Try everything that a run will do, in the trainer's own checkpoint folder, which should be a scratch one.

    ``sources`` and ``references`` are those of all validation sets. The model's weights are changed. Raises DataError
    when no pair of them has text on both sides.
    """
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    # Small weights may leave the first window empty.
    batches = trainer.batches.window(0, 0) or [next(trainer.batches.walk(Position()))[0]]
    largest = max(batches, key=lambda buckets: max(bucket.positions for bucket in buckets))
    longest = max(batches, key=lambda buckets: max(max(bucket.shape[1:]) for bucket in buckets))  # attention is square
    trainer.model.train()
    for batch in (largest, longest):
        trainer.update(batch, 1, Tally())
    if trainer.gradient.most_positions is not None:
        raise MemoryError("out of memory: a batch had to be split")
    pairs = [pair for pair in zip(sources, references, strict=True) if pair[0].strip() and pair[1].strip()]
    validation = _time_validation(translator, trainer.settings, pairs)
    step, tokens = _time_steps(trainer, batches)
    bfloat16 = _time_bfloat16(trainer, batches, step)
    begun = time.monotonic()
    trainer.save()
    saving = time.monotonic() - begun
    name = trainer.checkpoints.newest()
    assert name is not None
    begun = time.monotonic()
    load_weights(trainer.model, trainer.checkpoints.weights(name), name)
    loading = time.monotonic() - begun
    folder = trainer.checkpoints.directory
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    middle = sorted(pairs, key=lambda pair: len(pair[0]))[len(pairs) // 2]
    trainer.model.eval()
    sentence = _time_search(translator, [middle])
    per_epoch = trainer.batches.steps_per_epoch
    steps, seconds, reason = _end(trainer.settings, per_epoch, step, validation, saving)
    return Preflight(
        device=str(trainer.device),
        precision=str(trainer.model.precision).removeprefix("torch."),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        memory=_peak_memory(trainer.device),
        largest_batch=max(largest, key=lambda bucket: bucket.positions).shape,
        step=step,
        bfloat16=bfloat16,
        tokens_per_second=tokens,
        steps_per_epoch=per_epoch,
        validation=validation,
        saving=saving,
        loading=loading,
        sentence=sentence,
        checkpoint_bytes=size,
        disk_free=shutil.disk_usage(folder).free,
        total=seconds,
        ends_by=reason,
        steps=steps,
    )


def _time_steps(trainer: Trainer, batches: list[list[Bucket]]) -> tuple[float, float]:
    """Seconds a step and target tokens a second, a mean over batches of an epoch; a slow device tries fewer."""
    number, seconds, tokens, timed = 1, 0.0, 0, 0
    while seconds < _SECONDS or timed < _STEPS:
        if timed >= 2 and seconds > _MOST_SECONDS:
            break
        number += 1
        tally, begun = Tally(), time.monotonic()
        trainer.update(batches[number % len(batches)], number, tally)
        if number > 1 + _WARM_STEPS:
            seconds, tokens, timed = seconds + time.monotonic() - begun, tokens + tally.tokens, timed + 1
    return seconds / timed, tokens / seconds


def _time_bfloat16(trainer: Trainer, batches: list[list[Bucket]], step: float) -> float | None:
    """Seconds a step in bfloat16: the same batches in either precision in turn, as the machine may be busy."""
    if trainer.device.type != "cpu" or trainer.model.precision != torch.float32:
        return None
    seconds = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for number in range(1 + _TURNS):
        for precision in seconds:
            trainer.model.precision = precision
            begun = time.monotonic()
            trainer.update(batches[number % len(batches)], 1, Tally())
            if number > 0:  # the first warms up
                seconds[precision] += time.monotonic() - begun
    trainer.model.precision = torch.float32
    return step * seconds[torch.bfloat16] / seconds[torch.float32]


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _time_validation(translator: Translator, settings: Training, pairs: Sequence[tuple[str, str]]) -> float:
    """Foretell a validation of ``pairs`` from some of its batches, which are of sentences of about one length."""
    size = translator.decoding.batch_size
    ordered = sorted(pairs, key=lambda pair: len(pair[0]))
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    some = [pair for batch in batches[len(batches) // (2 * _BATCHES) :: -(-len(batches) // _BATCHES)] for pair in batch]
    greedy = translator.decoding.model_copy(update={"beam_size": 1})
    translator.model.eval()
    searching = _time_search(Translator(translator.model, translator.tokenizer, greedy, translator.device), some)
    begun = time.monotonic()
    mean_nll(translator, [source for source, _ in some], [target for _, target in some], settings.device_tokens)
    translator.model.train()
    return (searching + time.monotonic() - begun) * len(pairs) / len(some)


def _time_search(translator: Translator, pairs: Sequence[tuple[str, str]]) -> float:
    """Seconds that a trained model's search would take for the sources, in batches as they come.

    An untrained one translates without end: the time of a batch is taken for as many pieces as its longest reference
    has.
    """
    size, seconds = translator.decoding.batch_size, 0.0
    for start in range(0, len(pairs), size):
        sources, references = zip(*pairs[start : start + size], strict=True)
        ids = translator.encode(sources)
        begun = time.monotonic()
        found = translator.search(ids, scored=False)
        taken = time.monotonic() - begun
        written = max(len(best.ids) for best, *_ in found) + 1
        wanted = max(map(len, translator.tokenizer.encode_target(references))) + 1
        seconds += taken * min(1.0, wanted / written)
    return seconds


def _end(
    settings: Training, steps_per_epoch: float, step: float, validation: float, saving: float
) -> tuple[int, float, str]:
    """Steps and seconds to the first limit, and which it is; patience may end the run before."""
    every_step = step + validation / settings.validate_every + saving / settings.save_every
    closing = (2 if settings.average else 1) * validation + saving
    ends: list[tuple[float, int, str]] = []
    if settings.max_steps is not None:
        steps = settings.max_steps
        ends.append((steps * every_step + closing, steps, f"max_steps {steps:,}"))
    if settings.max_epochs is not None:
        steps = round(settings.max_epochs * steps_per_epoch)
        ends.append((steps * every_step + closing, steps, f"max_epochs {settings.max_epochs}"))
    if settings.max_minutes is not None:
        seconds = 60 * settings.max_minutes
        steps = max(0, int((seconds - closing) / every_step))
        ends.append((seconds, steps, f"max_minutes {settings.max_minutes:g}"))
    seconds, steps, reason = min(ends)
    return steps, seconds, reason
