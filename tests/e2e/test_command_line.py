"""The command line as a user meets it, from raw text to translations, and how it says no."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sacrebleu
import yaml

from tests.conftest import PATIENCE, failed, hashes, wait_for
from transformer_mt.experiment import tokenization
from transformer_mt.rundir import RunDirectory
from transformer_mt.training.trainer import Trainer

if TYPE_CHECKING:
    from tests.conftest import Mt, Result

Start = Callable[..., subprocess.Popen[bytes]]
Write = Callable[..., Path]


def succeeded(result: Result) -> list[str]:
    """Assert that a command went well; the lines of its output."""
    assert result.code == 0, result.err
    assert not result.errors
    assert result.out == "" or result.out.endswith("\n")
    return result.out.split("\n")[:-1]


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def ending(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "exit.json").read_text(encoding="utf-8"))
    return content


def pointed(run: Path, pointer: str) -> str:
    return (run / "checkpoints" / pointer).read_text(encoding="utf-8").split()[0]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, to be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


@pytest.fixture
def sources(toy_text: Path) -> list[str]:
    """The source lines of the toy test set."""
    return (toy_text / "test.xx").read_text(encoding="utf-8").splitlines()


# --- tokenize


def test_tokenize_is_done_again_only_when_inputs_change(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeeded(mt("tokenize", toy_config()))
    first = hashes(run)
    assert {"config.yaml", "tokenizer/joint.model", "data/manifest.json", "data/train.source.ids.npy"} <= set(first)
    again = mt("tokenize", toy_config())
    succeeded(again)
    assert "unchanged" in again.err
    assert hashes(run) == first
    other = mt("tokenize", toy_config(tokenizer={"kind": "bpe"}))
    succeeded(other)
    assert "unchanged" not in other.err
    assert hashes(run)["tokenizer/joint.model"] != first["tokenizer/joint.model"]


def test_train_takes_over_what_tokenize_left(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    succeeded(mt("tokenize", toy_config()))
    before = hashes(tmp_path / "run" / "data")
    result = mt("train", toy_config(), "--set", "training.max_steps=2")
    succeeded(result)
    assert "unchanged" in result.err
    assert hashes(tmp_path / "run" / "data") == before


def test_tokenize_does_not_change_the_configuration_of_a_run_that_was_started(mt: Mt, run: Path) -> None:
    before = hashes(run)
    failed(mt("tokenize", run, "--set", "model.layers=2"), 4, "model.layers")
    assert hashes(run) == before


# --- train


def test_a_run_leaves_what_the_design_promises(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert {"config.yaml", "tokenizer", "data", "checkpoints", "metrics.jsonl", "exit.json"} <= names
    assert ending(tiny_run) == {"code": 0, "reason": "max_steps 60", "step": 60}
    assert pointed(tiny_run, "last") == "step-000060"
    train = [event for event in events(tiny_run) if event["event"] == "train"]
    assert [event["step"] for event in train] == [10, 20, 30, 40, 50, 60]
    assert all({"epoch", "loss", "nll", "learning_rate", "target_tokens_per_second"} <= set(event) for event in train)
    assert train[-1]["nll"] < train[0]["nll"] / 2
    valid = [event for event in events(tiny_run) if event["event"] == "valid"]
    assert [event["step"] for event in valid] == [30, 60, 60]  # the last one of the average
    assert all({"nll", "bleu"} <= set(event) for event in valid)


def test_train_again_is_refused_and_changes_nothing(mt: Mt, run: Path) -> None:
    before = hashes(run)
    failed(mt("train", run), 2, str(run), "--resume")
    assert hashes(run) == before


def test_resume_of_a_finished_run_says_so(mt: Mt, run: Path) -> None:
    before = hashes(run / "checkpoints")
    result = mt("train", run, "--resume")
    succeeded(result)
    assert "finished already" in result.err
    assert hashes(run / "checkpoints") == before
    assert ending(run)["code"] == 0


def test_resume_with_more_steps_goes_on(mt: Mt, run: Path) -> None:
    before = events(run)
    result = mt("train", run, "--resume", "--set", "training.max_steps=80", "--set", "training.average=false")
    succeeded(result)
    assert "resuming after step 60" in result.err
    assert events(run)[: len(before)] == before
    assert [event["step"] for event in events(run)[len(before) :] if event["event"] == "train"] == [70, 80]
    assert ending(run) == {"code": 0, "reason": "max_steps 80", "step": 80}
    assert pointed(run, "last") == "step-000080"


def test_resume_with_nothing_saved_starts_from_the_beginning_and_says_so(
    mt: Mt, toy_config: Write, tmp_path: Path
) -> None:
    result = mt("train", toy_config(), "--resume", "--set", "training.max_steps=3")
    succeeded(result)
    assert "from the beginning" in result.err
    assert ending(tmp_path / "run")["step"] == 3


@pytest.mark.parametrize(
    "change",
    ["model.layers=2", "training.batch_tokens=100", "seed=2", "training.label_smoothing=0", "languages.target=z"],
)
def test_resume_refuses_another_experiment(mt: Mt, run: Path, change: str) -> None:
    before = hashes(run / "checkpoints")
    failed(mt("train", run, "--resume", "--set", change), 4, change.split("=")[0].split(".")[0])
    assert hashes(run / "checkpoints") == before


def test_a_refused_start_is_told_in_exit_json_but_not_when_it_is_not_ours_to_tell(mt: Mt, run: Path) -> None:
    failed(mt("train", run), 2)
    with RunDirectory(run).lock():
        failed(mt("train", run, "--resume"), 6)
    assert ending(run)["code"] == 0
    result = mt("train", run, "--resume", "--set", "model.dropout=0.5")
    failed(result, 4)
    assert ending(run) == {"code": 4, "reason": result.errors[0].removeprefix("error: "), "step": 0}


def test_a_run_that_has_lost_its_configuration_file_goes_on_with_the_same_one(
    mt: Mt, run: Path, toy_config: Write
) -> None:
    """What it was is known from its newest checkpoint; it is still a run, which is not replaced by mistake."""
    kept = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    (run / "config.yaml").unlink()
    command = ("train", toy_config(), "--set", f"run_dir={run}")
    failed(mt(*command), 2, "already holds a run")
    change = ("--set", "training.learning_rate=0.002")
    failed(mt(*command, "--resume", *change), 4, "training.learning_rate is 0.002 but was 0.005")
    result = mt(*command, "--resume")
    succeeded(result)
    assert "the run is finished already" in result.err
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) == {**kept, "run_dir": str(run)}


def test_resume_refuses_other_text(mt: Mt, toy_config: Write, toy_text: Path, tmp_path: Path) -> None:
    text = Path(shutil.copytree(toy_text, tmp_path / "text"))
    data = {"train": {"source": str(text / "train.xx"), "target": str(text / "train.yy")}}
    succeeded(mt("train", toy_config(data=data), "--set", "training.max_steps=2"))
    (text / "train.xx").write_text("ar mako kist\n" * 400, encoding="utf-8")
    failed(mt("train", toy_config(data=data), "--resume"), 4, "data.train")


def test_a_moved_run_goes_on_where_it_is_without_its_raw_text(
    mt: Mt, toy_config: Write, toy_text: Path, tmp_path: Path
) -> None:
    text = Path(shutil.copytree(toy_text, tmp_path / "text"))
    data = {split: {"source": str(text / f"{split}.xx"), "target": str(text / f"{split}.yy")}
            for split in ("train", "valid", "test")}  # fmt: skip
    succeeded(mt("train", toy_config(data=data), "--set", "training.max_steps=2"))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    shutil.rmtree(text)
    succeeded(mt("train", moved, "--resume", "--set", "training.max_steps=4"))
    assert ending(moved)["step"] == 4
    assert len(succeeded(mt("translate", moved, stdin="ar mako\n"))) == 1
    succeeded(mt("eval", moved))
    assert (moved / "eval" / "test.hyp").exists()
    assert not (tmp_path / "run").exists()


# --- eval


def test_eval_writes_scores_signatures_and_hypotheses(
    mt: Mt, run: Path, toy_text: Path, sources: list[str], tmp_path: Path
) -> None:
    lines = succeeded(mt("eval", run, "--json", tmp_path / "scores.json"))
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert set(scores) == {"bleu", "chrf", "ter", "sentences", "checkpoint"}
    assert all(set(scores[name]) == {"score", "signature"} for name in ("bleu", "chrf", "ter"))
    assert scores["sentences"] == 10
    assert scores["checkpoint"] == pointed(run, "best")
    hypotheses = (run / "eval" / "test.hyp").read_text(encoding="utf-8").split("\n")[:-1]
    assert hypotheses == succeeded(mt("translate", run, stdin="".join(line + "\n" for line in sources)))
    reference = (toy_text / "test.yy").read_text(encoding="utf-8").splitlines()
    assert scores["bleu"]["score"] == round(sacrebleu.corpus_bleu(hypotheses, [reference]).score, 2)
    assert scores["chrf"]["score"] == round(sacrebleu.corpus_chrf(hypotheses, [reference]).score, 2)
    assert scores["bleu"]["signature"] in "".join(lines)
    assert f"BLEU {scores['bleu']['score']:.2f}" in lines[-1]


def test_eval_of_the_validation_set(mt: Mt, run: Path) -> None:
    assert "(valid, 10 sentences)" in succeeded(mt("eval", run, "--split", "valid"))[-1]
    assert (run / "eval" / "valid.hyp").exists()


def test_eval_with_several_references(mt: Mt, toy_config: Write, toy_text: Path, tmp_path: Path) -> None:
    """A reference more can only help; here the second one is the translation itself, so that BLEU is 100."""
    target = str(toy_text / "test.yy")
    two = {"test": {"source": str(toy_text / "test.xx"), "target": [target, str(tmp_path / "second.yy")]}}
    shutil.copy(toy_text / "test.yy", tmp_path / "second.yy")
    succeeded(mt("train", toy_config(data=two), "--set", "training.max_steps=3"))
    run = tmp_path / "run"
    succeeded(mt("eval", run))
    lines = succeeded(mt("eval", run, toy_text / "test.xx", target, run / "eval" / "test.hyp"))
    assert "nrefs:2" in lines[0]
    assert lines[0].startswith("BLEU 100.00")


# --- translate


def test_line_i_out_is_line_i_in(mt: Mt, tiny_run: Path, sources: list[str]) -> None:
    """Blank lines stay blank; lines of all lengths, batched together, come out as each comes alone."""
    lines = [sources[0], "", sources[1], "   ", "\t", sources[2], "ar", "", *sources[3:], " ".join(sources[:4]), "🦊"]
    together = succeeded(mt("translate", tiny_run, stdin="".join(line + "\n" for line in lines)))
    assert len(together) == len(lines)
    for line, translation in zip(lines, together, strict=True):
        [alone] = succeeded(mt("translate", tiny_run, stdin=line + "\n"))
        assert translation == alone
        assert (translation == "") == (line.strip() == "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", 0), ("\n", 1), ("\n\n\n", 3), ("ar mako", 1), ("ar\u2028mako\x85kist\x0c\n", 1), ("ar\r\nel\r\n", 2)],
    ids=["nothing", "a blank line", "blank lines", "no line end", "odd separators", "Windows"],
)
def test_as_many_lines_out_as_in(mt: Mt, tiny_run: Path, tmp_path: Path, text: str, lines: int) -> None:
    (tmp_path / "in").write_text(text, encoding="utf-8", newline="")
    from_input = mt("translate", tiny_run, stdin=text)
    assert len(succeeded(from_input)) == lines
    assert mt("translate", tiny_run, tmp_path / "in") == from_input


def test_file_and_output_file(mt: Mt, tiny_run: Path, toy_text: Path, tmp_path: Path) -> None:
    expected = mt("translate", tiny_run, toy_text / "test.xx")
    assert len(succeeded(expected)) == 10
    result = mt("translate", tiny_run, toy_text / "test.xx", "--output", tmp_path / "out")
    assert (result.out, result.err, result.code) == ("", "", 0)
    assert (tmp_path / "out").read_text(encoding="utf-8") == expected.out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_file_is_replaced_only_by_a_complete_one(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"ar mako\n\xff\n")
    (tmp_path / "out").write_text("old", encoding="utf-8")
    failed(mt("translate", tiny_run, tmp_path / "in", "--output", tmp_path / "out"), 3, f"{tmp_path / 'in'}:2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "in": b"ar mako\n\xff\n",
        "out": b"old",
    }


def test_output_to_a_named_pipe_goes_through_it(mt: Mt, tiny_run: Path, toy_text: Path, tmp_path: Path) -> None:
    """Renaming a file over it, or over /dev/null, would do harm."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        succeeded(mt("translate", tiny_run, toy_text / "test.xx", "--output", tmp_path / "pipe"))
        assert reader.stdout is not None
        assert len(reader.stdout.read().splitlines()) == 10
    assert (tmp_path / "pipe").is_fifo()


