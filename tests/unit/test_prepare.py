"""From corpora to the store: what is dropped and counted, what is held out, and what is done again only when needed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt import parallel
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.cleaning import pair_hash
from transformer_mt.data.corpus import read_lines
from transformer_mt.data.fingerprint import difference, fingerprint
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import ArtefactError, ConfigError, DataError

Pairs = list[tuple[str, str]]
WORDS = [a + b + c for a in "bdfgklm" for b in "aeiou" for c in "nrst"]


def sentence(draw: random.Random, words: int | None = None) -> str:
    return " ".join(draw.choices(WORDS, k=words or draw.randint(4, 8)))


def distinct(count: int, seed: int = 0) -> Pairs:
    """Pairs that all differ, and that no rule drops."""
    draw = random.Random(seed)
    return [(f"{sentence(draw)} {n}", f"{n} {sentence(draw)}") for n in range(count)]


class Corpus:
    """A folder with text, and what is made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tokenizer, self.data = folder, folder / "tokenizer", folder / "data"

    def write(self, split: str, pairs: Pairs) -> dict[str, str]:
        paths = {side: str(self.folder / f"{split}.{side}") for side in ("source", "target")}
        for number, path in enumerate(paths.values()):
            Path(path).write_text("".join(pair[number] + "\n" for pair in pairs), encoding="utf-8")
        return paths

    def config(self, train: Pairs, **sections: Any) -> Config:
        data = {"train": self.write("train", train), **sections.pop("data", {})}
        for split in ("valid", "test"):
            if isinstance(data.get(split), list):
                data[split] = self.write(split, data[split])
        tree = {"languages": {"source": "xx", "target": "yy"}, "data": data, "run_dir": str(self.folder), **sections}
        return Config.model_validate(tree)

    def prepare(self, config: Config) -> dict[str, Any]:
        return prepare.prepare(config, fingerprint(config), self.tokenizer, self.data)

    def lines(self, name: str) -> list[str]:
        return list(read_lines(self.data / f"{name}.txt"))

    def pairs(self, split: str) -> Pairs:
        return list(zip(self.lines(f"{split}.source"), self.lines(f"{split}.target"), strict=True))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


GIVEN = {"valid": [("ban ban", "bar bar")], "test": [("dan", "dar")]}


# --- rules


def test_what_is_dropped_is_counted_by_rule_and_the_rest_is_kept_in_order(corpus: Corpus) -> None:
    good = distinct(120)
    far_too_long = " ".join(["ban"] * 2000)  # by characters, before the tokenizer is known
    bad = [
        ("", "bar"),
        ("bar", ""),
        ("  ", "bar"),
        ("\u3000", "bar"),
        (far_too_long, "bar"),
        ("bar", far_too_long),
        (sentence(random.Random(1), 70), sentence(random.Random(2), 70)),  # 64 pieces are too few for 70 words
        ("ban ban ban ban ban ban ban ban ban ban", "b"),
        ("b", "ban ban ban ban ban ban ban ban ban ban"),
    ]
    mixed = [*good[:50], *bad[:5], *good[50:90], *bad[5:], *good[90:]]
    manifest = corpus.prepare(corpus.config(mixed, data={**GIVEN, "max_length": 64, "max_ratio": 4.0}))
    counts = {rule: drop["pairs"] for rule, drop in manifest["dropped"].items()}
    assert counts == {"empty": 4, "too long": 3, "length ratio": 2}
    places = [place["place"] for drop in manifest["dropped"].values() for place in drop["examples"]]
    assert f"{corpus.folder}/train.source:51" in places  # the first empty one, told by its line in the file
    assert f"{corpus.folder}/train.source:99" in places  # the last of unequal lengths, known only after tokenizing
    assert manifest["pairs"] == len(Store(corpus.data)) == 120
    assert corpus.pairs("train") == good


