"""The training loop: batches in, better weights out. It knows nothing of text or search; validation is handed in."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_mt.checkpoint import Checkpoints, load_weights, model_weights
from transformer_mt.config import Training
from transformer_mt.data.batching import Batches, Bucket, Position
from transformer_mt.device import choose_precision
from transformer_mt.errors import ArtefactError, NumericsError
from transformer_mt.memory import keep_freed_memory
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.terminal import warn
from transformer_mt.training.adam import Adam
from transformer_mt.training.distributed import Group
from transformer_mt.training.gradient import Gradient
from transformer_mt.training.limits import Limits, Pace
from transformer_mt.training.metrics import Metrics, Validation
from transformer_mt.training.schedule import learning_rate
from transformer_mt.training.shards import Shards, shards

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # signals that end a run after its step
_BAD_STEPS = 3  # in a row without a finite gradient end the run
_LEAST_SCALE = 1.0  # of a loss in float16: below it, overflow is not what is wrong


@dataclass
class Tally:
    """Sums over the steps since the last log line."""

    loss: float = 0.0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0  # without validating and saving


class _Stopped(Exception):
    """A validation was given up, for a signal came."""


@dataclass
class Progress:
    """All of the training state that is neither weights nor optimizer."""

    step: int = 0  # global batches, skipped ones included
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of all sittings
    best: float | None = None  # the best validation so far, the greater the better
    stale: int = 0  # validations since
    validated: int = -1  # the step of the last one
    skipped: int = 0  # steps without a finite gradient
    bad: int = 0  # those of them that were the last ones in a row
    most_positions: int | None = None  # of a bucket, once memory has run out
    lines: int | None = None  # of the metrics file
    finished: dict[str, Any] | None = None  # why training has ended, and under which limits
    scaler: dict[str, Any] = field(default_factory=dict)  # the state of loss scaling, in float16
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Progress":
        """Read what ``asdict`` gave."""
        return cls(**{**state, "position": Position(**state["position"]), "tally": Tally(**state.get("tally", {}))})


class Trainer:
    """Trains a model on batches, validates and saves as configured.

    ``validate`` is called between steps with the model in evaluation mode, and calls its argument now and then;
    ``about`` goes into every manifest; ``started`` is the ``time.monotonic()`` from which ``max_minutes`` is counted in
    this sitting. A ``group`` of processes does all of it together; its leader alone validates, saves and speaks.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        batches: Batches,
        settings: Training,
        checkpoints: Checkpoints,
        metrics: Metrics,
        validate: Callable[[Callable[[], None]], Validation],
        *,
        seed: int,
        about: dict[str, Any],
        started: float,
        group: Group | None = None,
    ) -> None:
        keep_freed_memory()
        self.model, self.batches, self.settings = model, batches, settings
        self.checkpoints, self.metrics, self.validate = checkpoints, metrics, validate
        self.seed, self.about = seed, about
        self.device = model.projection.device
        model.precision = choose_precision(settings.precision, self.device)
        self.optimizer = Adam(model, settings)
        # Small gradients vanish in float16 unless the loss is scaled up (Micikevicius et al. 2018).
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=model.precision == torch.float16)
        self.scaler.scale(torch.zeros((), device=self.device))  # it asks to be used before its gradients, if any, are
        self.group = group or Group()
        self._shards: Shards | None = None
        self.gradient = Gradient(model, settings, self.scaler, seed, self.group.rank if self.group.size > 1 else None)
        self.limits = Limits(settings)
        self.progress = Progress()
        self.signals = set[int]()  # that have come: those of ENDING, and SIGUSR1, which saves; handlers only add
        self.ended_by: int | None = None  # the signal that all have agreed to end by
        self._save_asked = self._time_is_up = False  # agreed, too
        self._started = started
        self._saved_at, self._validation_seconds = -1, 0.0
        self._pace = Pace()

    def resume(self, name: str) -> None:
        """Continue from a checkpoint, whose weights the model has already. Raises ArtefactError."""
        tensors, state = self.checkpoints.training(name)
        self.optimizer.load(tensors, name)
        try:
            self.progress = Progress.from_json(state)
        except (AttributeError, KeyError, TypeError) as error:  # sums may be right where the content is not
            raise ArtefactError(
                f"{name}: the training state is not one of this version ({error}); choose another run, or start anew "
                "with --overwrite"
            ) from error
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(self.progress.scaler)
        self._started -= self.progress.seconds
        self.gradient.most_positions = self.progress.most_positions
        self.metrics.keep(self.progress.lines)
        if self.group.lead(lambda: name in self.checkpoints.planned()):
            self._saved_at = self.progress.step

    def run(self) -> str:
        """Train until a limit; return the reason of the end (``interrupted`` when stopped from outside)."""
        try:
            return self._run()
        finally:
            self.batches.close()

    def _run(self) -> str:
        walk = self.batches.walk(self.progress.position)
        self.model.train()
        if not self.scaler.is_enabled():
            self._shards = shards(self.group, self.model, self.optimizer)
        self._confer()
        self._validate_and_save()  # if a signal came before the validation of the last step was complete
        while self.ended_by is None:
            if (reason := self._reason_to_end()) is not None:
                if not self._finish(reason):
                    break
                return reason
            begun = time.monotonic()
            buckets, after = next(walk)
            step, epoch = self.progress.step + 1, self.progress.position.epoch
            self.update(buckets, step, self.progress.tally)
            self.progress.step, self.progress.position = step, after
            self.progress.tally.seconds += time.monotonic() - begun
            if step % self.settings.log_every == 0:
                self._log(self.progress.tally, epoch)
                self.progress.tally = Tally()
            self._confer()
            self._validate_and_save()
        if self._saved_at != self.progress.step:
            self.save(planned=False)
        return "interrupted"

    def _confer(self) -> None:
        """Decide together what signals and clocks have told some of the processes.

        Nothing else is branched upon: a signal that one process knows of already would lead it another way.
        """
        limit = self.settings.max_minutes
        up = limit is not None and self._seconds() + self.limits.closing_seconds(self._validation_seconds) >= 60 * limit
        came = [number in self.signals for number in (*ENDING, signal.SIGUSR1)]
        *ends, self._save_asked, self._time_is_up = self.group.any(*came, up)
        if self._save_asked:
            self.signals.discard(signal.SIGUSR1)
        if self.ended_by is None:
            self.ended_by = next((number for number, end in zip(ENDING, ends, strict=True) if end), None)

    def _validate_and_save(self) -> None:
        """Do either when it is time; at the end of the run neither, for that does both."""
        if self._reason_to_end() is not None or self.progress.step == 0:
            return
        step = self.progress.step
        due = step % self.settings.validate_every == 0 and self.progress.validated != step
        if due and self.ended_by is None and self._validate():
            self.save(best=True)
        planned = step % self.settings.save_every == 0
        if (self._save_asked or planned) and self._saved_at != step and self.ended_by is None:
            self.save(planned=planned)

    def update(self, buckets: list[Bucket], step: int, tally: Tally) -> None:
        """One step: the gradient of the mean loss per target token of the whole batch, clipped, and Adam."""
        tokens = sum(bucket.tokens for bucket in buckets)
        smoothed, nll = self.group.sum(self.gradient.add(self.group.share(buckets), step, tokens))
        norm = self._clip()
        if math.isfinite(norm) and math.isfinite(smoothed):
            self.optimizer.rate = learning_rate(step, self.settings, self.model.settings.width)
            self.optimizer.step()
            self.scaler.update()
            self.progress.bad = 0
            tally.loss, tally.nll, tally.tokens = tally.loss + smoothed, tally.nll + nll, tally.tokens + tokens
        else:
            self._skip(step)
        self.model.zero_grad(set_to_none=True)
        if self._shards:
            self.group.meet()  # with new weights, all of them

    def _clip(self) -> float:
        """Sum the gradients of all processes, and clip the sum; return its norm before."""
        if self._shards:
            return self._shards.clip(self.settings.clip_norm)
        self.group.sum_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm))

    def _skip(self, step: int) -> None:
        """Leave the weights as they are after a loss or gradient that is not finite. Raises NumericsError.

        In float16 that is how the scale of the loss is found: it is halved.
        """
        self.progress.bad, self.progress.skipped = self.progress.bad + 1, self.progress.skipped + 1
        self.scaler.update()
        scaled = self.scaler.is_enabled()
        scale = self.scaler.get_scale()
        self.metrics.note(
            f"warning: step {step}: the loss or gradient is not finite; skipped"
            + (f", the loss is scaled by {scale:g} from now on" if scaled else "")
        )
        if scale < _LEAST_SCALE if scaled else self.progress.bad >= _BAD_STEPS:
            raise NumericsError(
                f"step {step}: {self.progress.bad} steps in a row without a finite gradient (the checkpoints so far "
                "are good); lower training.learning_rate, or train in float32"
            )

    def _log(self, tally: Tally, epoch: int) -> None:
        self._pace.note(self.settings.log_every, tally.seconds)
        self._warn_of_long_warmup()
        if tally.tokens == 0:
            return
        event = {
            "step": self.progress.step,
            "epoch": epoch + 1,
            "loss": tally.loss / tally.tokens,
            "nll": tally.nll / tally.tokens,
            "learning_rate": learning_rate(self.progress.step, self.settings, self.model.settings.width),
            "target_tokens_per_second": tally.tokens / tally.seconds,
            "seconds": round(self._seconds(), 3),
        }
        self.metrics.train(event, self._seconds_left())

    def _seconds_left(self) -> float | None:
        epochs, batches, position = self.settings.max_epochs, self.batches, self.progress.position
        steps = None if epochs is None else epochs * batches.steps_per_epoch - batches.steps_before(position)
        return self.limits.seconds_left(
            self.progress.step, steps, self._seconds(), self._pace, self._validation_seconds
        )

    def _warn_of_long_warmup(self) -> None:
        """Say so when the run ends before the learning rate is up: nothing will be learnt."""
        step = self.progress.step
        if step != 3 * self.settings.log_every:
            return
        if (fitting := self.limits.warmup_that_fits(step, self._seconds(), self._pace)) is not None:
            self.metrics.note(
                f"warning: about {fitting[0]:,} steps fit into this run, but the learning rate rises for "
                f"{self.settings.warmup_steps:,}; set training.warmup_steps to {fitting[1]}, or give more time"
            )

    def _validate(self, name: str | None = None) -> bool:
        """Validate the weights as they are, called ``name`` if they are no step's; return whether none were better.

        When a signal comes meanwhile, it is given up.
        """
        begun = time.monotonic()
        self.model.eval()
        validation = self.group.lead(self._validation)
        self.model.train()
        if validation is None:
            self._confer()  # the leader knows which signal came
            return False
        value = validation.bleu if self.settings.best_by == "bleu" else -validation.nll
        before = -math.inf if self.progress.best is None else self.progress.best
        best = value >= before  # ties go to the newer, but are no progress; NaN is neither
        if name is None:
            self.progress.stale = 0 if value > before else self.progress.stale + 1
            self.progress.validated, self._validation_seconds = self.progress.step, time.monotonic() - begun
        if best:
            self.progress.best = value
        self.metrics.valid(self.progress.step, validation, best=best, name=name)
        return best

    def _validation(self) -> Validation | None:
        """The validation, or None when a signal came."""
        try:
            return self.validate(self._go_on)
        except _Stopped:
            return None

    def _go_on(self) -> None:
        if {*ENDING} & self.signals:
            raise _Stopped

    def done(self) -> bool:
        """Whether this run, with these limits, has ended already."""
        return self.progress.finished is not None and self.progress.finished["limits"] == self.limits.as_json()

    def save(self, *, best: bool = False, planned: bool = True) -> None:
        """Save everything, and delete what is not to be kept.

        What was not ``planned`` does not count among the checkpoints to be kept and averaged: a run that was
        interrupted has the same average as one that was not.
        """
        self.progress.seconds, self.progress.scaler = self._seconds(), self.scaler.state_dict()
        self.group.lead(lambda: self._write(best=best, planned=planned))
        self._saved_at = self.progress.step

    def _write(self, *, best: bool, planned: bool) -> None:
        name = f"step-{self.progress.step:06}"
        self.progress.lines, self.progress.most_positions = self.metrics.flush(), self.gradient.most_positions
        self.checkpoints.save(
            name,
            model_weights(self.model),
            {"step": self.progress.step, **({} if planned else {"unplanned": True}), **self.about},
            self.optimizer.tensors(),
            asdict(self.progress),
        )
        self.checkpoints.point("last", name)
        if best:
            self.checkpoints.point("best", name)
        self.checkpoints.prune(self.settings.keep_last)

    def _finish(self, reason: str) -> bool:
        """Validate the last step and the average of the checkpoints kept, and save; return False when a signal came."""
        if self.progress.validated != self.progress.step and self._validate():
            self.save(best=True)
        if self.settings.average and self.ended_by is None:
            self._average()
        if self.ended_by is not None:
            return False
        self.progress.finished = {"reason": reason, "limits": self.limits.as_json()}
        self.save()
        return True

    def _average(self) -> None:
        """Validate the mean of the last ``keep_last`` steps, and save it if it is the best."""
        own: dict[str, Tensor] = {}  # what the leader, which alone changes weights here, puts back
        names = self.group.lead(lambda: self._load_average(own))
        if names:
            if self._validate(f"average-{self.progress.step:06}"):
                self.group.lead(lambda: self._keep_average(names))
            self.group.lead(lambda: load_weights(self.model, own, names[-1]))

    def _load_average(self, own: dict[str, Tensor]) -> list[str]:
        """Give the model the mean of the last steps, and ``own`` its weights; return the steps, none if left out."""
        step = f"step-{self.progress.step:06}"
        names = [name for name in self.checkpoints.planned() if name != step]
        names = names[max(0, len(names) + 1 - self.settings.keep_last) :]
        if not names:
            return []
        own.update({key: value.clone() for key, value in model_weights(self.model).items()})
        try:
            load_weights(self.model, self.checkpoints.average(names, own), "the average")
        except ArtefactError as error:
            warn(f"{str(error).rpartition('; ')[0]}; the average is left out")
            return []
        return [*names, step]

    def _keep_average(self, names: list[str]) -> None:
        name = f"average-{self.progress.step:06}"
        about = {"step": self.progress.step, "average_of": names, **self.about}
        self.checkpoints.save(name, model_weights(self.model), about)
        self.checkpoints.point("best", name)

    def _reason_to_end(self) -> str | None:
        progress = self.progress
        return self.limits.reason_to_end(
            progress.step, progress.position.epoch, progress.stale, time_is_up=self._time_is_up
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._started
