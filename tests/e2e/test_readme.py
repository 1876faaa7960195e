"""What the README, the pages in docs/ and the Makefile tell people to type works, and what they say is so."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.conftest import Mt, toy_pairs, write_lines
from transformer_mt.config import Config, Data, Decoding, Languages, Recurrent, Source, Tokenizer, Training, Transformer
from transformer_mt.config_file import load_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page: (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in
         ("student", "researcher", "engineer", "data", "configuration")}  # fmt: skip
# What makes a run of hours a run of seconds; all else is as shipped.
QUICK = [
    f"--set={setting}"
    for setting in (
        "training.max_steps=4",
        "training.validate_every=4",
        "training.save_every=2",
        "training.device_tokens=512",
        "training.batch_tokens=512",
        "training.warmup_steps=1",
        "model.layers=1",
        "decoding.beam_size=3",
    )
]
TAKES_SETTINGS = {"check", "tokenize", "train", "selftest", "eval", "translate", "score", "average"}


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def commands(text: str = README) -> list[tuple[str, list[str]]]:
    """Every ``mt`` command of a page, in order: what is piped into it, and its words without the redirection."""
    found = []
    for line in "\n".join(blocks("sh", text)).replace("\\\n", " ").splitlines():
        if match := re.search(r"(?:^|echo \"(.*)\" \| )\.venv/bin/mt (.*)", line):
            words = shlex.split(match[2], comments=True)
            found.append((match[1] or "", words[: words.index(">")] if ">" in words else words))
    return found


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the text files that the pages speak of."""
    pairs = toy_pairs(420)
    sets = {"train": pairs[:400], "dev": pairs[400:410], "val": pairs[400:410], "test": pairs[410:], "web": pairs[405:]}
    for name, part in sets.items():
        for language in ("ja", "de"):
            write_lines(tmp_path / f"{name}.{language}", [pair[0] for pair in part])
        write_lines(tmp_path / f"{name}.en", [pair[1] for pair in part])
    for side in ("de", "en"):
        write_lines(tmp_path / f"test_2016_flickr.{side}", [pair[side == "en"] for pair in pairs[410:]])
    domain = ["\t".join(pair) for pair in toy_pairs(170, seed=1)]
    for name, rows in (
        ("domain.tsv.gz", domain[:150]),
        ("domain-dev.tsv", domain[150:160]),
        ("domain-test.tsv", domain[160:]),
    ):
        write_lines(tmp_path / name, rows)
    for language in ("ja", "de"):
        write_lines(tmp_path / f"new.{language}", ["mako", "", "bilu tofi"])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data").mkdir()
    for path in (ROOT / "data").glob("*.[de][en]"):
        write_lines(tmp_path / "data" / path.name, path.read_text(encoding="utf-8").splitlines()[:2000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def carry_out(mt: Mt, page: str, *, drop: str = "[]") -> list[str]:
    """Type every command of a page, cut short by ``--set``; return the names of the commands."""
    text = README if page == "README" else PAGES[page]
    typed = []
    for stdin, words in commands(text):
        if "multi30k" in " ".join(words) or (page == "README" and "runs/demo" in words):
            continue
        # The toy text is in no language, so the rule of scripts has nothing to go by.
        settings = [*QUICK, f"--set=data.drop={drop}"] if words[0] in TAKES_SETTINGS else []
        result = mt(*words, *settings, stdin=stdin or "mako\n")
        assert result.code == 0, (words, result.err)
        assert not result.errors
        typed.append(words[0])
    return typed


@pytest.fixture
def quick_preflight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time a step or two, in this process."""
    from transformer_mt.checkup import check, preflight

    monkeypatch.setattr(preflight, "_SECONDS", 0.0)
    monkeypatch.setattr(preflight, "_STEPS", 2)
    monkeypatch.setattr(check, "_fly_apart", lambda config: check._fly(config, tmp_path / "scratch"))


def test_own_files_as_the_readme_says(newcomer: Path, mt: Mt, quick_preflight: None) -> None:
    assert carry_out(mt, "README") == ["init", "check", "train", "eval", "translate", "translate", "selftest"]
    assert (newcomer / "runs" / "ja-en" / "check.html").is_file()
    assert mt("train", "runs/ja-en", "--resume", *QUICK, "--set", "training.max_steps=6").code == 0


def test_the_path_of_the_researcher(newcomer: Path, mt: Mt, quick_preflight: None) -> None:
    typed = carry_out(mt, "researcher")
    assert typed == ["init", "check", "train", "train", "train", "eval", "eval", "eval", "compare", "compare",
                     "report"]  # fmt: skip
    assert (newcomer / "runs" / "sampling" / "eval" / "test.hyp").is_file()


def test_the_path_of_the_engineer(newcomer: Path, mt: Mt, quick_preflight: None) -> None:
    (newcomer / "domain.yaml").write_text(blocks("yaml", PAGES["engineer"])[0], encoding="utf-8")
    typed = carry_out(mt, "engineer")
    assert typed == ["init", "check", "train", "train", "eval", "eval", "translate", "translate"]
    assert len((newcomer / "new.en").read_text().splitlines()) == 3
    assert load_config(Path("runs/domain")).model == load_config(Path("runs/general")).model


def test_the_path_of_the_student(newcomer: Path, mt: Mt) -> None:
    assert mt("train", "configs/demo.yaml", *QUICK).code == 0
    assert carry_out(mt, "student") == ["translate"] * 3 + ["align", "report"] + ["train"] * 3 + ["eval"]


@pytest.mark.parametrize("page", ["student", "engineer"])
def test_files_and_folders_that_a_page_names_exist(page: str) -> None:
    for name in re.findall(r"`((?:model|training|data|decoding)/\w+\.py)`", PAGES[page]):
        assert (ROOT / "transformer_mt" / name).is_file(), name


@pytest.mark.parametrize("page", ["README", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (file.parent / link).exists(), link


def test_multi30k_as_the_readme_says(newcomer: Path, mt: Mt) -> None:
    (train, evaluate) = (words for _, words in commands() if "multi30k" in " ".join(words))
    train = [word.replace("$M/", "") for word in train]
    assert mt(*train, *QUICK, "--set", "tokenizer.vocab_size=300", "--set", "data.drop=[]").code == 0
    assert mt(*evaluate, *QUICK).code == 0


def test_the_demo_of_the_makefile(newcomer: Path, mt: Mt) -> None:
    """The demo's config on the project's own corpus, four steps of it; the last line has its promised form."""
    assert mt("train", "configs/demo.yaml", *QUICK).code == 0
    result = mt("translate", "runs/demo", *QUICK, stdin="The old teacher reads the letter.\nNo.\n")
    assert len(result.out.splitlines()) == 2
    result = mt("eval", "runs/demo", *QUICK)
    assert re.fullmatch(r"BLEU \d+\.\d\d chrF \d+\.\d\d \(test, 500 sentences\)", result.out.splitlines()[-1])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "mt train configs/demo.yaml" in makefile
    assert "mt eval runs/demo" in makefile


@pytest.mark.parametrize("page", ["README", "engineer"])
def test_python_as_the_pages_say(page: str, tiny_run: Path, newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (newcomer / "runs").mkdir()
    for name in ("demo", "domain"):
        (newcomer / "runs" / name).symlink_to(tiny_run)
    exec(blocks("python", README if page == "README" else PAGES[page])[0], {})
    assert capsys.readouterr().out.startswith("['")


def test_the_defaults_that_the_page_lists_are_the_defaults() -> None:
    listed = yaml.safe_load(blocks("yaml", PAGES["configuration"])[0].replace("1e-3", "0.001"))
    assert set(listed) == set(Config.model_fields) - {"languages", "run_dir"}
    empty = {"languages": {"source": "de", "target": "en"}, "data": {"train": {"hub": "a/b"}}, "run_dir": "x"}
    defaults = Config.model_validate(empty).model_dump(mode="json", by_alias=True)
    shown_otherwise = {"tokenizer.vocab_size", "training.learning_rate", "model.layers"}
    for section, values in listed.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            if f"{section}.{key}" not in shown_otherwise:
                assert (defaults[section][key] if key else defaults[section]) == value, f"{section}.{key}"
        if isinstance(values, dict):
            hidden = set(defaults[section]) - set(values)
            assert hidden <= {"train", "valid", "test", "width", "heads", "feed_forward", "max_positions", "max_epochs",
                              "max_minutes", "from", "start_from"}, section  # fmt: skip


def test_every_key_of_the_configuration_is_on_its_page() -> None:
    sections = (Languages, Data, Tokenizer, Transformer, Recurrent, Training, Decoding, Config)
    names = [name for section in sections for name in section.model_fields]
    assert len(names) > 40
    for name in {*names, *Source.model_fields} - {"from_"}:
        assert re.search(rf"\b{name}\b", PAGES["configuration"] + PAGES["data"]), name


def test_yaml_on_the_pages_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block, put into a whole configuration."""
    monkeypatch.chdir(tmp_path)
    count = 0
    for page in ("data", "configuration"):
        for block in blocks("yaml", PAGES[page])[page == "configuration" :]:
            if "start_from" in block:
                continue  # wants a run: the path of the engineer has one
            tree = {"languages": {"source": "de", "target": "en"}, "run_dir": "x", **yaml.safe_load(block)}
            tree.setdefault("data", {}).setdefault("train", {"hub": "a/b", "split": "train"})
            (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
            load_config(tmp_path / "c.yaml")
            count += 1
    assert count >= 2


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).run_dir.startswith("/")


def test_every_command_of_the_table_has_help_with_an_example(mt: Mt) -> None:
    listed = re.findall(r"^\| `mt (\w+)", README, re.MULTILINE)
    assert listed == ["init", "check", "tokenize", "train", "eval", "translate", "score", "average", "align", "report",
                      "compare", "selftest"]  # fmt: skip
    for command in listed:
        result = mt(command, "--help")
        assert result.code == 0
        assert "Example:  " in result.out and f"mt {command}" in result.out
