"""Starting from another run, and what else training can be told: weights of corpora, sampling, curves, precision."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import toy_tree
from transformer_mt.checkpoint import Checkpoints, model_weights
from transformer_mt.config_file import load_config
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.experiment.run import make_batches
from transformer_mt.rundir import RunDirectory, sha256
from transformer_mt.training.fine_tuning import match_rows
from transformer_mt.training.gradient import derive_seed
from transformer_mt.translate import make_model

if TYPE_CHECKING:
    from tests.conftest import Mt, Result

Write = Callable[..., Path]
Weights = dict[str, torch.Tensor]

ONE_STEP = {"max_steps": 1, "learning_rate": 1e-30, "average": False}  # which changes nothing in float32


@pytest.fixture
def write(toy_text: Path, tmp_path: Path) -> Write:
    """Write a configuration of a run in ``tmp_path / "run"``, without the sections that are given as None."""

    def write(**sections: Any) -> Path:
        tree = toy_tree(toy_text, Path(sections.pop("run_dir", tmp_path / "run")), **sections)
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
        return path

    return write


@pytest.fixture
def origin(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, to be damaged or deleted."""
    return Path(shutil.copytree(tiny_run, tmp_path / "origin"))


def best(run: Path) -> tuple[str, Weights]:
    checkpoints = Checkpoints(run / "checkpoints")
    name = checkpoints.resolve("best")
    return name, checkpoints.weights(name)


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.err
    assert len(result.errors) == 1
    for word in words:
        assert word in result.errors[0]


def test_a_run_goes_on_from_the_best_weights_of_another_and_then_needs_it_no_more(
    mt: Mt, write: Write, origin: Path, tmp_path: Path
) -> None:
    name, weights = best(origin)
    config = write(model=None, tokenizer=None, training={**ONE_STEP, "start_from": str(origin)})
    result = mt("train", config)
    assert result.code == 0, result.err
    assert f"start_from {origin}: the weights of {name}" in result.err
    run = tmp_path / "run"
    mine = Checkpoints(run / "checkpoints").weights("step-000001")
    assert mine.keys() == weights.keys()
    assert all(torch.equal(mine[key], weights[key]) for key in weights)
    about = Checkpoints(run / "checkpoints").manifest("step-000001")["start_from"]
    digest = sha256(origin / "checkpoints" / name / "manifest.json")
    assert about == {"run": str(origin), "checkpoint": name, "manifest": digest}
    assert Tokenizer.load(run / "tokenizer").hashes == Tokenizer.load(origin / "tokenizer").hashes

    shutil.rmtree(origin)
    lines = "".join(f"{word}\n" for word in ("ar mako", "el bilu kist"))
    for where in (run, config):  # a run directory, and the file that it was made from
        result = mt(
            "train", where, "--resume", "--set", "training.max_steps=3", "--set", "training.learning_rate=1e-30"
        )
        assert result.code == 0, result.err
        assert mt("translate", where, stdin=lines).out.count("\n") == 2
    assert Checkpoints(run / "checkpoints").manifest("step-000003")["start_from"] == about
    assert Checkpoints(run / "checkpoints").training("step-000003")[1]["step"] == 3


def test_a_configuration_file_serves_as_run_to_start_from(mt: Mt, write: Write, tiny_run: Path) -> None:
    config = write(model=None, tokenizer=None, training={**ONE_STEP, "start_from": str(tiny_run / "config.yaml")})
    assert load_config(config).training.start_from == str(tiny_run)
    assert load_config(config).tokenizer.from_ == str(tiny_run)


NEWER = ("kind", "score", "self_attention", "window", "teacher_forcing", "guided_alignment")


