"""Faults in text and in what carries it: odd lines, locales, models that never end, many threads, processes that die.

What is not here is in tests/e2e/test_mistakes.py, tests/unit/test_corpus.py, test_prepare.py and test_translate.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.conftest import PATIENCE, toy_pairs, toy_tree, wait_for, workers, write_lines
from transformer_mt import Translator
from transformer_mt.special import EOS

if TYPE_CHECKING:
    from tests.conftest import Mt

Write = Callable[..., Path]

# --- odd lines


def test_how_lines_end_changes_nothing(mt: Mt, toy_config: Write, toy_text: Path, tmp_path: Path) -> None:
    """A byte order mark, the line ends of Windows and none at the end, in all files: the same tokenizer and store."""
    shutil.copytree(toy_text, tmp_path / "odd")
    for path in (tmp_path / "odd").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    made = []
    for folder in (toy_text, tmp_path / "odd"):
        tree = toy_tree(folder, tmp_path / f"run of {folder.name}")
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        result = mt("tokenize", tmp_path / "c.yaml")
        assert result.code == 0, result.err
        files = [*Path(tree["run_dir"], "data").iterdir(), *Path(tree["run_dir"], "tokenizer").iterdir()]
        made.append({path.name: path.read_bytes() for path in files if path.name != "manifest.json"})
    assert len(made[0]) > 5
    assert made[0] == made[1]


def test_lines_beyond_all_measure_are_dropped_with_their_number(mt: Mt, toy_text: Path, tmp_path: Path) -> None:
    """Lines of 100,000 characters, and pairs of which one side is fifty times the other."""
    shutil.copytree(toy_text, tmp_path / "text")
    long, short = "mako " * 20_000, "mako"
    odd = [(long, "okamn"), ("ar", "z" * 100_000), (short, "okamn " * 50), ("mako " * 50, "okamn"), (long, long + "z")]
    for number, side in enumerate(("xx", "yy")):
        path = tmp_path / "text" / f"train.{side}"
        write_lines(path, [*path.read_text(encoding="utf-8").splitlines(), *(pair[number] for pair in odd)])
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(toy_tree(tmp_path / "text", tmp_path / "run")), encoding="utf-8")
    result = mt("tokenize", tmp_path / "c.yaml")
    assert result.code == 0, result.err
    manifest = json.loads((tmp_path / "run" / "data" / "manifest.json").read_text(encoding="utf-8"))
    assert {rule: drop["pairs"] for rule, drop in manifest["dropped"].items()} == {"too long": 3, "length ratio": 2}
    assert "dropped, too long: 3 pairs" in result.err and "dropped, length ratio: 2 pairs" in result.err
    assert manifest["pairs"] == 400


# --- the process's locale


def locales() -> list[dict[str, str]]:
    """Environments of old: ASCII for everything, and ISO 8859-1 where it can be made."""
    return [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": "…", "PYTHONUTF8": "0"},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
    ]


@pytest.mark.parametrize(
    "locale",
    [pytest.param(locale, marks=[] if number == 0 else [pytest.mark.slow]) for number, locale in enumerate(locales())],
    ids=lambda locale: next(iter(locale.values())),
)
def test_the_locale_of_the_process_does_not_matter(mt: Mt, tmp_path: Path, locale: dict[str, str]) -> None:
    """Names of files and of folders, text, samples and scores: training, evaluation and translation are the same."""
    if "LOCPATH" in locale:
        (tmp_path / "locales").mkdir()
        locale = {**locale, "LOCPATH": str(tmp_path / "locales")}
        made = shutil.which("localedef") and subprocess.run(
            ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "locales" / locale["LC_ALL"]],
            capture_output=True,
            check=False,
        )
        if not made or made.returncode > 1:
            pytest.skip("no such locale can be made here")
    folder = tmp_path / "größer 🦊"
    folder.mkdir()
    pairs = [(source.replace("a", "ä"), target.replace("n", "🦊")) for source, target in toy_pairs(420)]
    for split, part in (("train", pairs[:400]), ("valid", pairs[400:410]), ("test", pairs[410:])):
        for number, side in enumerate(("xx", "yy")):
            write_lines(folder / f"{split}.{side}", [pair[number] for pair in part])
    training = {"max_steps": 4, "validate_every": 4, "save_every": 4}
    for name in ("usual", "odd"):
        tree = toy_tree(folder, folder / name, training=training, decoding={"beam_size": 1})
        text = yaml.safe_dump(tree, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    commands: list[list[Any]] = [
        ["train", "NAME.yaml"],
        ["eval", "NAME"],
        ["translate", "NAME", folder / "test.xx", "--json"],
    ]
    kept = {key: value for key, value in os.environ.items() if key not in ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8")}
    for command in commands:
        usual = mt(*(folder / word.replace("NAME", "usual") if "NAME" in str(word) else word for word in command))
        words = [str(folder / word.replace("NAME", "odd") if "NAME" in str(word) else word) for word in command]
        result = subprocess.run(
            [sys.executable, "-m", "transformer_mt", *words], capture_output=True, env={**kept, **locale}, check=False
        )
        assert (usual.code, result.returncode) == (0, 0), (usual.err, result.stderr.decode())
        assert result.stdout.decode() == usual.out
    assert "ä" in result.stdout.decode()
    for file in ("checkpoints/step-000004/model.safetensors", "tokenizer/joint.model", "eval/test.hyp"):
        assert (folder / "odd" / file).read_bytes() == (folder / "usual" / file).read_bytes()


# --- translation


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_never_ends_is_ended(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, beam: int) -> None:
    """The end token is never likely: 2 · S + 10 tokens, a finite score, and no end forced."""
    translator = Translator.load(tiny_run, overrides=[f"decoding.beam_size={beam}"])
    logits = translator.packed.logits

    def endless(hidden: Tensor) -> Tensor:
        found = logits(hidden)
        found[:, EOS] = -1e9
        return found

    monkeypatch.setattr(translator.packed, "logits", endless)
    sources = translator.encode(["ar mako kist", "os suda", "el bilu balm in tofi torf"])
    for source, hypotheses in zip(sources, translator.search(sources), strict=True):
        assert len(hypotheses) == beam
        for hypothesis in hypotheses:
            assert len(hypothesis.ids) == 2 * len(source) + 10
            assert EOS not in hypothesis.ids
            assert torch.tensor(hypothesis.score).isfinite()


ODD = ["👨‍👩‍👧", "cafe\u0301", "caf\u00e9", "\u202eabc", "", "\u2028", "a\x0bb\x85c", "</s>", "\U000e0001"]


@pytest.mark.parametrize("calls", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_many_threads_translate_as_one_does(tiny_run: Path, calls: int) -> None:
    """Emoji of several characters, decomposed letters, text from right to left: a line each, from the first call on."""
    plain = [pair[0] for pair in toy_pairs(8 * calls, seed=5)]
    work = [[plain[n], ODD[n % len(ODD)]] for n in range(8 * calls)]
    one, shared = (Translator.load(tiny_run, overrides=["decoding.beam_size=1"]) for _ in range(2))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.translate, work))
    assert found == [one.translate(lines) for lines in work]
    assert all("\n" not in line and "\r" not in line for lines in found for line in lines)


# --- processes that share the work of tokenizing

PROGRAM = """
from transformer_mt import __main__ as mt, parallel
parallel.cores = lambda: 2
parallel.PAYS = 0.0  # seconds
if __name__ == "__main__":
    mt.main()
