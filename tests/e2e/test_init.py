"""`mt init`: from two text files to a configuration that loads, trains, and says why it is as it is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Mt, Result, toy_pairs, write_lines
from transformer_mt import starter
from transformer_mt.config import Languages, Transformer
from transformer_mt.config_file import load_config
from transformer_mt.data.advice import advise
from transformer_mt.data.tokenizer import default_vocab_size

GERMAN = "Der Hund ist in dem Garten und die Katze schläft auf dem Sofa."
ENGLISH = "The dog is in the garden and the cat sleeps on the sofa."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pairs(*names: str, count: int = 20) -> None:
    for name, line in zip(names, (GERMAN, ENGLISH), strict=True):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_lines(Path(name), [f"{line} {number}" for number in range(count)])


def written(path: str = "de-en.yaml") -> dict[str, Any]:
    """The file as plain YAML, read by another reader than ours."""
    content: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return content


def done(result: Result) -> str:
    assert result.code == 0, result.err
    assert result.out == ""
    return result.err


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.err
    assert len(result.errors) == 1, result.err
    assert result.out == ""
    for word in words:
        assert word in result.errors[0]


def test_two_files_give_a_configuration(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    said = done(mt("init", "train.de", "train.en"))
    assert "train.de: 20 lines" in said
    assert said.splitlines()[-1] == "next: mt check de-en.yaml, then mt train de-en.yaml"
    tree = written()
    assert tree["languages"] == {"source": "de", "target": "en"}
    assert tree["data"]["train"] == {"source": "train.de", "target": "train.en"}  # as given
    assert tree["run_dir"] == "runs/de-en"
    assert "valid" not in tree["data"]
    text = Path("de-en.yaml").read_text(encoding="utf-8")
    assert "# valid: {source: FILE, target: FILE} # without it, 1 % of train is held out" in text
    assert load_config(Path("de-en.yaml")).data.train[0].source == str(here / "train.de")


def test_what_is_commented_out_can_be_taken_in(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    done(mt("init", "train.de", "train.en"))
    path = Path("de-en.yaml")
    text = path.read_text(encoding="utf-8")
    for key in ("valid", "test", "tokenizer", "precision"):
        assert f"# {key}: " in text
        text = text.replace(f"# {key}: ", f"{key}: ")
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.tokenizer.vocab_size == 4000
    assert config.training.precision == "bfloat16"
    assert config.data.valid is not None


def test_what_it_writes_trains(mt: Mt, here: Path) -> None:
    pairs = toy_pairs(400)
    for number, name in enumerate(("train.de", "train.en")):
        write_lines(Path(name), [pair[number] for pair in pairs])
    done(mt("init", "train.de", "train.en"))
    quick = ["training.max_steps=4", "training.validate_every=4", "model.layers=1", "decoding.beam_size=2"]
    result = mt("train", "de-en.yaml", *(f"--set={setting}" for setting in quick))
    assert result.code == 0, result.err
    assert Path("runs/de-en/checkpoints/best").is_file()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("pairs", [500, 20_000, 200_000, 3_000_000, 30_000_000])
def test_the_configuration_loads_whatever_the_size(here: Path, pairs: int, gpu: bool) -> None:
    advice = advise(pairs, 20.0, gpu=gpu)
    files = (Path("train.de"), Path("train.en"))
    sets = {"valid": (Path("dev.de"), Path("dev.en")), "test": None}
    text = starter.render(files, pairs, Languages(source="de", target="en"), sets, advice, Path("de-en.yaml"))
    Path("de-en.yaml").write_text(text, encoding="utf-8")
    config = load_config(Path("de-en.yaml"))
    assert isinstance(config.model, Transformer)
    assert config.model.size == advice.size
    assert config.model.dropout == advice.dropout
    assert (config.tokenizer.vocab_size or advice.vocab_size) == default_vocab_size(pairs)
    training = config.training
    assert (training.batch_tokens, training.warmup_steps) == (advice.batch_tokens, advice.warmup_steps)
    assert training.learning_rate == pytest.approx(advice.learning_rate)
    assert training.max_minutes == advice.max_minutes
    assert training.max_steps == (advice.max_steps or 100_000)
    assert training.device_tokens == max(4096, advice.batch_tokens)
    assert config.data.valid is not None
    assert config.data.test is None
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        (("train.de", "train.en"), ("dev.de", "dev.en"), ("test.de", "test.en")),
        (("x/train.de", "x/train.en"), ("x/valid.de", "x/valid.en"), ("x/test.de", "x/test.en")),
        (("train.tok.de", "train.tok.en"), ("val.tok.de", "val.tok.en"), ("test_2016.tok.de", "test_2016.tok.en")),
        (("my.train.de", "my.train.en"), ("my.dev.de", "my.dev.en"), ("my.test.de", "my.test.en")),
        (("news_de.txt", "news_en.txt"), ("valid_de.txt", "valid_en.txt"), ("test_de.txt", "test_en.txt")),
        (("de/train.txt", "en/train.txt"), ("de/dev.txt", "en/dev.txt"), ("de/test.txt", "en/test.txt")),
        (("train/a.de", "train/a.en"), ("dev/a.de", "dev/a.en"), ("test/a.de", "test/a.en")),
        (("corpus.de-en.de", "corpus.de-en.en"), ("dev.de", "dev.en"), ("test.de", "test.en")),
    ],
    ids=lambda names: names[0],
)
def test_validation_and_test_files_beside_are_found(
    mt: Mt, here: Path, train: tuple[str, str], valid: tuple[str, str], test: tuple[str, str]
) -> None:
    for names in (train, valid, test):
        write_pairs(*names)
    said = done(mt("init", *train))
    data = written()["data"]
    for split, names in (("train", train), ("valid", valid), ("test", test)):
        assert data[split] == {"source": names[0], "target": names[1]}
        if split != "train":
            assert f"{split}: {names[0]} and {names[1]}" in said


def test_what_is_no_set_of_these_languages_is_left_alone(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    write_lines(Path("dev.de"), ["nur eine Seite"])
    write_lines(Path("testimony.de"), ["a"])
    write_lines(Path("testimony.en"), ["a"])
    write_lines(Path("test.de"), ["a", "b"])
    write_lines(Path("test.en"), ["a"])
    said = done(mt("init", "train.de", "train.en"))
    assert "valid" not in written()["data"]
    assert "test" not in written()["data"]
    assert "warning: test: not used: the files do not have the same number of lines: test.de has 2" in said


def test_languages_are_told_by_the_text_where_names_do_not(mt: Mt, here: Path) -> None:
    write_pairs("my.src", "my.tgt")
    done(mt("init", "my.src", "my.tgt"))
    assert written()["languages"] == {"source": "de", "target": "en"}


def test_languages_given_hold(mt: Mt, here: Path) -> None:
    write_pairs("a.txt", "b.txt")
    said = done(mt("init", "a.txt", "b.txt", "--languages", "gsw-zh_TW"))
    assert written("gsw-zh_TW.yaml")["languages"] == {"source": "gsw", "target": "zh_TW"}
    assert "warning: b.txt: taken for zh_TW, but the text looks like en" in said


def test_compressed_files_and_odd_names_are_read(mt: Mt, here: Path) -> None:
    Path("my, {text}: a#b.de.gz").write_bytes(gzip.compress(f"{GERMAN}\n".encode() * 3))
    Path("1e3").write_bytes(f"{ENGLISH}\n".encode() * 3)
    done(mt("init", "my, {text}: a#b.de.gz", "1e3", "--output", "no"))
    config = load_config(Path("no"))
    assert config.data.train[0].files == [str(here / "my, {text}: a#b.de.gz"), str(here / "1e3")]
    assert config.run_dir == str(here / "runs" / "no")


def test_swapped_and_mistaken_files_are_doubted(mt: Mt, here: Path) -> None:
    write_pairs("train.en", "train.de")  # German in train.en
    assert "warning: train.en looks like de, and train.de like en; are they swapped?" in done(
        mt("init", "train.en", "train.de")
    )
    write_pairs("train.fr", "train.it")
    assert "warning: train.fr: taken for fr, but the text looks like de" in done(mt("init", "train.fr", "train.it"))


def test_a_file_is_not_replaced_unasked(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    Path("de-en.yaml").write_text("mine", encoding="utf-8")
    refused(mt("init", "train.de", "train.en"), 2, "de-en.yaml: exists already", "--overwrite")
    assert Path("de-en.yaml").read_text(encoding="utf-8") == "mine"
    done(mt("init", "train.de", "train.en", "--overwrite"))
    assert written()["run_dir"] == "runs/de-en"


def test_the_text_is_never_replaced(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    before = Path("train.en").read_bytes()
    refused(mt("init", "train.de", "train.en", "--output", "train.en", "--overwrite"), 2, "is one of the texts")
    assert Path("train.en").read_bytes() == before


def test_mistakes_are_told(mt: Mt, here: Path) -> None:
    write_pairs("train.de", "train.en")
    write_lines(Path("short.en"), [ENGLISH])
    write_lines(Path("empty.de"), [])
    write_lines(Path("empty.en"), [])
    write_lines(Path("a.src"), ["mako bilu"] * 9)
    write_lines(Path("b.en.txt"), [ENGLISH] * 20)
    write_lines(Path("c.txt"), [ENGLISH] * 20)
    refused(mt("init", "train.de", "train.fr"), 3, "train.fr: no such file")
    refused(mt("init", "train.de", "short.en"), 3, "train.de has 20", "short.en has 1")
    refused(mt("init", "empty.de", "empty.en"), 3, "empty.de: is empty")
    refused(mt("init", "train.de", "train.de"), 2, "source and as target")
    refused(mt("init", "a.src", "a.src"), 2, "source and as target")
    refused(mt("init", "b.en.txt", "c.txt"), 2, "c.txt: looks like en, and so does b.en.txt", "--languages")
    refused(mt("init", "train.de", "train.en", "--languages", "german"), 2, "--languages german", "de-en")
    refused(mt("init", "train.de", "train.en", "--output", "no/where.yaml"), 6, "no/where.yaml")
    write_lines(Path("b.tgt"), ["zrane"] * 9)
    refused(mt("init", "a.src", "b.tgt"), 2, "a.src: neither its name nor its text tells the language", "--languages")
    assert not list(here.glob("*.yaml"))


def test_minutes_fit_the_other_values_to_the_time(mt: Mt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate must not rise for longer than the run lasts, and there is more than one validation."""
    monkeypatch.chdir(tmp_path)
    pairs = toy_pairs(3_000)
    for name, side in (("train.de", 0), ("train.en", 1), ("web.de", 0), ("web.en", 1)):
        write_lines(tmp_path / name, [pair[side] for pair in pairs])
    result = mt("init", "train.de", "train.en", "--minutes", "3")
    assert result.code == 0, result.err
    assert "there are also web.de and web.en; if one is your validation or test set, write it into" in result.err
    training = load_config(tmp_path / "de-en.yaml").training
    assert training.max_minutes == 3
    steps = 3 * 60 * 6_000 / training.batch_tokens  # at the speed that the advice takes for granted
    assert training.warmup_steps <= steps / 10
    assert training.validate_every <= steps / 5
