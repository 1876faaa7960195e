"""`mt compare`: two runs, a run and itself, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from sacrebleu.significance import PairedTest

from tests.conftest import failed, hashes, toy_pairs, toy_tree, write_lines

if TYPE_CHECKING:
    from typing import Any

    from tests.conftest import Mt

Train = Callable[..., Path]


@pytest.fixture(autouse=True)
def _fewer_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PairedTest._DEFAULT_SAMPLES, "ar", 300)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, for translations will be written there."""
    return Path(shutil.copytree(tiny_run, tmp_path / "one"))


@pytest.fixture
def train(mt: Mt, toy_text: Path, tmp_path: Path) -> Train:
    """Train a run in ``tmp_path / NAME`` for a step; sections given are merged into the toy configuration."""

    def train(name: str, **sections: Any) -> Path:
        tree = toy_tree(toy_text, tmp_path / name, **sections)
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(tree), encoding="utf-8")
        result = mt("train", config, *(() if "training" in sections else ("--set", "training.max_steps=1")))
        assert result.code == 0, result.err
        return tmp_path / name

    return train


def test_two_seeds_and_another_configuration(mt: Mt, run: Path, train: Train, tmp_path: Path) -> None:
    seed = train("seed", training={"max_steps": 60}, seed=2)
    untrained = train("untrained")
    result = mt("compare", run, seed, untrained, "--json", tmp_path / "c.json")
    assert result.code == 0, result.err
    assert result.out.startswith("test: 10 sentences\nScores, with 95 % intervals\n")
    scores = {}
    for folder in (run, seed, untrained):
        assert mt("eval", folder, "--json", tmp_path / "e.json").code == 0
        scores[str(folder)] = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    for about in found["runs"]:
        ours = scores[about["run"]]
        assert about["checkpoint"] == ours["checkpoint"]
        for metric in ("bleu", "chrf", "ter"):
            assert about[metric]["score"] == pytest.approx(ours[metric]["score"], abs=0.006)
            assert f"{about[metric]['score']:.2f} ± {about[metric]['half_width']:.2f}" in result.out
    assert [group["runs"] for group in found["groups"]] == [[str(run), str(seed)], [str(untrained)]]
    _, of_untrained = found["differences"]
    assert (of_untrained["run"], of_untrained["against"]) == (str(untrained), str(run))
    assert f"{untrained} is worse, significant at 95 %" in result.out
    worst = of_untrained["worse"][0]
    line = worst["line"] - 1
    for side, path in (("first", run / "eval" / "test.hyp"), ("second", untrained / "eval" / "test.hyp")):
        assert worst[side] == path.read_text(encoding="utf-8").split("\n")[line]
    assert worst["source"] in result.out
    assert "Traceback" not in result.err


def test_a_run_and_itself(mt: Mt, run: Path) -> None:
    result = mt("compare", run, run, "--split", "valid", "--checkpoint", "last")
    assert result.code == 0, result.err
    assert result.out.count("p 1.0000  p 1.0000") == 3
    assert result.out.count("+0.00 ± 0.00") == 3
    assert "Groups" not in result.out
    assert "\n  none\n" in result.out


def test_runs_of_other_text_are_refused_before_anything_is_translated(
    mt: Mt, run: Path, train: Train, toy_text: Path, tmp_path: Path
) -> None:
    before = hashes(run / "eval")
    sources, targets = (list(side) for side in zip(*toy_pairs(420)[410:], strict=True))
    other = write_lines(tmp_path / "other.yy", [*targets[:4], "mako", *targets[5:]])
    shorter = {
        "source": str(write_lines(tmp_path / "short.xx", sources[:9])),
        "target": str(write_lines(tmp_path / "short.yy", targets[:9])),
    }
    data = toy_tree(toy_text, run)["data"]
    twice = {**data["test"], "target": [data["test"]["target"], str(other)]}
    for name, test, words in (
        ("a", {**data["test"], "target": str(other)}, "test, reference 1, line 5 is another one than in"),
        ("b", shorter, "test has 9 lines, but 10 in"),
        ("c", twice, "test has 2 references, but 1 in"),
        ("d", {"x": data["test"], "y": dict(data["test"])}, "has the sets test.x, test.y, but"),
    ):
        failed(mt("compare", run, train(name, data={"test": test})), 2, str(tmp_path / name), words)
    assert hashes(run / "eval") == before


def test_what_cannot_be_compared(mt: Mt, run: Path, tmp_path: Path) -> None:
    before = hashes(run / "eval")
    failed(mt("compare", run), 2, "no other run")
    failed(mt("compare", run, tmp_path / "nowhere"), 2, "nowhere")
    failed(mt("compare", run, run, "--split", "train"), 2, "--split train")
    failed(mt("compare", run, run, "--split", "test.de"), 2, "--split test.de", "choose from test")
    failed(mt("compare", run, run, "--checkpoint", "none"), 2, "none")
    failed(mt("compare", run, run, "--json", tmp_path / "no" / "c.json"), 6, "--json")
    assert hashes(run / "eval") == before