def test_limits_count_pieces_and_hold_exactly(corpus: Corpus) -> None:
    """A pair at the limit is kept, one piece more is dropped."""
    pairs = distinct(200)
    corpus.prepare(corpus.config(pairs, data=GIVEN))
    tokenizer = Tokenizer.load(corpus.tokenizer)
    encoded = zip(*(encode([p[n] for p in pairs]) for n, encode in enumerate(
        (tokenizer.encode_source, tokenizer.encode_target))), strict=True)  # fmt: skip
    lengths = [(len(source), len(target)) for source, target in encoded]
    longest = sorted(max(pair) for pair in lengths)[150]
    expected = [pair for pair, pieces in zip(pairs, lengths, strict=True) if max(pieces) <= longest]
    manifest = corpus.prepare(corpus.config(pairs, data={**GIVEN, "max_length": longest}))
    assert corpus.pairs("train") == expected
    assert manifest["dropped"]["too long"]["pairs"] == 200 - len(expected)


def test_the_store_holds_what_the_tokenizer_makes_of_the_text(corpus: Corpus) -> None:
    corpus.prepare(corpus.config(distinct(150), data=GIVEN))
    tokenizer, store = Tokenizer.load(corpus.tokenizer), Store(corpus.data)
    store.block(0)
    for row in (0, 77, 149):
        source, target = (
            side.ids[side.offsets[row] : side.offsets[row + 1]].tolist() for side in (store.source, store.target)
        )
        assert [source] == tokenizer.encode_source([corpus.lines("train.source")[row]])
        assert [target] == tokenizer.encode_target([corpus.lines("train.target")[row]])


def test_odd_characters_stay_in_their_lines(corpus: Corpus) -> None:
    """Nothing on the way to the store may take U+2028 or a lone carriage return for the end of a line."""
    odd = [("ban\u2028ban\x85 ban", "bar\rbar bar\x0c"), ("\ufeffban </s>", "bar\x1cbar <pad>")]
    good = distinct(100)
    corpus.prepare(corpus.config([*good, *odd], data={**GIVEN, "test": odd}))
    assert corpus.pairs("train") == [*good, *odd]
    assert corpus.pairs("test") == odd


