"""A finished run at work: translations as JSON or by sentences, and scores of whatever files and sets there are."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import run_in_process, toy_pairs, toy_tree, write_lines

if TYPE_CHECKING:
    from tests.conftest import Mt, Result

LINES = ["ar mako kist", "", "El bilu balm. In tofi torf! 🦊", "os suda"]
PARAGRAPH = "Ar mako kist. El bilu balm! In tofi torf?"
TEXT = "".join(line + "\n" for line in LINES)
C = {"LC_ALL": "C"}


def failed(result: Result, code: int, *words: str) -> None:
    """Assert that a command failed as promised: its code, and one line that has a remedy."""
    assert result.code == code, result.err
    assert len(result.errors) == 1, result.err
    assert result.out == ""
    for word in (*words, "; "):
        assert word in result.errors[0]


def succeeded(result: Result) -> list[str]:
    assert result.code == 0, result.err
    assert not result.errors
    return result.out.split("\n")[:-1]


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in succeeded(result)]


# --- translate --json


@pytest.mark.parametrize("beam", [1, 5])
def test_json_tells_lines_scores_and_tokens(mt: Mt, tiny_run: Path, beam: int) -> None:
    """Greedy search, too, which does not compute scores unless they are asked for."""
    search = ("--set", f"decoding.beam_size={beam}")
    answers = objects(mt("translate", tiny_run, "--json", *search, stdin=TEXT))
    plain = [line.split("\t") for line in succeeded(mt("translate", tiny_run, "--scores", *search, stdin=TEXT))]
    assert [(a["line"], a["source"]) for a in answers] == list(enumerate(LINES, start=1))
    for answer, (score, text) in zip(answers, plain, strict=True):
        assert set(answer) == {"line", "source", "translations"}
        [translation] = answer["translations"]
        assert (f"{translation['score']:.4f}", translation["text"]) == (score, text)
        values = [token["log_probability"] for token in translation["tokens"]]
        assert sum(values) == pytest.approx(translation["score"] * len(values), abs=1e-4)  # length_penalty is 1
        assert all(set(token) == {"piece", "log_probability"} for token in translation["tokens"])
    assert answers[1]["translations"] == [{"text": "", "score": 0.0, "tokens": []}]


def test_json_gives_up_to_nbest_translations_and_plain_characters(mt: Mt, tiny_run: Path) -> None:
    result = mt("translate", tiny_run, "--json", "--nbest", 3, stdin=TEXT)
    assert "🦊" in result.out and "▁" in result.out and "\\u" not in result.out
    assert [len(answer["translations"]) for answer in objects(result)] == [3, 1, 3, 3]


def test_json_is_the_same_from_a_file_and_in_an_output_file(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in", LINES)
    piped = mt("translate", tiny_run, "--json", stdin=TEXT)
    assert mt("translate", tiny_run, file, "--json") == piped
    succeeded(mt("translate", tiny_run, file, "--json", "--output", tmp_path / "out"))
    assert (tmp_path / "out").read_text(encoding="utf-8") == piped.out


# --- paragraphs


def test_one_warning_of_paragraphs_and_their_number_at_the_end(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    lines = [LINES[0], PARAGRAPH, LINES[2], PARAGRAPH]
    result = mt("translate", tiny_run, write_lines(tmp_path / "in", lines))
    assert len(succeeded(result)) == 4
    assert result.err.splitlines() == [
        "warning: line 2 looks like a paragraph of 3 sentences; models trained on sentences drop text; try --split",
        "warning: 2 of 4 lines look like paragraphs; see --split",
    ]
    assert mt("translate", tiny_run, stdin="".join(line + "\n" for line in lines)) == result
    one = mt("translate", tiny_run, stdin=PARAGRAPH + "\n")
    assert one.err.count("\n") == 1 and "line 1 looks" in one.err


def test_no_warning_of_what_is_probably_no_paragraph(mt: Mt, tiny_run: Path) -> None:
    assert mt("translate", tiny_run, stdin=TEXT).err == ""
    assert mt("translate", tiny_run, "--split", stdin=PARAGRAPH + "\n").err == ""


@pytest.mark.parametrize(
    ("line", "remedy"), [("mako bilu tofi rane", "split it by hand"), ("Mako. Bilu.", "try --split")]
)
def test_a_line_longer_than_training_saw_is_told(mt: Mt, tiny_run: Path, line: str, remedy: str) -> None:
    result = mt("translate", tiny_run, "--set", "data.max_length=3", stdin=f"ar\n{line}\n")
    assert re.fullmatch(rf"warning: line 2 has \d+ pieces, training saw 3 at most; {remedy}\n", result.err)


def test_split_translates_each_sentence_and_keeps_the_lines(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    lines = [PARAGRAPH, "", "os suda", "Os suda. Ut gipe."]
    text = "".join(line + "\n" for line in lines)
    sentences = [["Ar mako kist.", "El bilu balm!", "In tofi torf?"], [], ["os suda"], ["Os suda.", "Ut gipe."]]
    alone = iter(succeeded(mt("translate", tiny_run, stdin="".join(s + "\n" for line in sentences for s in line))))
    expected = [[next(alone) for _ in line] for line in sentences]
    result = mt("translate", tiny_run, "--split", stdin=text)
    assert succeeded(result) == [" ".join(line) for line in expected]
    assert mt("translate", tiny_run, write_lines(tmp_path / "in", lines), "--split") == result
    for number, answer in enumerate(objects(mt("translate", tiny_run, "--split", "--json", stdin=text))):
        assert set(answer) == {"line", "source", "translation", "sentences"}
        assert (answer["line"], answer["source"]) == (number + 1, lines[number])
        assert answer["translation"] == " ".join(expected[number])
        assert [part["source"] for part in answer["sentences"]] == sentences[number]
        assert [part["translations"][0]["text"] for part in answer["sentences"]] == expected[number]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "--nbest", "2"], ["--nbest 2", "--split"]),
        (["--json", "--scores"], ["--scores", "--json"]),
        (["--split", "--scores"], ["--scores", "--split"]),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(mt: Mt, tiny_run: Path, options: list[str], words: list[str]) -> None:
    failed(mt("translate", tiny_run, *options, stdin="ar\n"), 2, *words)


def test_files_that_are_not_there(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "news.de", ["ar"])
    failed(mt("translate", tiny_run, tmp_path / "newz.de"), 3, "news.de?")
    failed(mt("score", tiny_run, tmp_path / "newz.de", file), 3, "news.de?")
    failed(mt("translate", tiny_run, tmp_path), 3, f"{tmp_path}: cannot be read")
    gone = tmp_path / "gone"
    failed(mt("translate", tiny_run, file, "--output", gone / "out"), 6, f"there is no folder {gone};")
    failed(mt("eval", tiny_run, "--json", gone / "scores.json"), 6, f"there is no folder {gone};")
    assert [path.name for path in tmp_path.iterdir()] == ["news.de"]


# --- eval of any files


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, to be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


def test_eval_of_files_is_that_of_a_set(mt: Mt, run: Path, toy_text: Path, tmp_path: Path) -> None:
    """The files of the test set give its scores; compressed ones, too; and without the run's data folder."""
    of_set = succeeded(mt("eval", run, "--json", tmp_path / "set.json"))
    shutil.rmtree(run / "data")
    (tmp_path / "news.yy.gz").write_bytes(gzip.compress((toy_text / "test.yy").read_bytes()))
    of_files = succeeded(
        mt("eval", run, toy_text / "test.xx", tmp_path / "news.yy.gz", "--json", tmp_path / "files.json")
    )
    assert of_files[:-1] == of_set[:-1]
    assert of_files[-1] == of_set[-1].replace("(test,", "(test.xx,")
    assert (tmp_path / "files.json").read_bytes() == (tmp_path / "set.json").read_bytes()
    assert (run / "eval" / "file.test.xx.hyp").read_bytes() == (run / "eval" / "test.hyp").read_bytes()


