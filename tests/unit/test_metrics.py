"""The metrics file, and what people see."""

import json
from pathlib import Path

import pytest

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