def test_a_run_of_a_version_that_had_fewer_keys_is_as_good(
    mt: Mt, write: Write, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that its checkpoints do not know has had the effect of its default, and no other value passes for it."""
    manifest, forgotten = Checkpoints.manifest, set()

    def older(checkpoints: Checkpoints, name: str) -> dict[str, Any]:
        about = manifest(checkpoints, name)
        for section in ("model", "experiment"):
            new = {key for key in about[section] if set(key.split(".")) & set(NEWER)}
            forgotten.update(new)
            about[section] = {key: value for key, value in about[section].items() if key not in new}
        return about

    monkeypatch.setattr(Checkpoints, "manifest", older)
    assert mt("translate", origin, stdin="ar mako\n").code == 0
    steps = ("--set", "training.max_steps=62")
    refused(
        mt("train", origin, "--resume", *steps, "--set", "model.score=dot"), 4, "model.score is dot but was scaled_dot"
    )
    assert mt("train", origin, "--resume", *steps).code == 0
    config = write(model=None, tokenizer=None, training={**ONE_STEP, "start_from": str(origin)})
    assert mt("train", config).code == 0
    refused(mt("translate", origin, "--set", "model.self_attention=window", stdin="ar\n"), 4, "but was full")
    assert {key.split(".")[1] for key in forgotten if "." in key} == set(NEWER)


def test_with_another_tokenizer_pieces_of_both_keep_their_vectors(
    mt: Mt, write: Write, tiny_run: Path, tmp_path: Path
) -> None:
    """Row by row, by the text of the piece; the others are what a fresh run would start with."""
    config = write(model=None, tokenizer={"kind": "bpe"}, training={**ONE_STEP, "start_from": str(tiny_run)})
    result = mt("train", config)
    assert result.code == 0, result.err
    _, before = best(tiny_run)
    after = Checkpoints(tmp_path / "run" / "checkpoints").weights("step-000001")
    old, new = (Tokenizer.load(run / "tokenizer").pieces("source") for run in (tiny_run, tmp_path / "run"))
    assert old != new
    torch.manual_seed(derive_seed(1, "weights"))
    settings = load_config(tmp_path / "run")
    fresh = model_weights(make_model(settings.model, Tokenizer.load(tmp_path / "run" / "tokenizer")))
    shared = 0
    for row, piece in enumerate(new):
        known = piece in old
        expected = (
            before["source_embedding.weight"][old.index(piece)] if known else fresh["source_embedding.weight"][row]
        )
        assert torch.equal(after["source_embedding.weight"][row], expected), piece
        shared += known
    assert 4 + 256 < shared < len(new) == 310
    assert (
        f"start_from {tiny_run}: {shared} of 310 pieces are in both vocabularies; the other {310 - shared} start "
        "untrained"
    ) in result.err
    assert all(torch.equal(after[key], before[key]) for key in before if key != "source_embedding.weight")


def test_separate_vocabularies_are_matched_side_by_side(mt: Mt, write: Write, tmp_path: Path) -> None:
    """Unigram pieces there, BPE here; the projection is the target embedding."""
    first = write(tokenizer={"joint": False, "vocab_size": 290}, training=ONE_STEP, run_dir=tmp_path / "first")
    assert mt("train", first).code == 0
    start = {**ONE_STEP, "start_from": str(tmp_path / "first")}
    result = mt(
        "train", write(model=None, tokenizer={"joint": False, "kind": "bpe", "vocab_size": 290}, training=start)
    )
    assert result.code == 0, result.err
    before, after = (Checkpoints(tmp_path / run / "checkpoints").weights("step-000001") for run in ("first", "run"))
    for side in ("source", "target"):
        old, new = (Tokenizer.load(tmp_path / run / "tokenizer").pieces(side) for run in ("first", "run"))
        key = f"{side}_embedding.weight"
        shared = [piece for piece in new if piece in old]
        for piece in shared:
            assert torch.equal(after[key][new.index(piece)], before[key][old.index(piece)])
        assert f", {side}: {len(shared)} of {len(new)} pieces are in both vocabularies" in result.err


def test_rows_are_matched_by_hand() -> None:
    fresh, trained = torch.arange(8.0).reshape(4, 2), torch.arange(100.0, 106.0).reshape(3, 2)
    rows, shared = match_rows(fresh, trained, ["<s>", "new", "b", "a"], ["<s>", "a", "gone"])
    assert rows.tolist() == [[100, 101], [2, 3], [4, 5], [102, 103]]
    assert shared == 2
    assert fresh[0].tolist() == [0, 1]


def test_another_model_is_refused_with_what_differs_before_the_text_is_read(
    mt: Mt, write: Write, tiny_run: Path, tmp_path: Path
) -> None:
    sizes = {"layers": 2, "norm": "rms", "dropout": 0.3, "max_positions": 512}
    config = write(model=sizes, tokenizer=None, training={"start_from": str(tiny_run)})
    words = ("training.start_from", "model.layers is 2, there 1", "model.norm is rms, there layer", "; leave them out")
    result = mt("train", config)
    refused(result, 2, *words)
    assert "dropout" not in result.err  # it may differ
    assert "max_positions" not in result.err  # sinusoidal positions have no table
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_joint_and_separate_vocabularies_do_not_fit(mt: Mt, write: Write, tiny_run: Path, tmp_path: Path) -> None:
    config = write(model=None, tokenizer={"joint": False, "vocab_size": 290}, training={"start_from": str(tiny_run)})
    refused(mt("train", config), 2, "training.start_from", "joint vocabularies, this run separate ones",
            "; set tokenizer.joint: true")  # fmt: skip
    assert not RunDirectory(tmp_path / "run").holds_run()  # mended, it begins without --resume


def test_a_run_without_a_best_checkpoint_or_at_all_is_told(mt: Mt, write: Write, origin: Path) -> None:
    shutil.rmtree(origin / "checkpoints")
    config = write(model=None, tokenizer=None, training={"start_from": str(origin)})
    refused(mt("train", config), 2, f"training.start_from: {origin} has no best checkpoint yet; train it first")
    shutil.rmtree(origin)
    refused(mt("train", config), 2, "c.yaml: training.start_from: ", "no such")


def test_damaged_weights_are_never_started_from(mt: Mt, write: Write, origin: Path) -> None:
    path = origin / "checkpoints" / best(origin)[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    config = write(model=None, tokenizer=None, training={**ONE_STEP, "start_from": str(origin)})
    refused(mt("train", config), 4, str(path), "damaged")


# --- weights, sampling, curves, precision, the last line


def test_an_epoch_visits_each_corpus_as_often_as_its_weight_says(
    mt: Mt, write: Write, toy_text: Path, tmp_path: Path
) -> None:
    files = {split: {"source": str(toy_text / f"{split}.xx"), "target": str(toy_text / f"{split}.yy")}
             for split in ("train", "valid")}  # fmt: skip
    train = [files["train"], {**files["valid"], "weight": 3.0}]
    config = write(data={"train": train}, training={**ONE_STEP, "max_steps": 100, "max_epochs": 1, "patience": 1})
    result = mt("train", config)
    assert result.code == 0, result.err
    paths = RunDirectory(tmp_path / "run")
    settings = load_config(paths.root)
    corpora = json.loads((paths.data / "manifest.json").read_text())["corpora"]
    assert [corpus["weight"] for corpus in corpora] == [1.0, 3.0]
    batches = make_batches(settings, paths, Tokenizer.load(paths.tokenizer))
    rows = np.concatenate([bucket.rows for batch in batches.window(0, 0) for bucket in batch])
    counts = np.bincount(rows, minlength=len(batches.store))
    assert counts.tolist() == [1] * corpora[0]["pairs"] + [3] * corpora[1]["pairs"]
    assert json.loads(paths.exit.read_text())["step"] == batches.steps_per_epoch


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_stored_text_is_what_the_stored_pieces_were_made_of(
    mt: Mt, write: Write, tmp_path: Path, kind: str
) -> None:
    """So that sampled pieces, which come from it, are of the same pair; and a run trains on them."""
    config = write(tokenizer={"kind": kind}, training={"max_steps": 20, "subword_sampling": 0.1})
    result = mt("train", config)
    assert result.code == 0, result.err
    paths = RunDirectory(tmp_path / "run")
    tokenizer = Tokenizer.load(paths.tokenizer)
    batches = make_batches(load_config(paths.root), paths, tokenizer)
    rows = np.arange(len(batches.store))
    for side, encode in (
        (batches.store.source, tokenizer.encode_source),
        (batches.store.target, tokenizer.encode_target),
    ):
        assert encode(side.text(rows)) == [side[row] for row in rows.tolist()]
    buckets = [bucket for batch in batches.window(0, 0) for bucket in batch]
    sampled = sum(bucket.tokens for bucket in buckets) - len(rows)
    assert sampled > 1.02 * int(batches.store.target.offsets[-1])


def test_the_last_line_names_the_best_checkpoint_and_its_score(mt: Mt, write: Write) -> None:
    for by in ("bleu", "nll"):
        config = write(training={"max_steps": 20, "best_by": by}, run_dir=write().parent / by)
        lines = mt("train", config).err.splitlines()
        values = [json.loads(line) for line in (config.parent / by / "metrics.jsonl").read_text().splitlines()]
        valid = [value for value in values if value["event"] == "valid"]
        top = max(value["bleu"] for value in valid) if by == "bleu" else min(value["nll"] for value in valid)
        name = Checkpoints(config.parent / by / "checkpoints").resolve("best")
        score = f"validation BLEU {top:.2f}, greedy" if by == "bleu" else f"nll {top:.4f}"
        assert lines[-2].startswith("finished: max_steps 20; step 20, ")
        assert lines[-2].endswith(f"; best {name} ({score}); in {config.parent / by}")
        assert lines[-1].startswith(f"next: mt eval {config.parent / by}, ")
        assert math.isfinite(top)


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    yield


@pytest.mark.usefixtures("no_tensorboard")
def test_a_missing_extra_is_told_before_the_text_is_read(mt: Mt, write: Write, tmp_path: Path) -> None:
    refused(mt("train", write(training={"tensorboard": True})), 2, "pip install 'transformer_mt[tensorboard]'")
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_float16_without_a_gpu_is_told_before_the_text_is_read(mt: Mt, write: Write, tmp_path: Path) -> None:
    result = mt("train", write(training={"precision": "float16"}))
    refused(result, 2, "training.precision: float16 needs a CUDA GPU; choose bfloat16 or float32")
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_curves_go_on_where_a_resumed_run_does(mt: Mt, write: Write, tmp_path: Path) -> None:
    """They may be asked for when a run is resumed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = write(training={"max_steps": 20, "tensorboard": True, "average": False})
    assert mt("train", config).code == 0
    assert mt("train", config, "--resume", "--set", "training.max_steps=30").code == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/nll")] == [10, 20, 30]
    assert [event.step for event in events.Scalars("valid/nll")] == [20, 30]
    off = mt("train", config, "--resume", "--set", "training.max_steps=40", "--set", "training.tensorboard=false")
    assert off.code == 0, off.err