def test_input_from_a_named_pipe(mt: Mt, tiny_run: Path, toy_text: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", toy_text / "test.xx", tmp_path / "pipe"]):
        result = mt("translate", tiny_run, tmp_path / "pipe")
    assert result == mt("translate", tiny_run, toy_text / "test.xx")


def test_nbest_gives_so_many_lines_a_sentence_best_first(mt: Mt, tiny_run: Path, sources: list[str]) -> None:
    text = f"{sources[0]}\n\n{sources[1]}\n"
    lines = succeeded(mt("translate", tiny_run, "--nbest", 3, "--scores", stdin=text))
    assert len(lines) == 9
    parsed = [line.split("\t") for line in lines]
    assert all(len(columns) == 2 for columns in parsed)
    assert [columns[1] for columns in parsed[3:6]] == ["", "", ""]
    for first in (0, 6):
        scores = [float(columns[0]) for columns in parsed[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] < 0
        assert len({columns[1] for columns in parsed[first : first + 3]}) > 1
    assert [columns[1] for columns in parsed[::3]] == succeeded(mt("translate", tiny_run, stdin=text))


def test_ten_thousand_words_give_a_line_and_a_warning(mt: Mt, tiny_run: Path) -> None:
    text = "ar mako\n" + "mako " * 10_000 + "\nel bilu\n"
    result = mt("translate", tiny_run, "--set", "decoding.beam_size=1", stdin=text)
    assert len(succeeded(result)) == 3
    assert re.fullmatch(r"warning: line 2: \d+ pieces are too long; cut to 1023, split it\n", result.err)


@pytest.mark.parametrize("name", ["last", "step-000040"])
def test_a_checkpoint_can_be_chosen(mt: Mt, tiny_run: Path, name: str, sources: list[str], tmp_path: Path) -> None:
    text = "".join(line + "\n" for line in sources)
    assert len(succeeded(mt("translate", tiny_run, "--checkpoint", name, stdin=text))) == 10
    succeeded(mt("eval", tiny_run, "--checkpoint", name, "--json", tmp_path / "s.json"))
    expected = "step-000060" if name == "last" else name
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["checkpoint"] == expected


def test_checkpoints_of_different_steps_translate_differently(mt: Mt, tiny_run: Path, sources: list[str]) -> None:
    text = "".join(line + "\n" for line in sources)
    outputs = {mt("translate", tiny_run, "--checkpoint", f"step-0000{n}", stdin=text).out for n in (40, 60)}
    assert len(outputs) == 2


# --- score, average


def test_score_prints_one_number_a_pair(mt: Mt, tiny_run: Path, toy_text: Path) -> None:
    right = [float(line) for line in succeeded(mt("score", tiny_run, toy_text / "test.xx", toy_text / "test.yy"))]
    assert len(right) == 10
    assert all(score < 0 for score in right)
    swapped = [float(line) for line in succeeded(mt("score", tiny_run, toy_text / "test.xx", toy_text / "test.xx"))]
    assert sum(right) > sum(swapped)


def test_score_refuses_unequal_files(mt: Mt, tiny_run: Path, toy_text: Path) -> None:
    failed(mt("score", tiny_run, toy_text / "test.xx", toy_text / "train.yy"), 3, "has 10", "has 400")


def test_average_prints_the_name_of_a_checkpoint_that_works(mt: Mt, run: Path, sources: list[str]) -> None:
    kept = {path.name for path in (run / "checkpoints").glob("step-*")}
    pointers = [pointed(run, pointer) for pointer in ("last", "best")]
    assert succeeded(mt("average", run)) == ["average-000060"]
    assert [pointed(run, pointer) for pointer in ("last", "best")] == pointers
    manifest = json.loads((run / "checkpoints/average-000060/manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["average_of"]) == kept
    assert len(succeeded(mt("translate", run, "--checkpoint", "average-000060", stdin=sources[0] + "\n"))) == 1


def test_averaging_again_keeps_what_best_means(mt: Mt, run: Path) -> None:
    """The pointers hold a checksum, so that a checkpoint that is written again must be pointed to again."""
    succeeded(mt("average", run))
    manifest = run / "checkpoints/average-000060/manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    (run / "checkpoints/best").write_text(f"average-000060 {digest}\n", encoding="utf-8")
    manifest.write_text(manifest.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    failed(mt("translate", run), 4)
    succeeded(mt("average", run))
    succeeded(mt("translate", run))


# --- how it says no


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "did you mean 'train'"]),
        (["translate"], ["RUN"]),
        (["train", "{config}", "extra"], ["extra"]),
        (["train", "{config}", "--fast"], ["--fast"]),
        (["train", "nowhere.yaml"], ["nowhere.yaml"]),
        (["train", "{text}"], ["a folder without config.yaml"]),
        (["train", "{config}", "--set", "modle=small"], ["--set modle", "'model'"]),
        (["train", "{config}", "--set", "seed"], ["KEY=VALUE"]),
        (["train", "{config}", "--set", "run_dir={text}"], ["not empty, and not a run"]),
        (["train", "{config}", "--set", "run_dir={text}/train.xx"], ["run_dir is a file"]),
        (["train", "{config}", "--set", "tokenizer.vocab_size=10"], ["too small"]),
        (["translate", "{config}"], ["no checkpoint 'best' yet"]),
        (["eval", "{config}"], ["no checkpoint"]),
        (["average", "{config}"], ["no checkpoint"]),
        (["translate", "{run}", "--checkpoint", "step-999999"], ["step-999999", "step-000060"]),
        (["translate", "{run}", "--checkpoint", "../checkpoints/step-000060"], ["no checkpoint"]),
        (["translate", "{run}", "--checkpoint", ""], ["no checkpoint"]),
        (["translate", "{run}", "--nbest", "0"], ["--nbest"]),
        (["translate", "{run}", "--nbest", "4"], ["--nbest 4", "beam_size 3"]),
        (["translate", "{run}", "--set", "decoding.beam_size=0"], ["beam_size"]),
        (["eval", "{run}", "--split", "train"], ["--split train"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_code_2_for_the_command_line_and_the_configuration(
    mt: Mt, toy_config: Write, toy_text: Path, tiny_run: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    places = {"config": toy_config(), "text": toy_text, "run": tiny_run}
    before = hashes(toy_text) | hashes(tiny_run)
    failed(mt(*(argument.format(**places) for argument in arguments)), 2, *words)
    assert hashes(toy_text) | hashes(tiny_run) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        (b"ar mako\n", ["has 1", "has 400"]),
        (b"ar m\xe9ko\n" * 400, ["bad.xx:1", "not UTF-8"]),
        (b"a\0r\n" * 400, ["bad.xx:1", "NUL"]),
        (b"\n" * 400, ["no training pair is left", "400 empty"]),
    ],
    ids=["missing", "unequal", "Latin-1", "NUL", "blank"],
)
def test_code_3_for_the_text(
    mt: Mt, toy_config: Write, tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    if content is not None:
        (tmp_path / "bad.xx").write_bytes(content)
    failed(mt("train", toy_config(), "--set", f"data.train.source={tmp_path / 'bad.xx'}"), 3, *words)


def test_code_3_for_too_little_text_and_for_input(mt: Mt, toy_config: Write, tiny_run: Path, tmp_path: Path) -> None:
    failed(mt("tokenize", toy_config(tokenizer={"vocab_size": 30_000})), 3, "the maximum is")
    failed(mt("translate", tiny_run, tmp_path / "nothing"), 3, "nothing: no such file")
    failed(mt("translate", tiny_run, tmp_path), 3, "cannot be read")
    result = mt("translate", tiny_run, stdin=b"\nar \xff\n\n")
    assert (result.code, len(result.errors)) == (3, 1)
    assert "standard input:2" in result.err


def test_a_mistake_mended_is_not_held_against_the_directory(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    failed(mt("train", toy_config(), "--set", "data.train.source=/nowhere"), 3)
    failed(mt("train", toy_config(), "--set", "tokenizer.vocab_size=30000"), 3)
    succeeded(mt("train", toy_config(), "--set", "training.max_steps=1"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "training.json", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_checkpoint_is_never_used(mt: Mt, run: Path, name: str, how: str) -> None:
    """Code 4 where it is asked for; a resumed run tells, and goes on from the one before."""
    path = run / "checkpoints" / pointed(run, "last") / name
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if how == "flipped" else content[:-1])
    if name in ("model.safetensors", "manifest.json"):  # the others are for training alone
        failed(mt("translate", run, "--checkpoint", "last"), 4, str(run / "checkpoints"))
    result = mt("train", run, "--resume", "--set", "training.max_steps=70")
    assert result.code == 0
    assert "warning: " in result.err and "going on from step-000040" in result.err
    succeeded(mt("translate", run, "--checkpoint", "last"))


@pytest.mark.parametrize("content", [b"", b"step-000060", b"step-000060 0123\n", b"../../x 0123\n", b"\xff\xfe"])
def test_code_4_for_a_damaged_pointer(mt: Mt, run: Path, content: bytes) -> None:
    (run / "checkpoints" / "best").write_bytes(content)
    failed(mt("translate", run), 4, "checkpoints")


@pytest.mark.parametrize("how", ["flipped", "empty", "missing", "another"])
def test_code_4_for_a_damaged_tokenizer(mt: Mt, run: Path, toy_config: Write, tmp_path: Path, how: str) -> None:
    path = run / "tokenizer" / "joint.model"
    if how == "missing":
        path.unlink()
    elif how == "another":
        succeeded(mt("tokenize", toy_config(tokenizer={"kind": "bpe"})))
        shutil.copy(tmp_path / "run/tokenizer/joint.model", path)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if how == "flipped" else b"")
    for command in (["translate", run], ["train", run, "--resume", "--set", "training.max_steps=70"]):
        failed(mt(*command), 4)


def test_code_4_for_a_damaged_token_store(mt: Mt, run: Path) -> None:
    path = run / "data" / "train.target.ids.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = mt("train", run, "--resume", "--set", "training.max_steps=70")
    assert (result.code, len(result.errors)) == (4, 1)
    assert "token store" in result.errors[0]


@pytest.mark.parametrize("name", ["test.source.txt", "test.target.txt"])
def test_code_4_for_a_missing_test_set(mt: Mt, run: Path, name: str) -> None:
    (run / "data" / name).unlink()
    failed(mt("eval", run), 4)


def test_code_5_for_a_loss_that_is_not_finite(mt: Mt, toy_config: Write, tmp_path: Path) -> None:
    result = mt("train", toy_config(training={"learning_rate": 1e9}))
    assert (result.code, len(result.errors)) == (5, 1)
    assert "learning_rate" in result.errors[0]
    assert ending(tmp_path / "run")["code"] == 5


def test_code_6_for_what_the_system_refuses(mt: Mt, toy_config: Write, toy_text: Path, run: Path) -> None:
    in_the_way = toy_text / "train.xx"
    failed(mt("train", toy_config(), "--set", f"run_dir={in_the_way / 'run'}"), 6, str(in_the_way))
    failed(mt("translate", run, in_the_way, "--output", in_the_way / "x"), 6, str(in_the_way / "x"))
    failed(mt("translate", run, in_the_way, "--output", toy_text), 6, str(toy_text))
    shutil.rmtree(run / "eval", ignore_errors=True)
    (run / "eval").touch()
    failed(mt("eval", run), 6, str(run / "eval"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_code_6_for_a_full_disk(mt: Mt, tiny_run: Path, toy_text: Path, start_mt: Start) -> None:
    failed(mt("translate", tiny_run, toy_text / "test.xx", "--output", "/dev/full"), 6, "No space left on device")
    result = mt("eval", tiny_run, "--json", "/dev/full")
    failed(result, 6, "/dev/full: No space left on device")
    with Path("/dev/full").open("wb") as full:
        process = start_mt("translate", tiny_run, toy_text / "test.xx", stdout=full)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 6
    assert errors == b"error: standard output: No space left on device; make room\n"
    with Path("/dev/full").open("wb") as full:  # what cannot be told has its code all the same
        assert start_mt("train", "nowhere.yaml", stderr=full).wait(PATIENCE) == 2


@pytest.mark.parametrize("command", [["train", "--resume"], ["tokenize"]])
def test_code_6_for_a_lock_that_is_held(mt: Mt, run: Path, command: list[str]) -> None:
    before = hashes(run)
    with RunDirectory(run).lock():
        failed(mt(*command, run), 6, str(run), f"in use by process {os.getpid()}")
        assert len(succeeded(mt("translate", run, stdin="ar\n"))) == 1  # readers are welcome
    assert {**hashes(run), "lock": ""} == {**before, "lock": ""}


def test_other_commands_than_train_refuse_torchrun_once(
    mt: Mt, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    failed(mt("eval", tiny_run), 2, "mt eval: runs in one process; leave torchrun out")
    monkeypatch.setenv("RANK", "1")
    result = mt("eval", tiny_run)
    assert (result.code, result.out, result.err) == (2, "", "")


def test_code_1_for_a_bug(mt: Mt, toy_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object) -> None:
        raise IndexError("three\nlines\nlong")

    monkeypatch.setattr(tokenization, "tokenize", broken)
    failed(mt("tokenize", toy_config()), 1, "bug: IndexError: three lines long", "--debug")


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_traceback_comes_with_debug_only(mt: Mt, where: str) -> None:
    command = ["train", "nowhere.yaml"]
    result = mt(*(["--debug", *command] if where == "before" else [*command, "--debug"]))
    assert (result.code, len(result.errors), result.out) == (2, 1, "")
    assert result.err.count("Traceback (most recent call last)") == 1
    assert "ConfigError" in result.err


def test_help_goes_to_stdout(mt: Mt) -> None:
    for arguments in ([], ["--help"], ["train", "--help"]):
        result = mt(*arguments)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("Usage: mt ")


@pytest.mark.parametrize("option", [None, "--debug"])
def test_no_control_characters_where_there_is_no_terminal(
    mt: Mt, toy_config: Write, tmp_path: Path, option: str | None
) -> None:
    options = [] if option is None else [option]
    results = [
        mt("train", toy_config(training={"max_steps": 4, "log_every": 1, "validate_every": 2}), *options),
        mt("train", toy_config(), *options),
        mt("translate", tmp_path / "run", *options, stdin="ar mako\x1b[31m\n"),
        mt("eval", tmp_path / "run", *options),
        mt("--help"),
    ]
    assert [result.code for result in results] == [0, 2, 0, 0, 0]
    for result in results:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.err), result.err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", results[0].out + results[3].out + results[4].out)


# --- real processes: signals, pipes, terminals


def next_line(process: subprocess.Popen[bytes]) -> str:
    """The next line of a process's output; it must come while the input stays open."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert ready
    return process.stdout.readline().decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_after_saving(
    mt: Mt, start_mt: Start, toy_config: Write, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    config = toy_config(training={"max_steps": 1_000_000, "validate_every": 1_000_000, "log_every": 1})
    process = start_mt("train", config)
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(events_so_far(run)) >= 3, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    told = [line for line in errors.decode().split("\n") if line.startswith("error:")]
    assert len(told) == 1
    assert "--resume" in told[0]
    assert "Traceback" not in errors.decode()
    step = ending(run)["step"]
    assert ending(run) == {"code": code, "reason": number.name, "step": step}
    assert step >= 3
    assert pointed(run, "last") == f"step-{step:06}"
    assert events(run)[-1]["step"] == step
    result = mt("train", run, "--resume", "--set", f"training.max_steps={step + 2}")
    succeeded(result)
    assert f"resuming after step {step:,}" in result.err
    assert ending(run)["step"] == step + 2


def events_so_far(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_pipe_that_stays_open_gets_each_line_answered_at_once(
    mt: Mt, start_mt: Start, tiny_run: Path, sources: list[str]
) -> None:
    expected = mt("translate", tiny_run, stdin="".join(line + "\n" for line in sources[:3])).out
    process = start_mt("translate", tiny_run)
    assert process.stdin is not None
    answers = []
    for line in sources[:3]:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        answers.append(next_line(process))
    assert "".join(answers) == expected
    rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, b"", b"")


def test_a_reader_who_has_enough_ends_it_quietly(start_mt: Start, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("ar mako kist\n" * 3000, encoding="utf-8")
    process = start_mt("translate", tiny_run, tmp_path / "in", "--set", "decoding.beam_size=1")
    assert next_line(process).endswith("\n")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_closed_streams_do_no_harm(tiny_run: Path, toy_text: Path, stream: str) -> None:
    """But for results that nobody would get: that is an error."""
    redirection = {"stdin": "0<&-", "stdout": "1>&-", "stderr": "2>&-"}[stream]
    arguments = [str(tiny_run)] if stream == "stdin" else [str(tiny_run), str(toy_text / "test.xx")]
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", "mt", "translate", *arguments]
    result = subprocess.run(command, capture_output=True, timeout=PATIENCE, env=with_mt(), check=False)
    if stream == "stdout":
        assert (result.returncode, result.stderr.count(b"\n")) == (6, 1)
        assert result.stderr.startswith(b"error: standard output: ")
    else:
        assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout.splitlines()) == (10 if stream == "stderr" else 0)


def with_mt() -> dict[str, str]:
    """The environment in which ``mt`` is the one beside this Python."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_usage_errors_of_the_installed_command() -> None:
    result = subprocess.run(["mt", "trian"], capture_output=True, text=True, env=with_mt(), check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: mt: no such command 'trian'; did you mean 'train'?")
    assert result.stderr.count("\n") == 1


def test_the_prompt_on_a_terminal(mt: Mt, start_mt: Start, tiny_run: Path, sources: list[str]) -> None:
    """Typed sentences are answered, blank ones too; Ctrl-D ends."""
    expected = succeeded(mt("translate", tiny_run, stdin=sources[0] + "\n"))[0]
    ours, theirs = pty.openpty()
    process = start_mt("translate", tiny_run, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = bytearray()

    def until(text: bytes) -> None:
        while text not in shown:
            ready, _, _ = select.select([ours], [], [], PATIENCE)
            assert ready, bytes(shown)
            try:
                shown.extend(os.read(ours, 65_536))
            except OSError:  # the other side is closed
                raise AssertionError(bytes(shown)) from None

    until(b"> ")
    del shown[:]
    os.write(ours, sources[0].encode() + b"\n")
    until(b"> ")
    assert expected in shown.decode()
    os.write(ours, b"\x04")
    assert process.wait(PATIENCE) == 0
    os.close(ours)


def test_no_prompt_gets_into_a_file(mt: Mt, start_mt: Start, tiny_run: Path, sources: list[str]) -> None:
    """``mt translate RUN > FILE`` with sentences that are typed."""
    expected = mt("translate", tiny_run, stdin=sources[0] + "\n").out
    ours, theirs = pty.openpty()
    process = start_mt("translate", tiny_run, stdin=theirs)
    os.close(theirs)
    os.write(ours, sources[0].encode() + b"\n")
    assert next_line(process) == expected
    os.write(ours, b"\x04")
    assert process.communicate(timeout=PATIENCE)[0] == b""
    assert process.returncode == 0
    os.close(ours)


def test_out_of_memory_is_told_alike_by_the_exit_code_and_by_exit_json(
    mt: Mt, toy_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9999999 bytes")

    monkeypatch.setattr(Trainer, "update", fail)
    failed(mt("train", toy_config()), 6, "out of memory; lower training.device_tokens")
    assert json.loads((tmp_path / "run" / "exit.json").read_text()) == {"code": 6, "reason": "out of memory", "step": 0}