@pytest.mark.parametrize(
    ("train", "data", "words"),
    [
        ([], GIVEN, "no training pair is left: the files are empty"),
        ([("", ""), (" ", "\t")], GIVEN, "no training pair is left: 2 empty"),
        ([("", "")] * 30, {}, "no training pair is left: 30 empty"),
        (distinct(9), {}, "9 different pairs are too few to hold out valid and test"),
        (distinct(3) * 50, {}, "3 different pairs are too few"),
        (distinct(3) * 50, {"drop": []}, "3 different pairs are too few"),
        (distinct(100), {**GIVEN, "valid": []}, "data.valid"),
        (distinct(100), {**GIVEN, "test": []}, "data.test"),
        (distinct(100), {**GIVEN, "max_length": 1}, "no training pair is left: 100 too long"),
    ],
    ids=[
        "empty",
        "blank",
        "blank, held out",
        "nine",
        "three, often",
        "three, kept",
        "valid empty",
        "test empty",
        "all too long",
    ],
)
def test_too_little_text_is_an_error_that_says_why(
    corpus: Corpus, train: Pairs, data: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        corpus.prepare(corpus.config(train, data=data))
    assert words in str(caught.value)
    assert prepare.read_manifest(corpus.data) is None


def test_impossible_vocabularies_name_what_is_possible(corpus: Corpus) -> None:
    with pytest.raises(DataError, match=r"vocab_size: 60000 .* the maximum is \d+"):
        corpus.prepare(corpus.config(distinct(100), data=GIVEN, tokenizer={"vocab_size": 60_000}))
    with pytest.raises(ConfigError, match=r"vocab_size: 200 is too small"):
        corpus.prepare(corpus.config(distinct(100), data=GIVEN, tokenizer={"vocab_size": 200}))


# --- evaluation sets


def test_given_sets_are_copied_as_they_are(corpus: Corpus) -> None:
    """No rule drops lines of them: line i of a translation belongs to line i of the reference."""
    test = [("", "bar"), ("ban  ban ", " bar"), ("ban " * 500, "b"), ("", "")]
    manifest = corpus.prepare(corpus.config(distinct(100), data={**GIVEN, "test": test}))
    assert corpus.pairs("test") == test
    assert prepare.evaluation_set(corpus.data, "test") == ([s for s, _ in test], [[t for _, t in test]])
    assert manifest["held_out"] == {}
    assert manifest["pairs"] == 100


def test_several_references_are_kept_apart(corpus: Corpus) -> None:
    references = []
    for number in range(3):
        references.append(corpus.folder / f"reference.{number}")
        references[-1].write_text(f"one {number}\ntwo {number}\n", encoding="utf-8")
    (corpus.folder / "test.source").write_text("eins\nzwei\n", encoding="utf-8")
    test = {"source": str(corpus.folder / "test.source"), "target": [str(path) for path in references]}
    corpus.prepare(corpus.config(distinct(100), data={**GIVEN, "test": test}))
    assert prepare.evaluation_set(corpus.data, "test") == (
        ["eins", "zwei"],
        [["one 0", "two 0"], ["one 1", "two 1"], ["one 2", "two 2"]],
    )


@pytest.mark.parametrize("damage", ["no target", "no source", "not UTF-8"])
def test_a_damaged_evaluation_set_is_an_artefact(corpus: Corpus, damage: str) -> None:
    corpus.prepare(corpus.config(distinct(100), data=GIVEN))
    if damage == "not UTF-8":
        (corpus.data / "test.target.txt").write_bytes(b"\xff\n")
    else:
        (corpus.data / f"test.{damage.split()[1]}.txt").unlink()
    with pytest.raises(ArtefactError):
        prepare.evaluation_set(corpus.data, "test")


def test_one_percent_of_each_is_held_out_and_kept_from_training(corpus: Corpus) -> None:
    pairs = distinct(500)
    manifest = corpus.prepare(corpus.config(pairs))
    valid, test, train = (corpus.pairs(split) for split in ("valid", "test", "train"))
    assert manifest["held_out"] == {"valid": 5, "test": 5}
    assert (len(valid), len(test), len(train)) == (5, 5, 490)
    assert sorted([*valid, *test, *train]) == sorted(pairs)
    assert train == [pair for pair in pairs if pair not in valid and pair not in test]


def test_only_what_is_missing_is_held_out(corpus: Corpus) -> None:
    manifest = corpus.prepare(corpus.config(distinct(300), data={"test": GIVEN["test"]}))
    assert manifest["held_out"] == {"valid": 3}
    assert manifest["pairs"] == 297


def test_copies_stay_on_one_side_and_are_evaluated_once(corpus: Corpus) -> None:
    pairs = distinct(200)
    draw = random.Random(5)
    copied = [*pairs, *draw.choices(pairs, k=400)]
    draw.shuffle(copied)
    manifest = corpus.prepare(corpus.config(copied, data={"drop": []}))
    valid, test, train = (corpus.pairs(split) for split in ("valid", "test", "train"))
    assert len(valid) == len(set(valid)) == len(test) == len(set(test)) == 6
    assert not set(valid) & set(test)
    assert not (set(valid) | set(test)) & set(train)
    assert train == [pair for pair in copied if pair not in valid and pair not in test]
    assert manifest["pairs"] == len(train)


def test_a_corpus_of_few_pairs_that_repeat_is_not_held_out_whole(corpus: Corpus) -> None:
    """1 % of 6,000 lines is 60, but there are only 60 different pairs."""
    manifest = corpus.prepare(corpus.config(distinct(60) * 100, data={"drop": []}))
    assert 1 <= manifest["held_out"]["valid"] <= 6
    assert 1 <= manifest["held_out"]["test"] <= 6
    assert manifest["pairs"] >= 4800


def test_what_is_held_out_does_not_depend_on_the_order_or_the_seed(corpus: Corpus) -> None:
    pairs = distinct(400)
    held_out = []
    for order, seed in ((pairs, 1), (pairs[::-1], 1), (pairs, 2)):
        corpus.prepare(corpus.config(order, seed=seed))
        held_out.append([set(corpus.pairs(split)) for split in ("valid", "test")])
    assert held_out[0] == held_out[1] == held_out[2]


def test_preparing_again_gives_the_same_files(corpus: Corpus) -> None:
    config = corpus.config(distinct(300))
    contents = []
    for _ in range(2):
        corpus.prepare(config)
        files = [*corpus.data.iterdir(), *corpus.tokenizer.iterdir()]
        contents.append({path.name: path.read_bytes() for path in files})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("cores", "chunk"), [(1, 37), (2, 37), (2, 300)])
