"""``mt selftest`` proves exact resume on the user's own configuration, and tells when it does not hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from tests.conftest import Mt, failed
from transformer_mt.checkpoint import OPTIMIZER, TRAINING, Checkpoints
from transformer_mt.config_file import load_config
from transformer_mt.experiment import selftest

Write = Callable[..., Path]


def test_it_holds_here_and_nothing_is_left(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    """With dropout; the scratch folder is gone, and training starts as in a directory that was tokenized."""
    config = toy_config(training={"max_steps": 3, "average": False})
    result = mt("selftest", config)
    assert result.code == 0, result.err
    names = [line.partition(":")[0] for line in result.out.splitlines()]
    assert names == ["ok     exact resume", "ok     save and load", "ok     batch invariance"]
    assert "equal bit by bit" in result.out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "data", "lock", "tokenizer"}
    assert mt("train", config).code == 0


def test_a_difference_is_told(mt: Mt, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one weight in one bit, of the progress, of the metrics."""
    config, tensors = load_config(tiny_run), Checkpoints(tiny_run / "checkpoints").weights("step-000060")
    optimizer = safetensors.torch.load_file(tiny_run / "checkpoints" / "step-000060" / OPTIMIZER)
    progress = json.loads((tiny_run / "checkpoints" / "step-000060" / TRAINING).read_text())
    name = next(iter(tensors))
    nudged = {**tensors, name: tensors[name].clone()}
    nudged[name].view(-1)[0] += 1e-6
    for number, (weights, state, equal) in enumerate(
        [(tensors, progress, True), (nudged, progress, False), (tensors, {**progress, "stale": 7}, False)]
    ):
        killed, whole = tmp_path / f"killed{number}", tmp_path / f"whole{number}"
        Checkpoints(killed).save("step-000012", weights, {"step": 12}, optimizer, state)
        Checkpoints(whole).save("step-000012", tensors, {"step": 12}, optimizer, progress)
        assert selftest._compared("here", killed, whole, config).passed == equal
    check = selftest.Check("exact resume", passed=False, seen="differ")
    monkeypatch.setattr(selftest, "selftest", lambda config: iter([check]))
    result = mt("selftest", tiny_run)
    assert result.out == "FAILED exact resume: differ\n"
    failed(type(result)(result.code, "", result.err), 1, "exact resume")