def test_eval_with_several_reference_files(mt: Mt, run: Path, toy_text: Path, tmp_path: Path) -> None:
    """One of them is the translation itself, so that BLEU is 100."""
    source, output = toy_text / "test.xx", tmp_path / "out"
    succeeded(mt("translate", run, source, "--output", output))
    lines = succeeded(mt("eval", run, source, toy_text / "test.yy", output))
    assert lines[0].startswith("BLEU 100.00  nrefs:2|")


def test_eval_refuses_files_that_do_not_fit(mt: Mt, tiny_run: Path, toy_text: Path, tmp_path: Path) -> None:
    """Before the model is loaded, let alone used: here there is no such checkpoint."""
    source, other = toy_text / "test.xx", toy_text / "train.yy"
    arguments = ["eval", tiny_run, "--checkpoint", "step-9"]
    failed(mt(*arguments, source, other), 3, f"{source} has 10", f"{other} has 400")
    failed(mt(*arguments, source, toy_text / "test.yy", other), 3, f"{source} has 10", f"{other} has 400")
    failed(mt(*arguments, write_lines(tmp_path / "nil", []), tmp_path / "nil"), 3, f"{tmp_path / 'nil'}: is empty")
    failed(mt(*arguments, source), 2, str(source), "REFERENCE", "mt translate")
    failed(mt(*arguments, source, source, "--split", "valid"), 2, "--split valid")


# --- several named sets