def test_neither_the_number_of_processes_nor_of_pairs_at_once_changes_a_byte(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, cores: int, chunk: int
) -> None:
    pairs = distinct(1500)
    pairs[100:100] = [("", "a"), pairs[7], ("ban ban ban ban ban ban ban", "b"), ("a\x07", "b"), ("ban", "ban")]
    more = {**corpus.write("more", [*pairs[50:60], ("dan", "mas"), ("", "")]), "weight": 2.5}
    tree = corpus.config(pairs, data={"max_ratio": 2.0}).model_dump(exclude_defaults=True, by_alias=True)
    tree["data"]["train"] = [*tree["data"]["train"], more]
    config, written = Config.model_validate(tree), []
    for _ in range(2):
        manifest = corpus.prepare(config)
        files = [*corpus.data.iterdir(), *corpus.tokenizer.iterdir()]
        written.append({path.name: path.read_bytes() for path in files})
        monkeypatch.setattr(prepare, "_CHUNK", chunk)
        monkeypatch.setattr(parallel, "PAYS", 0.0)
        monkeypatch.setattr(parallel, "cores", lambda: cores)
    assert written[0] == written[1]
    assert manifest["dropped"].keys() == {"empty", "duplicates", "control", "copies", "length ratio"}
    assert [part["read"] for part in manifest["corpora"]] == [1505, 12]


@given(st.text(), st.text())
def test_the_hash_of_a_pair_tells_where_the_source_ends(source: str, target: str) -> None:
    source, target = (text.replace("\n", "").encode("utf-8", "replace").decode() for text in (source, target))
    if target:
        assert pair_hash(source, target) != pair_hash(source + target[0], target[1:])


# --- several corpora and sets


def test_several_corpora_lie_one_after_the_other_with_their_weights(corpus: Corpus) -> None:
    """Numbers of pairs are those that the rules left; a copy counts for the corpus that has it first."""
    pairs = distinct(300)
    more = {**corpus.write("more", [*pairs[190:], ("", "")]), "weight": 2.5}
    config = corpus.config(pairs[:200], data=GIVEN)
    tree = config.model_dump(exclude_defaults=True, by_alias=True)
    tree["data"]["train"] = [*tree["data"]["train"], more]
    manifest = corpus.prepare(Config.model_validate(tree))
    assert corpus.pairs("train") == pairs
    names = [f"{corpus.folder}/{name}.source" for name in ("train", "more")]
    assert manifest["corpora"] == [
        {"name": names[0], "read": 200, "pairs": 200, "weight": 1.0},
        {"name": names[1], "read": 111, "pairs": 100, "weight": 2.5},
    ]
    assert manifest["dropped"]["duplicates"]["examples"][0]["place"] == f"{names[1]}:1"
    assert manifest["dropped"]["empty"]["examples"][0]["place"] == f"{names[1]}:111"


def test_named_sets_are_kept_apart_in_their_order(corpus: Corpus) -> None:
    data = {"valid": GIVEN["valid"], "test": {name: corpus.write(name, distinct(5, n)) for n, name in enumerate("zab")}}
    corpus.prepare(corpus.config(distinct(100), data=data))
    assert prepare.set_names(corpus.data, "valid") == ["valid"]
    assert prepare.set_names(corpus.data, "test") == ["test.z", "test.a", "test.b"]
    assert corpus.pairs("test.a") == distinct(5, 1)


