"""The configuration: YAML's traps are closed, errors name file, line and key, and what is written reads back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.config import SIZES, Config, Transformer
from transformer_mt.config_file import load_config
from transformer_mt.errors import ConfigError
from transformer_mt.strict_yaml import parse_yaml

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """\
languages: {source: de, target: en}
data:
  train: {source: train.de, target: train.en}
run_dir: runs/x
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


def load(path: Path, text: str | bytes, *overrides: str) -> Config:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path, overrides)


def refused(path: Path, text: str | bytes, *overrides: str) -> str:
    """The message with which a configuration is refused; never of several lines, which would hide the rest."""
    with pytest.raises(ConfigError) as caught:
        load(path, text, *overrides)
    message = str(caught.value)
    assert caught.value.code == 2
    assert "\n" not in message.strip()
    return message


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("5e-3", 0.005),
        (".5", 0.5),
        ("1.", 1.0),
        ("+2", 2),
        ("-3", -3),
        ("010", 10),
        ("0o10", "0o10"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("NO", "NO"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2024-01-31", "2024-01-31"),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("=", "="),
        ("<<", "<<"),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("-", [None]),
        ("[1, no, 1e2]", [1, "no", 100.0]),
    ],
)
def test_plain_scalars_mean_what_they_look_like(text: str, value: Any) -> None:
    result, _ = parse_yaml(text, "x")
    assert (result, type(result)) == (value, type(value))


def test_language_no_and_rate_1e_4_arrive(file: Path) -> None:
    config = load(file, MINIMAL.replace("source: de", "source: no") + "training: {learning_rate: 1e-4}\n")
    assert config.languages.source == "no"
    assert config.training.learning_rate == 0.0001


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("seed: 1\nseed: 2\n", 6, "seed: the key is given twice"),
        (
            "training:\n  max_steps: 5\n  save_every: 5\n  max_steps: 5\n",
            8,
            "training.max_steps: the key is given twice",
        ),
        ("model: &m {size: tiny}\ntokenizer: *m\n", 6, "aliases (*name) are not supported"),
        ("model: !!python/object/apply:os.system ['true']\n", 5, "tag"),
        ("seed: !!python/name:os.system\n", 5, "tag"),
        ("seed: !mine 3\n", 5, "tag"),
        ("model: !!omap [a: 1]\n", 5, "tag"),
        ("model: !!set {a}\n", 5, "tag"),
        ("model: {size: tiny\n", 5, "a bracket is not closed; close it"),
        ("model: [\n", 6, "a bracket is not closed; close it"),
        ("\tseed: 3\n", 5, "a tab; YAML is indented with spaces"),
        ("seed: 'x\n", 5, "a quotation mark is not closed; close it"),
        ("seed:1\n", 5, "not KEY: VALUE; write a space after the colon"),
        ("run_dir: a\0b\n", 5, "a control character (U+0000); remove it"),
        ("--- {a: 1}\n--- {b: 2}\n", 5, ""),
        ("model: {? [a, b] : 1}\n", 5, "a list or a mapping for a key; write KEY: VALUE"),
        ("device: cpu\nseed: " + "9" * 5_000 + "\n", 6, "not a number, or of too many digits; write a smaller one"),
        ("# a\u2028 # b\x85 # c\nseed: [\n", 7, "a bracket is not closed; close it"),  # lines as editors count them
        ("# a\u2028 # b\x85 # c\nsede: 1\n", 6, "sede: unknown key; did you mean 'seed'?"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(file: Path, text: str, line: int, words: str) -> None:
    message = refused(file, MINIMAL + text)
    assert message.startswith(f"{file}:{line}: ")
    assert words in message


def test_tags_of_python_never_run_anything(file: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    refused(file, MINIMAL + f"model: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path "
            f"['{witness}']]\n")  # fmt: skip
    assert not witness.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{chr(ord(c) - 1)}'] * 9)}]\n" for c in "bcdefghijk"),
        "a: " + "[" * 2_000,
        "a: " + "{a: " * 5_000,
        "seed: " + "9" * 5_000 + "\n",
        "- " * 5_000,
    ],
    ids=["alias bomb", "deep lists", "deep mappings", "endless number", "deep dashes"],
)
def test_bombs_are_refused_within_two_seconds(file: Path, text: str) -> None:
    started = time.process_time()
    refused(file, MINIMAL + text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_mark_and_windows_line_ends_do_not_matter(file: Path, bom: bytes, end: bytes) -> None:
    assert load(file, bom + MINIMAL.encode().replace(b"\n", end)) == load(file, MINIMAL)


@pytest.mark.parametrize(
    "content",
    [b"run_dir: caf\xe9\n", MINIMAL.encode("utf-16"), b"run_dir: a\0b\n", b"run_dir: \x1b[0m\n"],
    ids=["Latin-1", "UTF-16", "NUL", "escape character"],
)
def test_what_is_not_utf8_text_is_refused_by_name(file: Path, content: bytes) -> None:
    assert refused(file, content).startswith(f"{file}:1: ")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "[1, 2]\n", "just words\n", "~\n"])
