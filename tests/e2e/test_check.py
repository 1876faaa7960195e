"""``mt check`` tells faults from sound text, leaves the run as training needs it, and foretells what training takes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.conftest import Mt, Result, toy_pairs, toy_tree, write_lines
from transformer_mt.checkup import check as checking
from transformer_mt.checkup import preflight as flying
from transformer_mt.config import Config
from transformer_mt.errors import NumericsError
from transformer_mt.training.trainer import Trainer

Pairs = list[tuple[str, str]]


def shorten() -> None:
    """A few steps are timed."""
    flying._WARM_STEPS, flying._STEPS, flying._SECONDS = 1, 2, 0.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_WARM_STEPS", "_STEPS", "_SECONDS"):
        monkeypatch.setattr(flying, name, getattr(flying, name))
    shorten()


@pytest.fixture
def here(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight in this process, and short."""

    def fly(config: Config) -> flying.Preflight:
        with tempfile.TemporaryDirectory(dir=config.run_dir, prefix=".check-") as scratch:
            return checking._fly(config, Path(scratch))

    monkeypatch.setattr(checking, "_fly_apart", fly)


def run_of(config: Path) -> Path:
    return Path(yaml.safe_load(config.read_text(encoding="utf-8"))["run_dir"])


def report_of(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_of(config) / "check.json").read_text(encoding="utf-8"))
    return found


def write_pairs(folder: Path, split: str, pairs: Pairs) -> None:
    for number, side in enumerate(("xx", "yy")):
        write_lines(folder / f"{split}.{side}", [pair[number] for pair in pairs])


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., Path]:
    """Write text and the configuration of a run on it; sections given are merged into the toy one."""

    def write(train: Pairs, valid: Pairs, test: Pairs, **sections: Any) -> Path:
        for split, pairs in (("train", train), ("valid", valid), ("test", test)):
            write_pairs(tmp_path, split, pairs)
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(toy_tree(tmp_path, tmp_path / "run", **sections)), encoding="utf-8")
        return path

    return write


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


CHECKED = ("check.json", "check.html", "check.tsv")
SOUND = {"config.yaml", "lock", "data", "tokenizer", *CHECKED}


# -- Verdict and exit code


@pytest.mark.usefixtures("here")
def test_sound_text_is_ready_to_train(mt: Mt, toy_config: Callable[..., Path]) -> None:
    config = toy_config()
    result = mt("check", config)
    assert (result.code, result.errors) == (0, []), result.err
    found = report_of(config)
    assert result.out.splitlines()[-1] == f"Verdict: {found['verdict']}"
    assert found["verdict"].startswith("ready to train (")
    assert found["ready"]
    assert found["sets"] == {"valid": 10, "test": 10}
    assert found["cleaning"]["pairs"] == 400
    assert left(run_of(config)) == SOUND


@pytest.mark.usefixtures("here")
def test_faults_in_the_text_are_named_with_code_3(mt: Mt, corpus: Callable[..., Path]) -> None:
    """Half of the test set is in the training text, of which 300 targets stand one line too low."""
    pairs = toy_pairs(3_000)
    sources, targets = [s for s, _ in pairs], [t for _, t in pairs]
    targets[1000:1300] = [targets[1299], *targets[1000:1299]]
    train = list(zip(sources, targets, strict=True))
    config = corpus(train, toy_pairs(50, seed=1), pairs[:50] + toy_pairs(50, seed=2))
    result = mt("check", config)
    assert result.code == 3
    [error] = result.errors
    assert "leakage" in error
    assert "shifted" in error
    assert error.startswith(f"error: {run_of(config)}: ")
    assert error.endswith("; see check.html there")
    found = report_of(config)
    assert {"leakage", "shifted"} == {f["kind"] for f in found["findings"] if f["severity"] == "problem"}
    assert not found["ready"]
    for finding in found["findings"]:
        assert f"  {finding['severity']}: {finding['message']}" in result.out.splitlines()
    assert found["train"][str(config.parent / "train.xx")]["leaks"]["test"]["pairs"] >= 45


