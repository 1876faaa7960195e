"""What the README and the Makefile tell people to type works, and what the README says is so."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Mt, toy_pairs, write_lines
from transformer_mt.config import Config
from transformer_mt.config_file import load_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What makes a run of hours a run of seconds; all else is as shipped.
QUICK = [
    f"--set={setting}"
    for setting in (
        "training.max_steps=4",
        "training.validate_every=4",
        "training.save_every=2",
        "training.device_tokens=512",
        "training.batch_tokens=512",
        "model.layers=1",
        "decoding.beam_size=2",
    )
]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands() -> list[list[str]]:
    """Every ``mt`` command of the README, as words."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [
        shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.strip().startswith(".venv/bin/mt")
    ]


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the text files that the README speaks of, configs/ and the YAML that it says to save."""
    pairs = toy_pairs(420)
    for name, part in (("train", pairs[:400]), ("dev", pairs[400:410]), ("val", pairs[400:410]), ("test", pairs[410:])):
        for language in ("ja", "de"):
            write_lines(tmp_path / f"{name}.{language}", [pair[0] for pair in part])
        write_lines(tmp_path / f"{name}.en", [pair[1] for pair in part])
    for side in ("de", "en"):
        write_lines(tmp_path / f"test_2016_flickr.{side}", [pair[side == "en"] for pair in pairs[410:]])
    write_lines(tmp_path / "new.ja", ["mako", "", "bilu tofi"])
    (tmp_path / "mine.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_files_as_the_readme_says(newcomer: Path, mt: Mt) -> None:
    """Train, resume, evaluate, translate: the commands to the letter, cut short by --set."""
    seen = []
    for words in commands():
        if "runs/mine" not in words and "mine.yaml" not in words:
            continue
        words = words[: words.index(">")] if ">" in words else words
        result = mt(*words, *QUICK, stdin="mako\n")
        assert result.code == 0, (words, result.err)
        seen.append(words[0])
        if words[0] == "translate":
            assert len(result.out.splitlines()) == (3 if "new.ja" in words else 1)
    assert seen == ["train", "eval", "translate", "translate"]
    assert mt("train", "runs/mine", "--resume", *QUICK, "--set", "training.max_steps=6").code == 0


def test_multi30k_as_the_readme_says(newcomer: Path, mt: Mt) -> None:
    (train, evaluate) = (words for words in commands() if "multi30k" in " ".join(words))
    train = [word.replace("$M/", "") for word in train]
    assert mt(*train, *QUICK, "--set", "tokenizer.vocab_size=300").code == 0
    assert mt(*evaluate, *QUICK).code == 0


def test_the_demo_of_the_makefile(newcomer: Path, mt: Mt) -> None:
    """The demo's config on the project's own corpus, four steps of it; the last line has its promised form."""
    (newcomer / "data").symlink_to(ROOT / "data")
    assert mt("train", "configs/demo.yaml", *QUICK).code == 0
    result = mt("translate", "runs/demo", *QUICK, stdin="The old teacher reads the letter.\nNo.\n")
    assert len(result.out.splitlines()) == 2
    result = mt("eval", "runs/demo", *QUICK)
    assert re.fullmatch(r"BLEU \d+\.\d\d chrF \d+\.\d\d \(test, 500 sentences\)", result.out.splitlines()[-1])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "mt train configs/demo.yaml" in makefile
    assert "mt eval runs/demo" in makefile


def test_python_as_the_readme_says(tiny_run: Path, newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (newcomer / "runs").mkdir()
    (newcomer / "runs" / "demo").symlink_to(tiny_run)
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out.startswith("['")


def test_the_defaults_that_the_readme_lists_are_the_defaults(toy_config: Callable[..., Path]) -> None:
    listed = yaml.safe_load(blocks("yaml")[1].replace("1e-3", "0.001"))
    assert set(listed) == set(Config.model_fields) - {"languages", "run_dir"}
    empty = {"languages": {"source": "de", "target": "en"}, "data": {"train": {"hub": "a/b"}}, "run_dir": "x"}
    defaults = Config.model_validate(empty).model_dump(mode="json")
    shown_otherwise = {"tokenizer.vocab_size", "training.learning_rate", "model.layers"}
    for section, values in listed.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            if f"{section}.{key}" not in shown_otherwise:
                assert (defaults[section][key] if key else defaults[section]) == value, f"{section}.{key}"
        if isinstance(values, dict):
            hidden = set(defaults[section]) - set(values)
            assert hidden <= {"train", "valid", "test", "width", "heads", "feed_forward", "max_positions", "max_epochs",
                              "max_minutes"}, section  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).run_dir.startswith("/")


def test_every_command_of_the_table_has_help_with_an_example(mt: Mt) -> None:
    listed = re.findall(r"^\| `mt (\w+)", README, re.MULTILINE)
    assert listed == ["tokenize", "train", "eval", "translate", "score", "average"]
    for command in listed:
        result = mt(command, "--help")
        assert result.code == 0
        assert "Example:  " in result.out and f"mt {command}" in result.out