def test_a_file_without_a_mapping_says_what_is_expected(file: Path, text: str) -> None:
    message = refused(file, text)
    assert message.startswith(f"{file}: not a configuration; expected a mapping of ")
    assert "languages" in message


def test_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder without config"):
        load_config(tmp_path)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


# --- unknown keys, wrong types


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("modle: small\n", 5, "modle: unknown key; did you mean 'model'?"),
        ("model:\n  size: tiny\n  head: 4\n", 7, "model.head: unknown key; did you mean 'heads'?"),
        ("training: {batch_token: 1}\n", 5, "training.batch_token: unknown key; did you mean 'batch_tokens'?"),
        ("tokenizer: {vocabsize: 1}\n", 5, "tokenizer.vocabsize: unknown key; did you mean 'vocab_size'?"),
        ("decoding: {beam: 1}\n", 5, "decoding.beam: unknown key; did you mean 'beam_size'?"),
    ],
)
def test_unknown_key_gets_file_line_and_the_nearest_key(file: Path, text: str, line: int, complaint: str) -> None:
    assert refused(file, MINIMAL + text) == f"{file}:{line}: {complaint}"


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("{source: de, ", "{sauce: no, source: de, ", 1, "languages.sauce: unknown key; did you mean 'source'?"),
        ("  train:", "  trian: {}\n  train:", 3, "data.trian: unknown key; did you mean 'train'?"),
        ("target: train.en", "target: train.en, xyzzy: 1", 3, "data.train.xyzzy: unknown key; known here: source"),
    ],
)
def test_unknown_keys_in_required_sections(file: Path, old: str, new: str, line: int, complaint: str) -> None:
    assert refused(file, MINIMAL.replace(old, new)).startswith(f"{file}:{line}: {complaint}")