@pytest.mark.usefixtures("here")
def test_test_lines_that_a_rule_drops_from_the_training_text_are_no_fault(mt: Mt, corpus: Callable[..., Path]) -> None:
    pairs = toy_pairs(3_000)
    config = corpus(pairs, toy_pairs(50, seed=1), pairs[:50] + toy_pairs(50, seed=2))
    assert mt("check", config).code == 3
    assert mt("check", config, "--set", "data.drop=[leaks]").code == 0
    assert report_of(config)["cleaning"]["dropped"]["leaks"]["pairs"] >= 50


@pytest.mark.usefixtures("here")
def test_a_warm_up_longer_than_the_run_has_code_2(mt: Mt, toy_config: Callable[..., Path]) -> None:
    config = toy_config(training={"warmup_steps": 61})
    result = mt("check", config)
    assert result.code == 2
    [error] = result.errors
    assert "1 problem: warm-up" in error
    assert "about 60 steps fit into this run, but the learning rate rises for 61; set 6" in result.out


@pytest.mark.usefixtures("here")
def test_too_little_room_has_code_6(mt: Mt, toy_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    result = mt("check", toy_config())
    assert result.code == 6
    [error] = result.errors
    assert "1 problem: disk" in error


@pytest.mark.usefixtures("here")
def test_exchanged_and_mistaken_languages_are_told(mt: Mt, corpus: Callable[..., Path]) -> None:
    """The project's own corpus, English and German, under other names."""
    data = Path(__file__).resolve().parents[2] / "data"
    en, de = ((data / f"train.{code}").read_text(encoding="utf-8").splitlines()[:1500] for code in ("en", "de"))
    pairs = list(zip(en, de, strict=True))
    config = corpus(pairs[:1400], pairs[1400:1450], pairs[1450:], tokenizer={"vocab_size": 500})
    sound = mt("check", config, "--set", "languages={source: en, target: de}")
    assert sound.code == 0, sound.err
    for source, target, message in (
        ("de", "en", "as if the files were exchanged"),
        ("fr", "de", "train.xx: looks like en, not fr; check the file and languages.source"),
    ):
        result = mt("check", config, "--set", f"languages={{source: {source}, target: {target}}}")
        assert result.code == 3
        assert "1 problem: languages" in result.errors[0]
        assert message in result.out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"precision": "float16"}}, "training.precision: float16 needs a CUDA GPU"),
        ({"training": {"start_from": "RUN"}, "model": {"width": 64}}, "has another model: model.width is 64, there 32"),
        (
            {"training": {"start_from": "RUN"}, "tokenizer": {"joint": False, "vocab_size": 290}},
            "has joint vocabularies",
        ),
    ],
)
def test_what_training_would_refuse_is_refused(
    sections: dict[str, Any], message: str, mt: Mt, toy_config: Callable[..., Path], tiny_run: Path
) -> None:
    if "start_from" in sections["training"]:
        sections = {**sections, "training": {"start_from": str(tiny_run)}}
    result = mt("check", toy_config(**sections))
    assert result.code == 2
    assert message in result.errors[0]


@pytest.mark.usefixtures("here")
def test_a_validation_set_without_text_is_refused(mt: Mt, corpus: Callable[..., Path]) -> None:
    pairs = toy_pairs(420)
    config = corpus(pairs[:400], [("", "okamn")] * 5, pairs[410:])
    result = mt("check", config)
    assert result.code == 3
    assert "data.valid: no pair has text on both sides" in result.errors[0]
    assert left(run_of(config)) <= SOUND


# -- What is looked at