@pytest.fixture(scope="module")
def several(toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two validation sets and two test sets; to be evaluated only."""
    folder = tmp_path_factory.mktemp("several")
    for name, seed in (("short", 5), ("web", 6)):
        for side, lines in zip(("xx", "yy"), zip(*toy_pairs(4, seed=seed), strict=True), strict=True):
            write_lines(folder / f"{name}.{side}", lines)
    sets = {
        name: {"source": str(folder / f"{name}.xx"), "target": str(folder / f"{name}.yy")} for name in ("web", "short")
    }
    tree = toy_tree(toy_text, folder / "run", data={"valid": sets, "test": sets}, training={"validate_every": 20})
    (folder / "several.yaml").write_text(json.dumps(tree), encoding="utf-8")
    result = run_in_process("train", folder / "several.yaml")
    assert result.code == 0, result.err
    assert re.search(r"^  valid\.short  nll \d+\.\d+  BLEU \d+\.\d\d$", result.err, re.MULTILINE)
    return folder / "run"


def test_the_first_validation_set_decides(several: Path) -> None:
    lines = [json.loads(line) for line in (several / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    events = [event for event in lines if event["event"] == "valid"]
    assert len(events) >= 3
    for event in events:
        assert list(event["sets"]) == ["valid.web", "valid.short"]
        assert event["sets"]["valid.web"] == {"nll": event["nll"], "bleu": event["bleu"]}
        assert event["sets"]["valid.short"]["nll"] != event["nll"]
    best = max((e for e in events if "checkpoint" not in e), key=lambda e: (e["bleu"], e["step"]))
    pointed = (several / "checkpoints" / "best").read_text(encoding="utf-8").split()[0]
    assert pointed in (f"step-{best['step']:06}", *(e["checkpoint"] for e in events if "checkpoint" in e))


def test_eval_scores_every_set(mt: Mt, several: Path, tmp_path: Path) -> None:
    lines = succeeded(mt("eval", several, "--json", tmp_path / "all.json"))
    scores = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert list(scores) == ["test.web", "test.short"]
    assert [lines[0], lines[4]] == list(scores)
    assert [line.split()[0] for line in lines[1:4] + lines[5:8]] == ["BLEU", "chrF", "TER"] * 2
    for name, last in zip(scores, lines[8:], strict=True):
        bleu, chrf = scores[name]["bleu"]["score"], scores[name]["chrf"]["score"]
        assert last == f"BLEU {bleu:.2f} chrF {chrf:.2f} ({name}, 4 sentences)"
        alone = succeeded(mt("eval", several, "--split", name, "--json", tmp_path / "one.json"))
        assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == scores[name]
        assert (len(alone), alone[-1]) == (4, last)
        assert (several / "eval" / f"{name}.hyp").read_text(encoding="utf-8").count("\n") == 4


def test_eval_of_a_set_that_is_not_there(mt: Mt, several: Path) -> None:
    failed(mt("eval", several, "--split", "test.news"), 2, "--split test.news", "test, test.web, test.short")
    failed(mt("eval", several, "--split", "web"), 2, "--split web", "test.NAME")


# --- the rest


def test_version_at_once(mt: Mt) -> None:
    [line] = succeeded(mt("--version"))
    assert re.fullmatch(r"mt \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+\S*, PyTorch \d+\.\d+\.\d+\S*\)", line)


@pytest.mark.parametrize("command", ["translate", "score", "eval"])
def test_a_bar_on_a_terminal(
    start_mt: Callable[..., Any], tiny_run: Path, toy_text: Path, tmp_path: Path, command: str
) -> None:
    files = {"translate": ["test.xx"], "score": ["test.xx", "test.yy"], "eval": ["test.xx", "test.yy"]}[command]
    run = shutil.copytree(tiny_run, tmp_path / "run")
    ours, theirs = os.openpty()
    process = start_mt(command, run, *(toy_text / name for name in files), stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    try:
        while part := os.read(ours, 65_536):
            shown += part
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (b"scoring" if command == "score" else b"translating") in shown
    assert b"10/10" in shown


def test_what_is_no_utf8_is_answered_at_the_prompt(start_mt: Callable[..., Any], tiny_run: Path) -> None:
    """Where the locale is C, Python lets such bytes through as halves of characters."""
    ours, theirs = os.openpty()
    process = start_mt("translate", tiny_run, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **C})
    os.close(theirs)
    shown = bytearray()
    with suppress(OSError):  # the other side is closed
        for typed in (b"K\xf6ln\n", b"ar mako\n", b"\x04"):
            while not shown.endswith(b"> "):
                shown += os.read(ours, 65_536)
            shown.clear()
            os.write(ours, typed)
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    assert process.wait(60) == 0
    assert b"error" not in shown
