"""What must be equal in training: accumulated and large batches, resumed and uninterrupted runs, averages by hand."""

import functools
import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.conftest import toy_pairs
from transformer_mt import config
from transformer_mt.checkpoint import Checkpoints, load_weights, model_weights
from transformer_mt.config import Training
from transformer_mt.data.batching import Batches, Bucket, Position, SubwordSampling
from transformer_mt.data.store import Pieces, Store, StoreWriter
from transformer_mt.data.tokenizer import learn
from transformer_mt.device import choose_precision
from transformer_mt.errors import ConfigError, NumericsError
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import PAD
from transformer_mt.training import trainer
from transformer_mt.training.metrics import Metrics, Validation
from transformer_mt.training.trainer import Trainer

VOCABULARY = 43


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Copying tasks: 300 pairs of up to 9 ids."""
    rng, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    with StoreWriter(folder, {"source": VOCABULARY, "target": VOCABULARY}) as writer:
        ids = Pieces.of(rng.integers(4, VOCABULARY, rng.integers(1, 10)).tolist() for _ in range(300))
        writer.add([ids, ids], [Pieces.lines(b"x\n" * 300)] * 2)
    return Store(folder)


class Run:
    """A trainer on the copying task, in a folder of its own."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        dropout: float = 0.0,
        device_tokens: int = 64,
        sampling: SubwordSampling | None = None,
        step: int = 0,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        sizes = {"size": "tiny", "layers": 1, "width": 22, "heads": 11, "feed_forward": 29}
        vocabulary = VOCABULARY if sampling is None else sampling.tokenizer.source_size
        self.model = Transformer(config.Transformer.model_validate({**sizes, "dropout": dropout}), vocabulary)
        defaults = {"batch_tokens": 200, "device_tokens": device_tokens, "max_steps": 12, "warmup_steps": 4}
        intervals = {"save_every": 4, "validate_every": 4, "log_every": 1}
        self.settings = Training.model_validate(
            {**defaults, **intervals, "learning_rate": 1e-2, "average": False, **options}
        )
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.validations = 0
        folder.mkdir(exist_ok=True)
        self.metrics_file = folder / "metrics.jsonl"
        self.trainer = Trainer(
            self.model, Batches(store, 200, device_tokens, seed=3, sampling=sampling), self.settings, self.checkpoints,
            Metrics(self.metrics_file, step), self.validate, seed=3, about={}, started=0.0,
        )  # fmt: skip

    def validate(self, go_on: Callable[[], None]) -> Validation:
        self.validations += 1
        assert not self.model.training
        return Validation(nll=1.0, bleu=float(self.validations), signature="none", samples=[])

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in model_weights(self.model).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_accumulated_gradients_equal_those_of_one_large_batch(store: Store, tmp_path: Path) -> None:
    """Buckets of a batch, one after the other, against the mean loss per target token of all its pairs at once."""
    run = Run(store, tmp_path / "a", device_tokens=40, clip_norm=1e9, max_steps=1, label_smoothing=0.0)
    buckets, _ = next(run.trainer.batches.walk(run.trainer.progress.position))
    assert len(buckets) > 2
    gradients: dict[str, torch.Tensor] = {}
    run.trainer.optimizer.step = lambda *_: gradients.update(  # type: ignore[method-assign]
        {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
    )
    run.model.train()
    run.trainer.run()

    run.model.zero_grad()
    batch = Bucket(store.source, store.target, np.concatenate([bucket.rows for bucket in buckets])).collate()
    logits = run.model.logits(run.model(batch.source, batch.target_in).hidden)
    F.cross_entropy(logits.flatten(0, 1), batch.target_out.flatten(), ignore_index=PAD).backward()  # type: ignore[no-untyped-call]
    for name, parameter in run.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def equal_when_resumed(store: Store, folder: Path, **options: Any) -> Run:
    """Train 19 steps in one go, and in two that are parted after an odd one: weights, optimizer and progress equal."""
    whole = Run(store, folder / "whole", max_steps=19, **options)
    whole.trainer.run()
    assert whole.trainer.progress.position.epoch > 0

    first = Run(store, folder / "parts", max_steps=19, **options)
    update = first.trainer.update

    def stop_after_seven(*arguments: Any) -> None:
        update(*arguments)
        first.trainer.signals |= {signal.SIGTERM} if arguments[1] == 7 else set()

    first.trainer.update = stop_after_seven  # type: ignore[method-assign, assignment]
    assert first.trainer.run() == "interrupted"
    second = Run(store, folder / "parts", max_steps=19, step=7, **options)
    second.validations = first.validations
    name = second.checkpoints.resolve("last")
    assert name == "step-000007"
    load_weights(second.model, second.checkpoints.weights(name), name)
    second.trainer.resume(name)
    second.trainer.run()

    assert same(whole.weights(), second.weights())
    (tensors, state), (tensors_, state_) = (run.checkpoints.training("step-000019") for run in (whole, second))
    assert same(tensors, tensors_)
    del state["seconds"], state_["seconds"]
    assert state == state_
    return whole


def test_a_resumed_run_equals_an_uninterrupted_one(store: Store, tmp_path: Path) -> None:
    """With dropout, across an epoch, bit by bit."""
    equal_when_resumed(store, tmp_path, dropout=0.3)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_resumed_run_equals_an_uninterrupted_one_with_subword_sampling(
    tmp_path: Path, kind: Literal["unigram", "bpe"]
) -> None:
    pairs = toy_pairs(60)
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    settings = config.Tokenizer(kind=kind, vocab_size=300)
    tokenizer = learn(lambda: iter(sources), lambda: iter(targets), len(pairs), settings, seed=1)
    with StoreWriter(tmp_path, {"source": 300, "target": 300}) as writer:
        ids = [Pieces.of(tokenizer.encode_source(sources)), Pieces.of(tokenizer.encode_target(targets))]
        writer.add(ids, [Pieces.lines("".join(line + "\n" for line in side).encode()) for side in (sources, targets)])
    sampling = SubwordSampling(tokenizer, 0.2, 64)
    sampled = equal_when_resumed(Store(tmp_path), tmp_path, sampling=sampling, dropout=0.1)
    tiny = Run(Store(tmp_path), tmp_path / "plain", sampling=SubwordSampling(tokenizer, 0.2, 0), max_steps=19,
               dropout=0.1)  # fmt: skip
    tiny.trainer.run()  # no piece is allowed: the stored ones are taken
    assert not same(sampled.weights(), tiny.weights())


def test_checkpoints_kept_are_the_best_and_the_last(store: Store, tmp_path: Path) -> None:
    """Validations get worse after the first: step 4 stays the best while 16 and 20 are the last two."""
    run = Run(store, tmp_path / "run", max_steps=20, keep_last=2, patience=None)
    run.trainer.validate = lambda go_on: Validation(1.0, 100.0 - run.trainer.progress.step, "none", [])
    run.trainer.run()
    assert run.checkpoints.names() == ["step-000004", "step-000016", "step-000020"]
    assert (run.checkpoints.resolve("best"), run.checkpoints.resolve("last")) == ("step-000004", "step-000020")


def test_patience_ends_the_run(store: Store, tmp_path: Path) -> None:
    """Best at step 4, then 8, 12 and 16 are no better."""
    run = Run(store, tmp_path / "run", max_steps=100, patience=3)
    run.trainer.validate = lambda go_on: Validation(float(run.trainer.progress.step), 0.0, "none", [])
    run.trainer.settings = run.settings.model_copy(update={"best_by": "nll"})
    assert run.trainer.run().startswith("patience")
    assert run.trainer.progress.step == 16


def test_nan_is_never_the_best_and_ties_go_to_the_newer(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run", max_steps=12)
    values = iter([float("nan"), 5.0, 5.0])
    run.trainer.validate = lambda go_on: Validation(1.0, next(values), "none", [])
    run.trainer.run()
    assert run.checkpoints.resolve("best") == "step-000012"


def timeless(run: Run) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Metrics and progress of a finished run, without times."""
    events = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    times = {"seconds", "target_tokens_per_second"}
    state = asdict(run.trainer.progress)
    del state["seconds"], state["tally"]["seconds"]
    return [{key: value for key, value in event.items() if key not in times} for event in events], state


@pytest.mark.parametrize("interrupted", [1, 2, 3, 4])
def test_a_signal_in_any_validation_changes_nothing(store: Store, tmp_path: Path, interrupted: int) -> None:
    """Also in that of the last step, and in that of the average; save_every and log_every do not divide the steps."""

    def prepared(name: str, step: int = 0) -> Run:
        options: dict[str, Any] = {"max_steps": 10, "average": True, "save_every": 3, "log_every": 3}
        run = Run(store, tmp_path / name, dropout=0.2, step=step, **options)

        def validate(go_on: Callable[[], None]) -> Validation:
            value = sum(float(weight.double().sum()) for weight in run.weights().values())
            if name == "parts" and not step:
                run.validations += 1
                run.trainer.signals |= {signal.SIGTERM} if run.validations == interrupted else set()
            go_on()
            return Validation(nll=value, bleu=value, signature="none", samples=[])

        run.trainer.validate = validate
        return run

    whole = prepared("whole")
    whole.trainer.run()
    assert prepared("parts").trainer.run() == "interrupted"
    name = Checkpoints(tmp_path / "parts" / "checkpoints").resolve("last")
    second = prepared("parts", int(name.removeprefix("step-")))
    load_weights(second.model, second.checkpoints.weights(name), name)
    second.trainer.resume(name)
    assert second.trainer.run() == "max_steps 10"
    assert same(second.weights(), whole.weights())
    assert timeless(second) == timeless(whole)
    for pointer in ("last", "best"):
        assert second.checkpoints.resolve(pointer) == whole.checkpoints.resolve(pointer)


class Killed(Exception):
    """Stands for a kill: nothing after it is carried out."""


@pytest.mark.parametrize("killed", ["step 6", "the average is told"])
def test_no_validation_is_told_twice_after_a_kill(store: Store, tmp_path: Path, killed: str) -> None:
    """The validation of step 4 is interrupted, then made good and not saved, for it is no better; then comes a kill."""
    options: dict[str, Any] = {"max_steps": 8, "average": True, "save_every": 3, "validate_every": 2}

    def sitting(folder: str, *, signalled: bool = False, dies: str = "") -> Run:
        checkpoints = Checkpoints(tmp_path / folder / "checkpoints")
        name = checkpoints.newest()
        step = 0 if name is None else int(checkpoints.manifest(name)["step"])
        run = Run(store, tmp_path / folder, step=step, **options)

        def validate(go_on: Callable[[], None]) -> Validation:
            run.trainer.signals |= {signal.SIGTERM} if signalled and run.trainer.progress.step == 4 else set()
            go_on()
            return Validation(1.0, 0.0 if run.trainer.progress.step == 4 else 1.0, "none", [])

        def save(checkpoint: str, *arguments: Any) -> None:
            keep(checkpoint, *arguments)
            if dies == "the average is told" and checkpoint.startswith("average"):
                raise Killed

        def update(*arguments: Any) -> None:
            if dies == f"step {arguments[1]}":
                raise Killed
            learn_from(*arguments)

        learn_from, keep = run.trainer.update, run.checkpoints.save
        run.trainer.validate, run.trainer.update, run.checkpoints.save = validate, update, save  # type: ignore[method-assign, assignment]
        if name is not None:
            load_weights(run.model, run.checkpoints.weights(name), name)
            run.trainer.resume(name)
        if dies:
            with pytest.raises(Killed):
                run.trainer.run()
        else:
            run.trainer.run()
        return run

    whole = sitting("whole")
    sitting("parts", signalled=True)
    sitting("parts", dies=killed)
    parts = sitting("parts")
    assert timeless(parts)[0] == timeless(whole)[0]
    assert same(parts.weights(), whole.weights())


def test_a_signal_while_processes_confer_is_not_lost(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run", max_steps=30)
    confer = run.trainer.group.any

    def signalled(*flags: bool) -> list[bool]:
        agreed = confer(*flags)
        if run.trainer.progress.step == 5:
            run.trainer.signals.add(signal.SIGTERM)
        return agreed

    run.trainer.group.any = signalled  # type: ignore[method-assign]
    assert run.trainer.run() == "interrupted"
    assert run.trainer.progress.step == 6
    assert run.trainer.ended_by == signal.SIGTERM


class TooLarge:
    """Memory for a certain number of padded positions; what needs more fails, after the first part of its gradient."""

    def __init__(self, run: Run, positions: int) -> None:
        self.failures = 0
        backward = run.trainer.gradient._backward

        def limited(bucket: Bucket, step: int, tokens: int) -> Any:
            loss = backward(bucket, step, tokens)
            if bucket.positions > positions:
                self.failures += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return loss

        run.trainer.gradient._backward = limited  # type: ignore[method-assign]


def test_what_memory_does_not_suffice_for_is_tried_in_halves(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The losses are those of a run with room, and once learnt the limit is kept."""
    room, tight = (Run(store, tmp_path / name, device_tokens=200, max_steps=6) for name in ("room", "tight"))
    memory = TooLarge(tight, 150)
    for run in (room, tight):
        run.trainer.run()
    assert 1 <= memory.failures <= 3
    assert tight.trainer.gradient.most_positions is not None
    assert tight.trainer.gradient.most_positions <= 200
    assert "step 1: out of memory; batches of more than" in capsys.readouterr().err
    losses = [[event["loss"] for event in timeless(run)[0] if event["event"] == "train"] for run in (room, tight)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_pair_that_memory_does_not_suffice_for_ends_the_run(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run")
    TooLarge(run, 0)
    with pytest.raises(torch.OutOfMemoryError):
        run.trainer.run()


def test_the_average_is_the_mean_by_hand_and_is_validated(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run", max_steps=12, average=True, keep_last=3)
    seen = []

    def validate(go_on: Callable[[], None]) -> Validation:
        seen.append(run.weights())
        return Validation(1.0, 1.0, "none", [])

    run.trainer.validate = validate
    run.trainer.run()
    steps, average = seen[:-1], seen[-1]
    assert len(steps) == 3
    for name, weight in average.items():
        torch.testing.assert_close(weight, (steps[0][name] + steps[1][name] + steps[2][name]) / 3)
    assert run.checkpoints.resolve("best") == "average-000012"
    assert same(run.checkpoints.weights("average-000012"), average)
    assert same(run.weights(), run.checkpoints.weights("step-000012"))  # training goes on from its own weights


def test_a_loss_that_is_not_finite_never_reaches_the_weights(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run")
    before = run.weights()
    hook = run.model.decoder_norm.register_forward_hook(lambda *arguments: arguments[2] * float("nan"))
    with pytest.raises(NumericsError, match="step 3"):
        run.trainer.run()
    hook.remove()
    assert same(before, run.weights())
    assert run.trainer.progress.skipped == 3


def test_training_learns_to_copy_in_either_precision(store: Store, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        run = Run(store, tmp_path / precision, max_steps=60, precision=precision, patience=None)
        run.trainer.run()
        losses = [json.loads(line)["nll"] for line in run.metrics_file.read_text().splitlines() if '"train"' in line]
        assert losses[0] > 3.5
        assert losses[-1] < 0.8 * losses[0], precision
        assert asdict(run.trainer.progress)["step"] == 60


def test_a_run_without_the_time_for_a_step_is_validated_and_has_a_best_checkpoint(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run", max_minutes=1e-6)
    assert run.trainer.run().startswith("max_minutes")
    assert run.validations == 1
    assert run.checkpoints.resolve("best") == "step-000000"


def test_ties_are_no_progress(store: Store, tmp_path: Path) -> None:
    """A model stuck at BLEU 0 is stopped by patience, and its newest checkpoint is the best."""
    run = Run(store, tmp_path / "run", max_steps=100, patience=2)
    run.trainer.validate = lambda go_on: Validation(1.0, 0.0, "none", [])
    assert run.trainer.run().startswith("patience")
    assert run.trainer.progress.step == 12
    assert run.checkpoints.resolve("best") == "step-000012"


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("options", [{"max_steps": 8}, {"max_steps": 100, "patience": 1}], ids=str)
def test_a_finished_run_is_finished_until_its_limits_change(
    store: Store, tmp_path: Path, options: dict[str, Any], average: bool
) -> None:
    first = Run(store, tmp_path / "run", average=average, **options)
    first.trainer.validate = lambda go_on: Validation(1.0, 1.0, "none", [])
    first.trainer.run()
    for changed, done in (({}, True), ({"max_steps": 200}, False)):
        again = Run(store, tmp_path / "run", average=average, **{**options, **changed})
        again.trainer.resume(again.checkpoints.resolve("last"))
        assert again.trainer.done() is done


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_taken(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(store, tmp_path / "run", max_steps=12)
    assert run.checkpoints.newest() is None
    run.trainer.run()
    folder = tmp_path / "run" / "checkpoints"
    assert run.checkpoints.newest() == "step-000012"
    optimizer = folder / "step-000012" / "optimizer.safetensors"
    optimizer.write_bytes(optimizer.read_bytes()[:-1] + b"x")
    assert run.checkpoints.newest() == "step-000008"
    assert "step-000012" in capsys.readouterr().err
    (folder / "last").write_text("nonsense")
    assert run.checkpoints.newest() == "step-000008"


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (999_999, 1_000_000):
        checkpoints.save(f"step-{step:06}", {"w": torch.ones(1)}, {})
    assert checkpoints.names() == ["step-999999", "step-1000000"]


def test_a_warmup_that_does_not_fit_is_told(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(store, tmp_path / "long", max_steps=40, warmup_steps=1000).trainer.run()
    assert "warning: about 40 steps fit into this run, but the learning rate rises for 1,000" in capsys.readouterr().err
    Run(store, tmp_path / "short", max_steps=40, warmup_steps=10).trainer.run()
    assert "warning" not in capsys.readouterr().err


# --- float16


@pytest.fixture
def float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU, which can, compute in float16."""
    monkeypatch.setattr(trainer, "choose_precision", lambda name, device: torch.float16)


def overflow(run: Run, steps: Callable[[int], bool]) -> None:
    """Let the gradients of some steps be infinite."""
    update = run.trainer.update

    def with_overflow(buckets: Any, step: int, tally: Any) -> None:
        factor = float("inf") if steps(step) else 1.0
        hook = run.model.projection.register_hook(lambda g: g * factor)  # type: ignore[no-untyped-call]
        update(buckets, step, tally)
        hook.remove()

    run.trainer.update = with_overflow  # type: ignore[method-assign]


@pytest.mark.usefixtures("float16")
def test_float16_learns_with_weights_in_float32(store: Store, tmp_path: Path) -> None:
    run = Run(store, tmp_path / "run", max_steps=60, precision="float16", patience=None)
    run.trainer.run()
    losses = [json.loads(line)["nll"] for line in run.metrics_file.read_text().splitlines() if '"train"' in line]
    assert losses[-1] < 0.8 * losses[0]
    assert {weight.dtype for weight in run.weights().values()} == {torch.float32}
    plain = Run(store, tmp_path / "plain", max_steps=60, precision="float32", patience=None)
    plain.trainer.model.precision, plain.trainer.scaler = torch.float32, torch.amp.GradScaler("cpu", enabled=False)
    plain.trainer.run()
    reference = [json.loads(line)["nll"] for line in plain.metrics_file.read_text().splitlines() if '"train"' in line]
    assert losses[:3] == pytest.approx(reference[:3], rel=1e-2)  # the scale is taken out of the gradient again
    assert losses[-1] == pytest.approx(reference[-1], rel=0.1)


@pytest.mark.usefixtures("float16")
def test_overflow_halves_the_scale_skips_the_step_and_does_not_end_the_run(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(store, tmp_path / "run", max_steps=12, precision="float16")
    overflow(run, lambda step: step <= 5)
    run.trainer.update(next(run.trainer.batches.walk(Position()))[0], 1, trainer.Tally())
    assert same(run.weights(), Run(store, tmp_path / "fresh").weights())
    run.trainer.progress.skipped = 0
    run.trainer.run()
    assert (run.trainer.progress.step, run.trainer.progress.skipped) == (12, 5)
    assert run.trainer.scaler.get_scale() == 65536 / 2**6  # six in all
    assert "step 5: the loss or gradient is not finite; skipped, the loss is scaled by 1024" in capsys.readouterr().err
    assert not same(run.weights(), Run(store, tmp_path / "fresh").weights())


@pytest.mark.usefixtures("float16")
def test_a_scale_below_one_ends_the_run(store: Store, tmp_path: Path) -> None:
    """65536 = 2^16 is halved 17 times."""
    run = Run(store, tmp_path / "run", max_steps=100, precision="float16", patience=None)
    before = run.weights()
    overflow(run, lambda step: True)
    with pytest.raises(NumericsError, match="step 17: 17 steps in a row"):
        run.trainer.run()
    assert same(before, run.weights())


@pytest.mark.usefixtures("float16")
def test_the_scale_is_part_of_what_a_resumed_run_goes_on_with(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overflow at step 3, growth after five good steps: after 8 and 13 and 18, as in a run in one go."""
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, growth_interval=5))
    construct = Run.__init__

    def with_overflow(run: Run, *arguments: Any, **options: Any) -> None:
        construct(run, *arguments, **options)
        overflow(run, lambda step: step == 3)

    monkeypatch.setattr(Run, "__init__", with_overflow)
    whole = equal_when_resumed(store, tmp_path, dropout=0.3, precision="float16")
    state = whole.checkpoints.training("step-000019")[1]["scaler"]
    assert (state["scale"], state["_growth_tracker"]) == (65536 / 2 * 2**3, 1)


def test_float16_is_for_cuda_alone() -> None:
    for name in ("cpu", "mps"):
        with pytest.raises(
            ConfigError, match=r"training\.precision: float16 needs a CUDA GPU; choose bfloat16 or float32"
        ):
            choose_precision("float16", torch.device(name))
    assert choose_precision("float16", torch.device("cuda")) == torch.float16