@pytest.mark.parametrize("drop", [False, True])
def test_training_pairs_that_are_in_a_given_set_are_counted_and_dropped_on_demand(corpus: Corpus, drop: bool) -> None:
    pairs = distinct(120)
    rules = ["duplicates", "leaks"] if drop else ["duplicates"]
    data = {"valid": pairs[3:5], "test": [pairs[7], ("unseen", "either")], "drop": rules}
    manifest = corpus.prepare(corpus.config(pairs, data=data))
    assert manifest["leaks"] == (0 if drop else 3)
    assert manifest["pairs"] == (117 if drop else 120)
    assert manifest["dropped"].get("leaks", {"pairs": 0})["pairs"] == (3 if drop else 0)


def test_the_tokenizer_of_another_run_is_taken_as_it_is(corpus: Corpus) -> None:
    corpus.prepare(corpus.config(distinct(100), data=GIVEN))
    other = Corpus(corpus.folder / "other")
    other.folder.mkdir()
    config = other.config(distinct(150, 1), data=GIVEN, tokenizer={"from": str(corpus.folder)})
    other.prepare(config)
    assert (other.tokenizer / "joint.model").read_bytes() == (corpus.tokenizer / "joint.model").read_bytes()
    assert "tokenizer.from.0" in fingerprint(config)["files"]


# --- fingerprint


def test_the_fingerprint_of_unchanged_inputs_does_not_read_them_again(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = corpus.config(distinct(100), data=GIVEN)
    known = fingerprint(config)
    monkeypatch.setattr(Path, "open", lambda *arguments: pytest.fail("a file was read again"))
    assert difference(known, fingerprint(config, known)) == ""


def test_touching_a_file_changes_nothing(corpus: Corpus) -> None:
    config = corpus.config(distinct(100), data=GIVEN)
    known = fingerprint(config)
    os.utime(corpus.folder / "train.source", (1, 1))
    assert difference(known, fingerprint(config, known)) == ""


Change = Callable[[Corpus, Config], Config]


def with_text(split: str, side: str) -> Change:
    def change(corpus: Corpus, config: Config) -> Config:
        with (corpus.folder / f"{split}.{side}").open("a", encoding="utf-8") as file:
            file.write("more\n")
        return config

    return change


def with_setting(section: str | None, **values: Any) -> Change:
    def change(corpus: Corpus, config: Config) -> Config:
        if section is None:
            return config.model_copy(update=values)
        return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_text("train", "source"), "data.train"),
        (with_text("valid", "target"), "data.valid"),
        (with_text("test", "target"), "data.test"),
        (with_setting("data", test=None), "data.test"),
        (with_setting("data", max_length=99), "max_length"),
        (with_setting("data", max_ratio=2.0), "max_ratio"),
        (with_setting("tokenizer", kind="bpe"), "tokenizer"),
        (with_setting("tokenizer", vocab_size=300), "tokenizer"),
        (with_setting(None, seed=2), "seed"),
    ],
)
def test_the_fingerprint_names_what_changed(corpus: Corpus, change: Change, named: str) -> None:
    config = corpus.config(distinct(100), data=GIVEN)
    known = fingerprint(config)
    assert difference(known, fingerprint(change(corpus, config), known)) == named


@pytest.mark.parametrize(
    "change", [with_setting("training", max_steps=1), with_setting("model", layers=2), with_setting(None, device="cpu")]
)
def test_the_fingerprint_does_not_care_how_it_is_trained(corpus: Corpus, change: Change) -> None:
    config = corpus.config(distinct(100), data=GIVEN)
    known = fingerprint(config)
    assert difference(known, fingerprint(change(corpus, config), known)) == ""