@pytest.mark.usefixtures("here")
def test_corpora_and_sets_are_called_by_their_names(mt: Mt, corpus: Callable[..., Path], tmp_path: Path) -> None:
    pairs = toy_pairs(480)
    more, objects = tmp_path / "more.tsv", tmp_path / "more.jsonl"
    write_lines(more, ["\t".join(pair) for pair in pairs[400:430]])
    write_lines(objects, [json.dumps(dict(zip(("xx", "yy"), pair, strict=True))) for pair in pairs[430:460]])
    write_lines(tmp_path / "none.tsv", [])
    train = [
        {"source": str(tmp_path / "train.xx"), "target": str(tmp_path / "train.yy")},
        {"tsv": str(more)}, {"tsv": str(more), "columns": [1, 2]}, {"jsonl": str(objects)},
        {"tsv": str(tmp_path / "none.tsv")},
    ]  # fmt: skip
    config = corpus(pairs[:400], pairs[460:470], pairs[470:])
    files = {"source": str(tmp_path / "valid.xx"), "target": str(tmp_path / "valid.yy")}
    sets = {"news": files, "talks": {"tsv": str(more)}}
    result = mt("check", config, "--set", f"data.train={json.dumps(train)}", "--set", f"data.valid={json.dumps(sets)}")
    assert result.code in (0, 3), result.err
    found = report_of(config)
    assert {name: examination["pairs"] for name, examination in found["train"].items()} == {
        str(tmp_path / "train.xx"): 400, f"{more} (corpus 2)": 30, f"{more} (corpus 3)": 30, str(objects): 30,
        str(tmp_path / "none.tsv"): 0,
    }  # fmt: skip
    assert found["sets"] == {"valid.news": 10, "valid.talks": 30, "test": 10}
    assert {"valid.talks.source", "train.target"} <= set(found["coverage"])
    assert found["train"][f"{more} (corpus 2)"]["leaks"]["valid.talks"]["pairs"] >= 25
    for name in (*found["train"], *found["sets"]):
        assert f"  {name}: " in result.out


@pytest.mark.usefixtures("here")
def test_pairs_held_out_of_training_are_no_leak(mt: Mt, toy_config: Callable[..., Path]) -> None:
    """They are in the files, and taken out of training."""
    config = toy_config()
    result = mt("check", config, "--set", "data.valid=null", "--set", "data.test=null")
    assert result.code == 0, result.err
    found = report_of(config)
    [examination] = found["train"].values()
    assert examination["leaks"] == {}
    assert found["cleaning"]["held_out"] == {"valid": 4, "test": 4}
    assert "  valid: 4 pairs (held out of training)" in result.out


@pytest.mark.usefixtures("here")
def test_only_the_first_pairs_of_a_large_corpus_are_examined(
    mt: Mt, toy_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "MOST", 100)
    config = toy_config()
    result = mt("check", config)
    assert "train.xx: the first 100 pairs are examined" in result.err
    found = report_of(config)
    assert [examination["pairs"] for examination in found["train"].values()] == [100]
    assert found["cleaning"]["pairs"] == 400