@pytest.mark.parametrize(
    ("text", "key", "given"),
    [
        ("seed: one\n", "seed", "'one'"),
        ("seed: 1.5\n", "seed", "1.5"),
        ("seed: true\n", "seed", "true"),
        ("model: {layers: 0}\n", "model.layers", "0"),
        ("model: {layers: six}\n", "model.layers", "'six'"),
        ("model: {dropout: 1.0}\n", "model.dropout", "1.0"),
        ("model: {dropout: .nan}\n", "model.dropout", "nan"),
        ("model: {size: huge}\n", "model.size", "'huge'"),
        ("model: {size: [tiny]}\n", "model.size", "['tiny']"),
        ("model: huge\n", "model.size", "'huge'"),
        ("model: 3\n", "model", "3"),
        ("tokenizer: unigram\n", "tokenizer", "'unigram'"),
        ("training: {learning_rate: fast}\n", "training.learning_rate", "'fast'"),
        ("training: {max_minutes: .inf}\n", "training.max_minutes", "inf"),
        ("training: {max_minutes: -1}\n", "training.max_minutes", "-1"),
        ("training: {warmup_steps: " + "9" * 400 + "}\n", "training.warmup_steps", "9" * 60 + "…; expected"),
        ("training: {batch_tokens: 2147483648}\n", "training.batch_tokens", "expected a number less than 2147483648"),
        ("training: {samples: 2147483648}\n", "training.samples", "expected a number less than 2147483648"),
        ("tokenizer: {vocab_size: 1000001}\n", "tokenizer.vocab_size", "expected a number less than"),
        ("decoding: {length_penalty: 11}\n", "decoding.length_penalty", "expected a number less than or equal to 10"),
        ("decoding: {patience: 1e308}\n", "decoding.patience", "expected a number less than"),
        ("model: {width: 10000000}\n", "model.width", "expected a number less than or equal to 65536"),
        ("model: {layers: 1000000}\n", "model.layers", "expected a number less than or equal to 1000"),
        ("training: {adam_betas: [0.9, 0.9, 0.9]}\n", "training.adam_betas", "a list of at most 2 items, not 3"),
        ("training: {average: 1}\n", "training.average", "1"),
        ("training: {adam_betas: [0.9]}\n", "training.adam_betas", ""),
        ("training: {schedule: cosine}\n", "training.schedule", "'cosine'"),
        ("training:\n", "training", "nothing"),
        ("decoding: {beam_size: 4.0}\n", "decoding.beam_size", "4.0"),
        ("device: tpu\n", "device", "'tpu'"),
    ],
)
def test_wrong_value_is_refused_with_line_key_and_what_was_given(file: Path, text: str, key: str, given: str) -> None:
    message = refused(file, MINIMAL + text)
    assert message.startswith(f"{file}:5: {key}")
    assert given in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("run_dir: runs/x\n", "", "run_dir: missing"),
        ("run_dir: runs/x\n", "run_dir: ''\n", "run_dir: got ''; expected some text"),
        ("target: train.en", "target: train.en, weight: 1e300", "data.train.weight: got 1e+300; expected a number"),
        ("run_dir: runs/x\n", "run_dir: 7\n", "run_dir"),
        (", target: en", "", "languages.target: missing"),
        (
            ", target: train.en",
            "",
            "data.train: 'source' without 'target'; give the file of the translations, too",
        ),
        ("source: de", "source: german", "c.yaml:1: languages.source: 'german' is not the code of a language; write"),
        (
            "source: train.de",
            "hub: a/b, source: train.de",
            "data.train: not one kind of source; expected one of {source: FILE, target: FILE}, {tsv: FILE}",
        ),
        ("target: train.en", "target: [a, b]", "train: several references are for the test set only"),
        ("target: train.en", "target: {a: b}", "data.train.target"),
        ("target: train.en", "target: train.en, split: train", "data.train"),
        (
            "{source: train.de, target: train.en}",
            "{tsv: train.tsv, alignment: a}",
            "data.train: 'alignment' goes with 'source' and 'target'; leave it out",
        ),
        (
            "run_dir: runs/x",
            "training: {guided_alignment: 0.1}\nrun_dir: runs/x",
            "training.guided_alignment is set, but no corpus of data.train has word links; give their file, such as",
        ),
        ("run_dir: runs/x", "training: {guided_alignment: -1}\nrun_dir: runs/x", "training.guided_alignment"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(file: Path, old: str, new: str, words: str) -> None:
    assert words in refused(file, MINIMAL.replace(old, new))


LINKED = MINIMAL.replace("target: train.en", "target: train.en, alignment: train.align")


@pytest.mark.parametrize("attention", ["hard", "none"])
def test_attention_without_a_gradient_cannot_be_guided(file: Path, attention: str) -> None:
    text = LINKED + "training: {guided_alignment: 0.1}\nmodel: {kind: recurrent, attention: %s}\n"
    told = f"teaches weights of positions, which model.attention {attention} does not have; take soft or local"
    assert told in refused(file, text % attention)
    assert load(file, text % "local").training.guided_alignment == 0.1


def test_links_are_for_training_alone_and_their_path_is_made_absolute(file: Path) -> None:
    path = load(file, LINKED).data.train[0].alignment
    assert path == str(Path("train.align").absolute())
    message = refused(file, LINKED.replace("run_dir", "  valid: {source: a, target: b, alignment: c}\nrun_dir"))
    assert "data: valid: 'alignment' is for data.train only; leave it out" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {width: 30, heads: 4}\n", "width 30 is not an even multiple of heads 4"),
        ("model: {width: 12, heads: 4}\n", "width 12 is not an even multiple of heads 4"),
        ("training: {max_steps: ~}\n", "the run has no end; set one of max_steps, max_epochs and max_minutes"),
        (
            "training: {max_steps: ~, max_epochs: 1, schedule: linear}\n",
            "schedule 'linear' falls to zero at max_steps; set max_steps",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_their_section(file: Path, text: str, words: str) -> None:
    message = refused(file, MINIMAL + text)
    assert message.startswith(f"{file}:5: {text.split(':')[0]}: ")
    assert words in message


def test_several_mistakes_are_counted(file: Path) -> None:
    assert refused(file, MINIMAL + "seed: a\ndevice: b\nmodle: c\n").endswith("(and 2 more)")


# --- sizes


@pytest.mark.parametrize(
    ("size", "layers", "width", "feed_forward", "heads"),
    [("tiny", 4, 128, 256, 4), ("small", 6, 512, 1024, 4), ("base", 6, 512, 2048, 8), ("big", 6, 1024, 4096, 16)],
)
@pytest.mark.parametrize("form", ["model: {}\n", "model: {{size: {}}}\n"])
def test_sizes_are_those_of_the_papers(
    file: Path, form: str, size: str, layers: int, width: int, feed_forward: int, heads: int
) -> None:
    model = load(file, MINIMAL + form.format(size)).model
    assert isinstance(model, Transformer)
    assert (model.layers, model.width, model.feed_forward, model.heads) == (layers, width, feed_forward, heads)


def test_no_size_is_left_untested() -> None:
    assert set(SIZES) == {"tiny", "small", "base", "big"}


def test_a_size_can_be_overridden_key_by_key(file: Path) -> None:
    model = load(file, MINIMAL + "model: {size: tiny, layers: 2, dropout: 0.3}\n").model
    assert isinstance(model, Transformer)
    assert (model.layers, model.width, model.feed_forward, model.heads, model.dropout) == (2, 128, 256, 4, 0.3)


def test_without_a_model_the_default_is_small(file: Path) -> None:
    assert load(file, MINIMAL).model == load(file, MINIMAL + "model: small\n").model


# --- --set


def test_set_replaces_a_scalar_and_reads_yaml(file: Path) -> None:
    config = load(file, MINIMAL, "training.learning_rate=1e-4", "languages.source=no", "training.max_steps = 7")
    assert (config.training.learning_rate, config.languages.source, config.training.max_steps) == (1e-4, "no", 7)


def test_set_replaces_a_whole_mapping(file: Path) -> None:
    text = MINIMAL + "model: {size: tiny, layers: 2}\n"
    assert load(file, text, "model={width: 256}").model == load(file, MINIMAL + "model: {width: 256}\n").model
    assert load(file, text, "model=base").model == load(file, MINIMAL + "model: base\n").model


def test_set_of_a_part_keeps_the_rest(file: Path) -> None:
    model = load(file, MINIMAL + "model: {size: tiny, layers: 2}\n", "model.dropout=0.25").model
    assert isinstance(model, Transformer)
    assert (model.size, model.layers, model.width, model.dropout) == ("tiny", 2, 128, 0.25)


def test_set_of_a_part_after_a_size_given_as_a_word(file: Path) -> None:
    model = load(file, MINIMAL + "model: tiny\n", "model.dropout=0.25").model
    assert isinstance(model, Transformer)
    assert (model.size, model.width, model.dropout) == ("tiny", 128, 0.25)


def test_set_makes_sections_that_the_file_has_not_or_has_empty(file: Path) -> None:
    assert load(file, MINIMAL, "training.max_steps=3").training.max_steps == 3
    assert load(file, MINIMAL + "training:\n", "training.max_steps=3").training.max_steps == 3


def test_the_last_set_wins(file: Path) -> None:
    assert load(file, MINIMAL, "seed=2", "seed=3").seed == 3


def test_set_to_null_unsets(file: Path) -> None:
    config = load(file, MINIMAL + "training: {max_steps: 9}\n", "training.max_steps=null", "training.max_epochs=1")
    assert (config.training.max_steps, config.training.max_epochs) == (None, 1)


def test_set_without_a_value_is_refused(file: Path) -> None:
    assert "the value is missing; for none, write training.max_steps=null" in refused(
        file, MINIMAL, "training.max_steps="
    )


@pytest.mark.parametrize("assignment", ["", "=", "=3", "seed", "model.", ".seed=1", "model..layers=1"])
def test_set_without_key_and_value_is_refused(file: Path, assignment: str) -> None:
    assert "expected KEY=VALUE" in refused(file, MINIMAL, assignment)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.head=4", "--set model.head: unknown key; did you mean 'heads'?"),
        ("modle.heads=4", "--set modle.heads: modle: unknown key; did you mean 'model'?"),
        ("seed=one", "--set seed: got 'one'; expected an integer"),
        ("seed.deeper=1", "--set seed.deeper: seed: got a mapping; expected an integer"),
        ("training={max_step: 3}", "--set training.max_step: unknown key; did you mean 'max_steps'?"),
        ("seed=[", "--set seed"),
        ("seed=!!python/name:os.system", "--set seed"),
        ("seed={a: 1, a: 2}", "--set seed"),
        ("x\udcff=1", r"--set x\udcff=1: not UTF-8; write key and value in UTF-8"),
    ],
)
def test_mistakes_in_set_are_blamed_on_set(file: Path, assignment: str, message: str) -> None:
    told = refused(file, MINIMAL, assignment)
    assert told.startswith(message)
    assert str(file) not in told


