"""Every system of the family, from its shipped configuration: training, resuming, decoding, evaluation."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from tests.conftest import Mt, toy_tree, write_lines

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "attention").glob("*.yaml"))
SMALL = {"transformer": {"width": 32, "layers": 2}, "recurrent": {"width": 32}}


def small(path: Path, text: Path, run: Path) -> dict[str, Any]:
    """A shipped configuration with toy text, a small model and eight steps."""
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree = toy_tree(text, run)
    model = {**shipped["model"], "dropout": 0.1}
    tree["model"] = {**model, **SMALL[model.get("kind", "transformer")]}
    own = {"max_steps": 8, "validate_every": 8, "save_every": 3, "schedule": "constant", "warmup_steps": 4}
    tree["training"] = {**shipped["training"], **own, "precision": "float32", "samples": 0}
    if "alignment" in shipped["data"]["train"]:
        sentences = [line.split() for line in (text / "train.xx").read_text(encoding="utf-8").splitlines()]
        links = [" ".join(f"{n}-{len(words) - 1 - n}" for n in range(len(words))) for words in sentences]
        tree["data"]["train"]["alignment"] = str(write_lines(run.parent / "train.align", links))
    return tree


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "checkpoints" / "step-000008" / "model.safetensors")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_resumes_translates_and_is_scored(mt: Mt, toy_text: Path, tmp_path: Path, path: Path) -> None:
    """In two sittings as in one, bit by bit; translations alone as in a batch."""
    runs = [tmp_path / name for name in ("whole", "parts")]
    for run in runs:
        (tmp_path / f"{run.name}.yaml").write_text(yaml.safe_dump(small(path, toy_text, run)))
    assert mt("train", tmp_path / "whole.yaml").code == 0
    assert mt("train", tmp_path / "parts.yaml", "--set", "training.max_steps=5").code == 0
    resumed = mt("train", tmp_path / "parts.yaml", "--resume")
    assert resumed.code == 0, resumed.err
    there, here = map(weights, runs)
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in there)
    lines = (toy_text / "test.xx").read_text().splitlines()
    together = mt("translate", runs[0], "--scores", stdin="\n".join(lines) + "\n")
    assert together.code == 0, together.err
    alone = [mt("translate", runs[0], "--scores", stdin=line + "\n").out for line in lines[:3]]
    assert together.out.splitlines(keepends=True)[:3] == alone
    scored = mt("eval", runs[0])
    assert scored.code == 0, scored.err
    assert "BLEU" in scored.out


def applied(diff: str, root: Path) -> None:
    """Carry out a diff whose hunks say where by the lines around them."""
    for part in re.split(r"^--- .*\n", diff, flags=re.MULTILINE)[1:]:
        header, hunk = part.split("@@\n")
        path = root / header.strip().removeprefix("+++ b/")
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kind) for kind in (" ", " +"))
        text = path.read_text(encoding="utf-8")
        if before in text:
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")
        assert after in text


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_a_new_score_is_a_class_and_a_line(toy_text: Path, tmp_path: Path, kind: str) -> None:
    """The diff that CONTRIBUTING.md shows, made to a copy of the package."""
    shutil.copytree(ROOT / "transformer_mt", tmp_path / "transformer_mt")
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    applied(re.findall(r"```diff\n(.*?)```", page, re.DOTALL)[0], tmp_path)
    model = {"kind": kind, "score": "cosine", **SMALL[kind]}
    tree = {**toy_tree(toy_text, tmp_path / "run"), "model": model}
    tree["training"] = {**tree["training"], "max_steps": 3, "samples": 0}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    for words in (["train", "c.yaml"], ["score", "run", f"{toy_text}/test.xx", f"{toy_text}/test.yy"]):
        done = subprocess.run(
            [sys.executable, "-m", "transformer_mt", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_all_that_is_named_is_shipped() -> None:
    """Scores, restrictions, positions, ratios: each has a configuration, and all train on the same text."""
    trees = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONFIGS}
    recurrent = [tree["model"] for tree in trees.values() if tree["model"].get("kind") == "recurrent"]
    transformers = [tree["model"] for tree in trees.values() if tree["model"].get("kind") != "recurrent"]
    assert {model.get("score") for model in recurrent} >= {"dot", "scaled_dot", "general", "additive", "concat"}
    assert {model.get("attention", "soft") for model in recurrent} == {"soft", "local", "hard", "none"}
    assert {model.get("cell", "gru") for model in recurrent} == {"gru", "lstm"}
    assert {model.get("self_attention", "full") for model in transformers} == {"full", "window", "linear"}
    assert {model.get("positions", "sinusoidal") for model in transformers} == {
        "sinusoidal",
        "learned",
        "rotary",
        "none",
    }
    forced = [tree["training"]["teacher_forcing"] for tree in trees.values() if "teacher_forcing" in tree["training"]]
    assert {decay for tree in forced if (decay := tree.get("decay"))} == {"linear", "exponential", "inverse_sigmoid"}
    assert any(tree.get("ratio") == 0.5 for tree in forced)
    linked = [tree["data"]["train"].pop("alignment", None) for tree in trees.values()]
    assert [link for link in linked if link] == ["data/train.align"]
    assert len({str((tree["data"], tree["tokenizer"], tree["languages"])) for tree in trees.values()}) == 1
    assert all(tree["run_dir"] == f"runs/attention/{name}" for name, tree in trees.items())