@pytest.mark.usefixtures("here")
def test_a_page_of_text_like_html_shows_it_as_text(mt: Mt, corpus: Callable[..., Path]) -> None:
    line = "<script>alert(1)</script> & <b>mako</b>"
    pairs = toy_pairs(420)
    config = corpus([*pairs[:400], *[(line, line)] * 9], pairs[400:410], pairs[410:])
    assert mt("check", config).code == 0
    html = (run_of(config) / "check.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;mako&lt;/b&gt;" in html


# -- What is foretold


@pytest.mark.usefixtures("here")
def test_an_epoch_has_as_many_steps_as_foretold(mt: Mt, toy_config: Callable[..., Path]) -> None:
    config = toy_config(training={"max_steps": None, "max_epochs": 1, "warmup_steps": 4})
    assert mt("check", config).code == 0
    assert mt("train", config).code == 0
    flight = report_of(config)["preflight"]
    assert flight["ends_by"] == "max_epochs 1"
    assert json.loads((run_of(config) / "exit.json").read_text())["step"] == flight["steps"]


@pytest.mark.usefixtures("here")
def test_the_preflight_tries_the_largest_batch_and_measures_everything(
    mt: Mt, corpus: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is the longest, a sentence of a hundred words that is alone in its batch."""
    pairs = toy_pairs(420)
    long = (" ".join(["mako"] * 100), " ".join(["okamn"] * 100))
    shapes: list[tuple[int, int, int]] = []
    windows: list[Any] = []
    update = Trainer.update

    def spy(self: Any, buckets: Any, step: int, tally: Any) -> None:
        shapes.extend(bucket.shape for bucket in buckets)
        windows[:] = [bucket.shape for batch in self.batches.window(0, 0) for bucket in batch]
        update(self, buckets, step, tally)

    monkeypatch.setattr(Trainer, "update", spy)
    config = corpus([*pairs[:200], long, *pairs[200:400]], pairs[400:410], pairs[410:])
    assert mt("check", config, "--set", "data.max_ratio=100").code == 0
    flight = report_of(config)["preflight"]
    assert tuple(flight["largest_batch"]) in shapes
    assert flight["largest_batch"][0] * sum(flight["largest_batch"][1:]) == max(b * (s + t) for b, s, t in windows)
    assert max(s for _, s, _ in shapes) > 90
    for key in ("step", "tokens_per_second", "validation", "saving", "loading", "sentence", "total", "memory"):
        assert flight[key] > 0, key
    assert flight["checkpoint_bytes"] > 3 * 4 * flight["parameters"]  # weights and the two moments of Adam


@pytest.mark.usefixtures("here")
def test_all_validation_sets_are_foretold(
    mt: Mt, toy_config: Callable[..., Path], toy_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training validates them all, each time."""
    sizes: list[int] = []

    def note(translator: Any, settings: Any, pairs: Pairs) -> float:
        sizes.append(len(pairs))
        return 1.0

    monkeypatch.setattr(flying, "_time_validation", note)
    files = {split: {s: str(toy_text / f"{split}.{e}") for s, e in (("source", "xx"), ("target", "yy"))}
             for split in ("valid", "test")}  # fmt: skip
    assert mt("check", toy_config(), "--set", f"data.valid={json.dumps(files)}").code == 0
    assert sizes == [20]


@pytest.mark.usefixtures("here")
def test_weights_that_leave_the_first_window_empty_are_tried_with_the_next(
    mt: Mt, toy_config: Callable[..., Path], toy_text: Path
) -> None:
    train = {"source": str(toy_text / "train.xx"), "target": str(toy_text / "train.yy"), "weight": 0.0026}
    codes = {mt("check", toy_config(), "--set", f"data.train={json.dumps(train)}", "--set", f"seed={n}").code
             for n in range(4)}  # fmt: skip
    assert codes == {0}


# -- What is left behind


@pytest.mark.usefixtures("here")
def test_training_after_a_check_is_as_without_it(mt: Mt, toy_config: Callable[..., Path], tmp_path: Path) -> None:
    config = toy_config(training={"max_steps": 6, "save_every": 6, "validate_every": 6, "warmup_steps": 2})
    weights = []
    for checked in (False, True):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        if checked:
            assert mt("check", config).code == 0
        result = mt("train", config)
        assert result.code == 0, result.err
        assert ("unchanged" in result.err) == checked  # the store is made once
        weights.append((tmp_path / "run" / "checkpoints" / "step-000006" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("short")
def test_what_fails_in_the_preflight_leaves_nothing_and_is_told_as_training_would(
    mt: Mt, toy_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config()
    monkeypatch.setattr(checking, "_fly_and_send", _diverge_and_send)
    result = mt("check", config)
    assert (result.code, result.errors) == (5, ["error: step 3: not finite; lower training.learning_rate"])
    assert left(run_of(config)) == SOUND - {*CHECKED}


def _diverge_and_send(sender: Connection, config: Config, scratch: Path) -> None:
    def fail(*_: object) -> None:
        raise NumericsError("step 3: not finite; lower training.learning_rate")

    checking.__dict__["preflight"] = fail
    checking._fly_and_send(sender, config, scratch)


@pytest.mark.usefixtures("short")
def test_a_child_killed_for_its_memory_has_code_6_and_leaves_nothing(
    mt: Mt, toy_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config()
    monkeypatch.setattr(checking, "_fly_and_send", _be_killed)
    result = mt("check", config)
    assert result.code == 6
    [error] = result.errors
    assert "does not fit into memory; lower training.device_tokens" in error
    assert left(run_of(config)) == SOUND - {*CHECKED}


def _be_killed(sender: Connection, config: Config, scratch: Path) -> None:
    (scratch / "half a checkpoint").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_preflight_flies_in_a_process_of_its_own(
    mt: Mt, toy_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config()
    monkeypatch.setattr(checking, "_fly_and_send", _shorten_and_send)
    before = signal.getsignal(signal.SIGINT)
    result = mt("check", config)
    assert (result.code, result.errors) == (0, []), result.err
    assert report_of(config)["preflight"]["memory"] > 10**8
    assert left(run_of(config)) == SOUND
    assert signal.getsignal(signal.SIGINT) == before


def _shorten_and_send(sender: Connection, config: Config, scratch: Path) -> None:
    assert scratch.is_dir()
    shorten()
    checking._fly_and_send(sender, config, scratch)


@pytest.fixture
def begun(toy_config: Callable[..., Path]) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A configuration, and ``mt check`` of it, in a process group of its own, whose preflight has begun."""
    config = toy_config()
    command = [sys.executable, "-m", "transformer_mt", "check", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while "trying the largest batch" not in process.stderr.readline():
            assert process.poll() is None
        yield config, process
        process.kill()


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(begun: tuple[Path, subprocess.Popen[str]]) -> None:
    config, process = begun
    while not list(run_of(config).glob(".check-*")):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert left(run_of(config)) == SOUND - {*CHECKED}


# -- A directory that holds a run


@pytest.mark.usefixtures("here")
def test_a_run_that_is_there_is_noted_and_left_as_it_is(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)

    def contents() -> dict[str, bytes]:
        files = (path for path in run.rglob("*") if path.is_file() and path.name != "lock")
        return {str(path.relative_to(run)): path.read_bytes() for path in files if path.name not in CHECKED}

    before = contents()
    result: Result = mt("check", run, "--set", f"run_dir={run}")
    assert result.code == 0, result.err
    assert f"note: {run}: already holds a run; mt train needs --resume" in result.out
    assert contents().keys() == before.keys()
    assert {name for name, data in contents().items() if data != before[name]} <= {"config.yaml"}  # its run_dir
    assert left(run) >= SOUND


# -- The lines that a finding means, and validation and test text itself


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(shutil.which("awk") is None or shutil.which("sed") is None, reason="needs awk and sed")
def test_what_is_found_can_be_dropped_as_the_page_on_data_says(mt: Mt, corpus: Callable[..., Path]) -> None:
    """The commands of docs/data.md, to the letter but for names: they take away the swapped lines and no others."""
    pairs, valid, test = (part := toy_pairs(2_040))[:2_000], part[2_000:2_020], part[2_020:]
    swapped = set(range(7, 2_000, 25))
    train = [pair[::-1] if n in swapped else pair for n, pair in enumerate(pairs)]
    config = corpus(train, valid, test)
    assert mt("check", config).code == 3
    listed = [line.split("\t") for line in (run_of(config) / "check.tsv").read_text(encoding="utf-8").splitlines()]
    assert {kind for kind, *_ in listed} == {"swapped"}
    rows = {int(number) - 1 for _, _, number, _, _ in listed}
    assert rows <= swapped and len(rows) > 0.9 * len(swapped)
    assert all((source, target) == train[int(number) - 1] for _, _, number, source, target in listed)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    script = page[page.index("awk -F") :].split("```")[0]
    names = {
        "runs/de-en": "run",
        "train.de": "train.xx",
        "train.en": "train.yy",
        "clean.de": "c.xx",
        "clean.en": "c.yy",
    }
    for there, name in names.items():
        script = script.replace(there, name)
    subprocess.run(["bash", "-ec", script], cwd=config.parent, check=True)
    clean = [(config.parent / name).read_text(encoding="utf-8").splitlines() for name in ("c.xx", "c.yy")]
    assert list(zip(*clean, strict=True)) == [pair for n, pair in enumerate(train) if n not in rows]


@pytest.mark.usefixtures("here")
def test_faults_of_a_given_test_set_are_found_too(mt: Mt, corpus: Callable[..., Path]) -> None:
    test = toy_pairs(800, seed=2)
    shifted = [(source, test[n - 1][1] if n >= 300 else target) for n, (source, target) in enumerate(test)]
    result = mt("check", corpus(toy_pairs(1_000), toy_pairs(20, seed=1), shifted))
    assert result.code == 3
    assert any("test, target:30" in line for line in result.out.splitlines())