def test_a_changed_local_data_set_changes_the_fingerprint(corpus: Corpus) -> None:
    folder = corpus.folder / "dataset"
    folder.mkdir()
    config = corpus.config(distinct(10), data={"train": {"hub": str(folder), "split": "train"}})
    (folder / "train.jsonl").write_text('{"xx": "ban", "yy": "bar"}\n', encoding="utf-8")
    known = fingerprint(config)
    assert difference(known, fingerprint(config, known)) == ""
    (folder / "train.jsonl").write_text('{"xx": "ban", "yy": "bat bat"}\n', encoding="utf-8")
    assert difference(known, fingerprint(config, known)) == "data.train"


def test_a_missing_file_is_named(corpus: Corpus) -> None:
    config = corpus.config(distinct(10), data=GIVEN)
    (corpus.folder / "valid.source").unlink()
    with pytest.raises(DataError, match=r"valid\.source: no such file"):
        fingerprint(config)


# --- manifest


def test_the_manifest_is_what_was_returned(corpus: Corpus) -> None:
    config = corpus.config(distinct(100), data=GIVEN)
    manifest = corpus.prepare(config)
    assert prepare.read_manifest(corpus.data) == json.loads(json.dumps(manifest))
    size = Tokenizer.load(corpus.tokenizer).source_size
    assert manifest["vocabulary"] == {"source": size, "target": size}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fingerprint": {}}', '{"fingerprint": []}', "\xff", "7"])
def test_a_damaged_manifest_is_an_artefact(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtefactError, match=r"manifest\.json: damaged"):
        prepare.read_manifest(tmp_path)


def test_the_manifest_comes_last(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted is no store."""
    config = corpus.config(distinct(100), data=GIVEN)
    corpus.prepare(config)

    def crash(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "_encode", crash)
    with pytest.raises(KeyboardInterrupt):
        corpus.prepare(config)
    assert prepare.read_manifest(corpus.data) is None


# --- odd text that others sent


def test_a_line_end_that_was_converted_twice_does_not_undo_what_is_held_out(corpus: Corpus) -> None:
    r"""Lines that end in \r\r\n keep one \r as text; it must not get lost on the way through our own files."""
    pairs = distinct(400)
    odd = [(source + "\r\r", target + "\r\r") for source, target in pairs]  # the writer adds \n
    manifest = corpus.prepare(corpus.config(odd))
    assert manifest["held_out"] == {"valid": 4, "test": 4}
    held = [prepare.evaluation_set(corpus.data, split) for split in ("valid", "test")]
    assert all(len(sources) == 4 and all(line.endswith("\r") for line in sources) for sources, _ in held)
    assert manifest["pairs"] == 392
    given = corpus.prepare(corpus.config(odd, data={"valid": odd[:3], "test": odd[3:5], "drop": ["leaks"]}))
    assert given["dropped"]["leaks"]["pairs"] == 5


def test_half_a_character_in_json_is_a_broken_one(corpus: Corpus) -> None:
    rows = [json.dumps({"xx": source, "yy": target}) for source, target in distinct(100)]
    rows += ['{"xx": "a \\ud83d b", "yy": "cut"}', '{"xx": "whole \\ud83d\\ude00", "yy": "face"}']
    (corpus.folder / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    config = corpus.config(distinct(1), data=GIVEN)
    tree = config.model_dump(exclude_defaults=True, by_alias=True)
    tree["data"]["train"] = [{"jsonl": str(corpus.folder / "a.jsonl")}]
    manifest = corpus.prepare(Config.model_validate(tree))
    assert manifest["dropped"]["control"]["pairs"] == 1
    assert corpus.lines("train.source")[-1] == "whole 😀"


def test_a_local_data_set_that_is_gone_is_taken_to_be_as_it_was(corpus: Corpus) -> None:
    folder = corpus.folder / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"xx": "ban", "yy": "bar"}\n', encoding="utf-8")
    config = corpus.config(distinct(10), data={**GIVEN, "train": {"hub": str(folder), "split": "train"}})
    known = fingerprint(config)
    folder.rename(corpus.folder / "elsewhere")
    assert difference(known, fingerprint(config, known, may_miss=True)) == ""
    assert difference(known, fingerprint(config, known)) == "data.train"