def test_set_that_replaces_a_mapping_is_not_blamed_on_the_lines_it_replaced(file: Path) -> None:
    message = refused(file, MINIMAL + "model: {width: 64}\n", "model={width: wide}")
    assert message.startswith("--set model.width: ")


# --- round trip, paths


FULL = """\
languages: {source: no, target: '010'}
data:
  train: {source: a/train.no, target: ~/train.x}
  valid: {source: valid.no, target: valid.x}
  test: {source: test.no, target: [t1, t2, t3]}
  max_length: 7
tokenizer: {kind: bpe, vocab_size: 99, joint: false, normalization: nmt_nfkc}
model: {size: tiny, heads: 2, activation: swiglu, norm: rms, norm_position: post, positions: rotary}
training: {adam_betas: [0.8, 0.95], learning_rate: 1e-4, max_minutes: 0.5, max_steps: ~, patience: ~, best_by: nll}
decoding: {beam_size: 2, length_penalty: 0, precision: bfloat16}
device: cpu
seed: 17
run_dir: runs/ünï code/x
"""


@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_written_configuration_reads_back_the_same(file: Path, text: str) -> None:
    config = load(file, text)
    assert load(file, config.to_yaml()) == config


@given(text=st.one_of(st.text(min_size=1), st.from_regex(r"[0-9._+:-]{1,4}[eE]?[0-9+-]{1,4}", fullmatch=True)))
def test_any_text_survives_writing_and_reading(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Names such as ``12e3`` (a git revision) or ``1:30`` must not turn into numbers."""
    tree: dict[str, Any] = {
        "languages": {"source": "de", "target": "en"},
        "data": {"train": {"hub": "owner/name", "name": text, "split": text, "revision": text}},
        "run_dir": "/runs/x",
    }
    config = Config.model_validate(tree)
    path = tmp_path_factory.getbasetemp() / "survives.yaml"
    assert load(path, config.to_yaml()) == config


def test_relative_paths_are_taken_from_the_current_directory_and_stored_absolute(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", "/home/someone")
    config = load(file, FULL)
    assert config.run_dir == f"{here}/runs/ünï code/x"
    assert config.data.train[0].source == f"{here}/a/train.no"
    assert config.data.train[0].target == "/home/someone/train.x"
    assert config.data.test is not None
    assert config.data.test["test"].target == [f"{here}/t1", f"{here}/t2", f"{here}/t3"]


def test_a_folder_whose_name_is_not_utf8_is_refused_by_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"run\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system knows names in UTF-8 only")
    (folder / "config.yaml").write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(folder)
    message = rf"{tmp_path}/run\udcff{{}}: the name of the folder is not UTF-8; rename it"
    assert str(caught.value) == message.format("")
    monkeypatch.chdir(folder)  # what is relative to it would end up in the configuration, too
    assert refused(file, MINIMAL) == message.format("/train.de")


def test_a_hub_name_stays_unless_there_is_a_folder_of_that_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = MINIMAL.replace("{source: train.de, target: train.en}", "{hub: own/er, split: train}")
    assert load(file, text).data.train[0].hub == "own/er"
    (tmp_path / "own/er").mkdir(parents=True)
    assert load(file, text).data.train[0].hub == f"{tmp_path}/own/er"


SEVERAL = """
languages: {source: de, target: en}
data:
  train: [{tsv: /a.tsv, columns: [2, 1], weight: 2.5}, {source: /b.de, target: /b.en}, {jsonl: /c.jsonl}]
  valid: {parquet: /v.parquet, columns: [de_DE, en_US]}
  test: {flickr-2016: {source: /t.de, target: [/t.en, /t2.en]}, web: {hub: a/b, split: test, stream: true}}
run_dir: /runs/x
"""


def test_several_corpora_and_named_sets_are_read_and_written_back(file: Path) -> None:
    config = load(file, SEVERAL)
    assert [source.weight for source in config.data.train] == [2.5, 1.0, 1.0]
    assert list(config.data.sets("valid")) == ["valid"]
    assert list(config.data.sets("test")) == ["test.flickr-2016", "test.web"]
    assert config.data.sets("test")["test.flickr-2016"].references == 2
    assert load(file, config.to_yaml()) == config
    written = parse_yaml(config.to_yaml(), "x")[0]["data"]
    assert written["train"][0] == {"tsv": "/a.tsv", "columns": [2, 1], "weight": 2.5}
    assert written["valid"] == {"parquet": "/v.parquet", "columns": ["de_DE", "en_US"]}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("columns: [2, 1]", "columns: [0, 1]", "4: data.train.0: columns: expected a list of numbers from 1 on"),
        ("columns: [de_DE, en_US]", "columns: [1, 2]", "5: data.valid: columns: expected a list of names"),
        ("columns: [2, 1]", "columns: [2]", "4: data.train.0: columns: expected a list of numbers from 1 on"),
        ("columns: [2, 1]", "columns: [1, 2, 3]", "3: data: train: several references are for the test set only"),
        ("columns: [2, 1]", "colums: [2, 1]", "4: data.train.0.colums: unknown key; did you mean 'columns'?"),
        ("weight: 2.5", "weight: 0", "4: data.train.0.weight: got 0; expected a number greater than 0"),
        (
            "target: /b.en",
            "tsv: /b",
            "4: data.train.1: not one kind of source; expected one of {source: FILE, target: FILE}, {tsv: FILE}",
        ),
        ("parquet: /v.parquet", "parqet: /v", "5: data.valid.parqet: unknown key; did you mean 'parquet'?"),
        ("web: {hub", "w b: {hub", "3: data: 'w b': not a name of a set; use letters, digits, '-' and '_'"),
        ("split: test, ", "", "6: data.test.web: 'stream' goes with 'hub' and 'split'"),
        ("{hub: a/b, split: test, stream: true}", "[a, b]", "6: data.test"),
    ],
)
def test_a_mistake_in_one_of_several_corpora_is_told_with_its_place(file: Path, old: str, new: str, words: str) -> None:
    assert old in SEVERAL
    assert f"{file}:{words}" in refused(file, SEVERAL.replace(old, new))


@pytest.mark.parametrize("value", ["train.de", "[]", "7", "null", "{}"])
def test_a_corpus_that_is_no_corpus_is_told_what_one_is(file: Path, value: str) -> None:
    line = refused(file, MINIMAL.replace("{source: train.de, target: train.en}", value))
    assert line.startswith(f"{file}:3: data.train: ")
    assert "expected" in line


def test_a_run_directory_serves_as_configuration(tmp_path: Path, file: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(load(file, MINIMAL, f"run_dir={run}", "seed=5").to_yaml(), encoding="utf-8")
    assert load_config(run).seed == 5
    assert load_config(run, ["seed=6"]).seed == 6


def test_a_run_directory_that_was_moved_is_its_own_run_dir(tmp_path: Path, file: Path) -> None:
    """Otherwise ``mt train MOVED --resume`` would begin anew at the old place."""
    run = tmp_path / "moved"
    run.mkdir()
    (run / "config.yaml").write_text(load(file, MINIMAL, "run_dir=/old/place").to_yaml(), encoding="utf-8")
    assert load_config(run).run_dir == str(run)
    assert load_config(run, ["run_dir=/else/where"]).run_dir == "/else/where"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_loads_and_its_data_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(path)
    for source in (*config.data.train, *(config.data.valid or {}).values(), *(config.data.test or {}).values()):
        assert all(Path(name).is_file() for name in source.files)


def test_there_are_shipped_configurations() -> None:
    assert list((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def origin(tmp_path: Path, file: Path) -> Path:
    """The directory of a run with settings of its own."""
    run = tmp_path / "origin"
    run.mkdir()
    text = MINIMAL + "tokenizer: {kind: bpe, joint: false}\nmodel: {size: tiny, layers: 3, dropout: 0.3}\n"
    (run / "config.yaml").write_text(load(file, text, f"run_dir={run}").to_yaml(), encoding="utf-8")
    return run


def test_a_run_that_starts_from_another_takes_its_model_and_tokenizer(file: Path, origin: Path) -> None:
    theirs = load_config(origin)
    start = f"training: {{start_from: {origin}}}\n"
    config = load(file, MINIMAL + start)
    assert config.model == theirs.model
    assert config.tokenizer == theirs.tokenizer.model_copy(update={"from_": str(origin)})
    config = load(file, MINIMAL + start + "model: {dropout: 0.1}\ntokenizer: {joint: false}\n")
    assert config.model == theirs.model.model_copy(update={"dropout": 0.1})
    assert (config.tokenizer.from_, config.tokenizer.kind) == (None, "unigram")


def test_a_run_to_start_from_may_be_named_by_its_configuration_file(file: Path, origin: Path) -> None:
    config = load(file, MINIMAL, f"training.start_from={origin / 'config.yaml'}")
    assert config.training.start_from == config.tokenizer.from_ == str(origin)


@pytest.mark.parametrize("key", ["training.start_from", "tokenizer.from"])
def test_a_run_that_is_built_upon_and_is_not_there_is_told_by_its_key(file: Path, tmp_path: Path, key: str) -> None:
    assert refused(file, MINIMAL, f"{key}={tmp_path / 'gone'}").startswith(f"{file}: {key}: {tmp_path / 'gone'}: ")


def test_a_run_that_has_begun_needs_the_one_it_started_from_no_more(file: Path, origin: Path, tmp_path: Path) -> None:
    overrides = [f"run_dir={tmp_path / 'run'}", f"training.start_from={origin}"]
    before = load(file, MINIMAL, *overrides)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(before.to_yaml(), encoding="utf-8")
    (origin / "config.yaml").unlink()
    origin.rmdir()
    assert load(file, MINIMAL, *overrides) == before
    assert load_config(tmp_path / "run") == before


def test_a_file_that_starts_from_itself_is_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(MINIMAL.replace("runs/x", "runs/y") + f"training: {{start_from: {file}}}\n", encoding="utf-8")
    for run in (file, other):
        line = refused(file, MINIMAL + f"training: {{start_from: {run}}}\n")
        assert line.endswith(f"{file}: starts from itself; give another run")


def test_a_mistyped_run_to_start_from_is_not_taken_for_one_that_was_deleted(file: Path, tmp_path: Path) -> None:
    """Though an older run, which started from another, lies in run_dir."""
    run = tmp_path / "run"
    run.mkdir()
    text = MINIMAL.replace("runs/x", str(run))
    (run / "config.yaml").write_text(load(file, text).to_yaml(), encoding="utf-8")
    line = refused(file, text + f"training: {{start_from: {tmp_path / 'generall'}}}\n")
    assert "training.start_from" in line and "generall: no such file" in line


def test_a_tilde_that_is_nobodys_home_is_part_of_the_name(file: Path) -> None:
    config = load(file, MINIMAL.replace("train.de", "~train.de"))
    assert str(config.data.train[0].source).endswith("/~train.de")
