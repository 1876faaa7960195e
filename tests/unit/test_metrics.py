"""The metrics file, and what people see."""

import json
import sys
from pathlib import Path

import pytest

from transformer_mt.errors import ConfigError
from transformer_mt.training.metrics import Metrics, Validation, duration, perplexity

EVENT = {"step": 10, "epoch": 1, "loss": 2.0, "nll": 1.5, "learning_rate": 1e-3, "target_tokens_per_second": 1234.5}


def validation(bleu: float) -> Validation:
    return Validation(nll=1.0, bleu=bleu, signature="sig", samples=[("quelle", "output", "reference")])


def test_durations_read_well() -> None:
    assert [duration(s) for s in (4.6, 65, 3600, 8040)] == ["5s", "1m05s", "1h00m", "2h14m"]


def test_perplexity_is_e_to_the_nll_and_never_overflows() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(1e9) > 1e300


def test_lines_of_a_lost_future_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in (10, 20, 30):
        metrics.train({**EVENT, "step": step}, 60.0)
    metrics.valid(30, validation(3.0), best=True)
    with path.open("a") as file:
        file.write('{"event": "train", "st')  # cut by a crash
    resumed = Metrics(path, step=20)
    resumed.train({**EVENT, "step": 30}, None)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30]


def test_plain_lines_without_control_characters_off_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = Metrics(tmp_path / "m.jsonl")
    metrics.train(EVENT, 61.0)
    metrics.valid(10, validation(31.25), best=True)
    metrics.close()
    err = capsys.readouterr().err
    assert "step 10  epoch 1  loss 2.000  ppl 4.48  lr 1.00e-03  1,234 tok/s  ETA 1m01s" in err
    assert "step 10  valid nll 1.0000  ppl 2.72  BLEU 31.25  (best)" in err
    assert "→ output" in err
    assert not set(err) & {"\r", "\x1b"}


def test_one_live_line_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    metrics = Metrics(tmp_path / "m.jsonl")
    for step in (10, 20):
        metrics.train({**EVENT, "step": step}, 61.0)
    err = capsys.readouterr().err
    assert err.count("\r") == 2
    assert "\n" not in err


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder: (step, value) of every curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, round(e.value, 4)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_what_the_metrics_file_has_and_no_step_twice(tmp_path: Path) -> None:
    """Step 30 of a run that was lost is replaced by that of the resumed one."""
    first = Metrics(tmp_path / "m.jsonl", tensorboard=tmp_path / "tb")
    for step in (10, 20, 30):
        first.train({**EVENT, "step": step, "loss": 2.0 + step}, None)
    first.valid(20, validation(3.0), best=True)
    first.valid(30, validation(4.0), best=True)
    first.close()
    second = Metrics(tmp_path / "m.jsonl", step=20, tensorboard=tmp_path / "tb")
    second.train({**EVENT, "step": 30, "loss": 1.0}, None)
    second.valid(30, validation(5.0), best=True)
    second.valid(30, validation(6.0), best=True, name="average-000030")
    second.close()
    shown = curves(tmp_path / "tb")
    assert shown["train/loss"] == [(10, 12.0), (20, 22.0), (30, 1.0)]
    assert shown["valid/bleu"] == [(20, 3.0), (30, 5.0)]
    assert shown["average/bleu"] == [(30, 6.0)]
    assert set(shown) == {
        *(f"train/{name}" for name in EVENT if name != "step"),
        *(f"{group}/{name}" for group in ("valid", "average") for name in ("nll", "bleu")),
    }


def test_without_tensorboard_the_extra_is_named_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"training\.tensorboard: .*; pip install 'transformer_mt\[tensorboard\]'"):
        Metrics(tmp_path / "m.jsonl", tensorboard=tmp_path / "tb")
    assert not list(tmp_path.iterdir())


def test_no_curves_unless_asked_for(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "m.jsonl")
    metrics.train(EVENT, None)
    metrics.close()
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
