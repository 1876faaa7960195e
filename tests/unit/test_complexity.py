"""The benchmark of complexity measures what it says it does."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from benchmarks import complexity


def test_slope_of_a_power() -> None:
    assert complexity.slope([256, 512, 2048], [3 * n**1.5 for n in (256, 512, 2048)]) == pytest.approx(1.5)


def test_kept_bytes_by_hand() -> None:
    """A product keeps its input, not its weight, and tanh its output; 2 · 3 and 2 · 5 numbers of 4 bytes."""
    layer, x = torch.nn.Linear(3, 5), torch.randn(2, 3, requires_grad=True)
    assert complexity.kept_bytes(layer, lambda: layer(x).tanh()) == 4 * (6 + 10)


@pytest.mark.parametrize(("name", "power"), [(name, power) for name, (_, power) in complexity.LAYERS.items()])
def test_memory_grows_as_predicted(name: str, power: int) -> None:
    """What is kept is exact: from n to 2n and 4n the second difference of a multiple of n is none.

    From lengths on whose products are all large: those keep their factors, where small ones keep copies of some.
    """
    once, twice, four = (complexity.kept_bytes(*complexity.make_layer(name, 1, n)) for n in (512, 1024, 2048))
    bend = (four - twice) / (twice - once)
    assert bend == pytest.approx(2, rel=0.02) if power == 1 else bend > 3


def test_figures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        patch("sys.argv", ["complexity", "--longest=512", "--turns=1", f"--output={tmp_path}"]),
        patch.object(complexity, "WIDTH", 16),
        patch.object(complexity, "HEAD_WIDTH", 4),
        patch.object(complexity, "POSITIONS", 512),
    ):
        complexity.main()
    written = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith(written)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["lengths"] == [256, 512]
    assert set(result["layer"]) == set(result["memory"]) == set(complexity.LAYERS)
    for kind in ("layer", "attention", "memory"):
        assert all(min(of_name["values"]) > 0 for of_name in result[kind].values())