"""


def group_is_gone(process: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def tokenizing(
    toy_config: Write, tmp_path: Path, start_session: Callable[..., subprocess.Popen[bytes]]
) -> Callable[[str, str], subprocess.Popen[bytes]]:
    """Begin a command that tokenizes; return when two processes are reading, or encoding."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")

    def begin(command: str, stage: str) -> subprocess.Popen[bytes]:
        process = start_session([sys.executable, program, command, toy_config()])
        wait_for(lambda: len(workers(process)) == 2)
        if stage == "encoding":
            reading = set(workers(process))
            wait_for(lambda: len(set(workers(process)) - reading) == 2)
        return process

    return begin


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc, to find the processes")
@pytest.mark.parametrize(
    ("command", "stage", "fault", "code"),
    [
        ("tokenize", "reading", "SIGTERM", 143),
        ("tokenize", "encoding", "a worker is killed", 6),
        ("train", "encoding", "SIGINT", 130),
        pytest.param("train", "reading", "SIGTERM", 143, marks=pytest.mark.slow),
        pytest.param("train", "reading", "a worker is killed", 6, marks=pytest.mark.slow),
        pytest.param("tokenize", "encoding", "SIGINT", 130, marks=pytest.mark.slow),
    ],
)
def test_what_ends_tokenizing_ends_all_of_it_and_leaves_nothing_half_made(
    tokenizing: Callable[[str, str], subprocess.Popen[bytes]],
    mt: Mt,
    toy_config: Write,
    tmp_path: Path,
    command: str,
    stage: str,
    fault: str,
    code: int,
) -> None:
    process = tokenizing(command, stage)
    if fault == "a worker is killed":
        os.kill(workers(process)[-1], signal.SIGKILL)
    else:
        os.killpg(process.pid, getattr(signal, fault))  # as a terminal and a scheduler do: to all of them
    out, err = process.communicate(timeout=PATIENCE)
    told = [line for line in err.decode().split("\n") if line.startswith("error: ")]
    assert (process.returncode, out, len(told)) == (code, b"", 1), err
    assert "Traceback" not in err.decode()
    if code == 6:
        assert "was killed" in told[0] and "; " in told[0]
    wait_for(lambda: group_is_gone(process))
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"lock", "exit.json"}
    result = mt("train", toy_config(training={"max_steps": 2}))
    assert result.code == 0, result.err
