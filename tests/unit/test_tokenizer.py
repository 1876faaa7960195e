"""Subwords: text comes back, control ids cannot be typed, impossible vocabularies are explained, damage is found."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt import config
from transformer_mt.data import tokenizer as module
from transformer_mt.data.tokenizer import Tokenizer, default_vocab_size, learn
from transformer_mt.errors import ArtefactError, ConfigError, DataError
from transformer_mt.special import BOS, EOS, PAD, UNK

Kind = Literal["unigram", "bpe"]
KINDS = get_args(Kind)
VOCABULARY = 320


def sentences(syllables: list[str], seed: int) -> list[str]:
    """Sentences of 80 words that are made of syllables."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(80)]
    return [" ".join(draw.choices(words, k=draw.randint(3, 9))) + "." for _ in range(300)]


GERMAN = sentences(["der", "Hund", "schlä", "im", "Gar", "ten", "und", "die", "Kat", "ze", "grüßt", "ihn"], 1)
ENGLISH = sentences(["the", "dog", "slee", "ps", "in", "gar", "den", "and", "cat", "gre", "ets", "him"], 2)


def learned(
    kind: Kind = "unigram",
    *,
    joint: bool = True,
    size: int | None = VOCABULARY,
    normalization: Literal["identity", "nmt_nfkc"] = "identity",
    source: list[str] = GERMAN,
    target: list[str] = ENGLISH,
    seed: int = 1,
) -> Tokenizer:
    settings = config.Tokenizer(kind=kind, vocab_size=size, joint=joint, normalization=normalization)
    return learn(lambda: iter(source), lambda: iter(target), len(source), settings, seed)


@functools.cache
def plain() -> Tokenizer:
    """A joint unigram model."""
    return learned()


ALL = list(itertools.product(KINDS, (True, False)))


@pytest.fixture(scope="module", params=ALL, ids=str)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind, joint = request.param
    return learned(kind, joint=joint)


def test_text_comes_back(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode_target(ids) for ids in tokenizer.encode_target(ENGLISH)] == ENGLISH


def test_sizes_are_what_was_asked_for(tokenizer: Tokenizer) -> None:
    assert (tokenizer.source_size, tokenizer.target_size) == (VOCABULARY, VOCABULARY)


def test_characters_never_seen_are_written_in_bytes(tokenizer: Tokenizer) -> None:
    """With byte fallback no character is unknown; a fox is four bytes."""
    for text in ("🦊", "漢字 und dog", "Ωmega ﬁ é e\u0301"):
        [ids] = tokenizer.encode_target([text])
        assert UNK not in ids
        assert tokenizer.decode_target(ids) == text
    [ids] = tokenizer.encode_source(["🦊"])
    assert UNK not in ids
    assert len(ids) in (4, 5)  # the bytes, perhaps after the mark of a word


@pytest.mark.parametrize("text", ["</s>", "<s>", "<pad>", "<unk>", "dog </s> cat<s>", "<0x41>", "\u2581</s>"])
def test_control_tokens_cannot_be_typed(tokenizer: Tokenizer, text: str) -> None:
    for encode in (tokenizer.encode_source, tokenizer.encode_target):
        [ids] = encode([text])
        assert not {PAD, UNK, BOS, EOS} & set(ids)
    [ids] = tokenizer.encode_target([text])
    assert tokenizer.decode_target(ids) == text.replace("\u2581", "")


def test_special_ids_are_0_to_3(tokenizer: Tokenizer) -> None:
    for side in (tokenizer.source, tokenizer.target):
        assert [side.pad_id(), side.unk_id(), side.bos_id(), side.eos_id()] == [0, 1, 2, 3]
        assert all(side.is_control(i) for i in (PAD, BOS, EOS))


def test_control_ids_are_left_out_of_text(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode_target(["the dog"])
    assert tokenizer.decode_target([BOS, *ids, EOS, PAD, PAD]) == "the dog"


@given(ids=st.lists(st.integers(0, VOCABULARY - 1), max_size=12))
def test_whatever_a_model_writes_is_one_line(tokenizer: Tokenizer, ids: list[int]) -> None:
    text = tokenizer.decode_target(ids)
    assert not set("\n\r\0") & set(text)
    text.encode()  # no lone surrogates either


def test_an_empty_line_has_no_pieces(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_source(["", "  "]) == [[], []]
    assert tokenizer.decode_target([]) == ""


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\u2581"), max_size=20))
def test_text_of_any_script_comes_back_but_for_spaces(text: str) -> None:
    [ids] = plain().encode_target([text])
    assert plain().decode_target(ids).split(" ") == re.sub(" +", " ", text.strip(" ")).split(" ")


@pytest.mark.parametrize(("normalization", "expected"), [("identity", "ﬁ①Ａ"), ("nmt_nfkc", "fi1A")])
def test_only_nmt_nfkc_changes_characters(normalization: Literal["identity", "nmt_nfkc"], expected: str) -> None:
    tokenizer = learned(normalization=normalization)
    [ids] = tokenizer.encode_target(["ﬁ①Ａ"])
    assert tokenizer.decode_target(ids) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_joint_is_one_model_and_separate_are_two(kind: Kind) -> None:
    joint, separate = learned(kind), learned(kind, joint=False)
    assert joint.joint
    assert not separate.joint
    assert joint.encode_source(["Hund"]) == joint.encode_target(["Hund"])
    assert len(separate.encode_source(["schläft"])[0]) < len(separate.encode_target(["schläft"])[0])


@pytest.mark.parametrize(("kind", "joint"), ALL)
def test_learning_again_gives_the_same_model(kind: Kind, joint: bool) -> None:
    assert learned(kind, joint=joint).models == learned(kind, joint=joint).models


@pytest.mark.parametrize(("kind", "joint"), ALL)
def test_a_vocabulary_too_large_names_a_maximum_that_works(kind: Kind, joint: bool) -> None:
    with pytest.raises(DataError) as caught:
        learned(kind, joint=joint, size=30_000)
    assert caught.value.code == 3
    maximum = re.search(r"tokenizer\.vocab_size: 30000 .*: the maximum is (\d+)$", str(caught.value))
    assert maximum is not None, str(caught.value)
    learned(kind, joint=joint, size=int(maximum[1]))
    with pytest.raises(DataError):
        learned(kind, joint=joint, size=int(maximum[1]) + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_names_a_minimum_that_works(kind: Kind) -> None:
    with pytest.raises(ConfigError) as caught:
        learned(kind, size=100)
    assert caught.value.code == 2
    minimum = re.search(r"tokenizer\.vocab_size: 100 is too small for this text; set (\d+) or more$", str(caught.value))
    assert minimum is not None, str(caught.value)
    learned(kind, size=int(minimum[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_that_was_not_asked_for_is_made_to_fit(kind: Kind) -> None:
    size = learned(kind, size=None).source_size
    assert 256 + 4 < size < 4000


@pytest.mark.parametrize("joint", [True, False])
def test_text_without_letters_is_at_fault(joint: bool) -> None:
    with pytest.raises(DataError):
        learned(joint=joint, source=["", " "], target=["", ""])


@pytest.mark.parametrize(
    ("pairs", "size"),
    [(1, 4000), (19_999, 4000), (20_000, 8000), (499_999, 8000), (500_000, 16_000), (2_000_000, 32_000)],
)
def test_the_default_size_grows_with_the_corpus(pairs: int, size: int) -> None:
    assert default_vocab_size(pairs) == size


# --- files


def test_what_is_saved_loads(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    names = ["joint.model"] if tokenizer.joint else ["source.model", "target.model"]
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == names
    loaded = Tokenizer.load(tmp_path / "new/folder")
    assert loaded.joint == tokenizer.joint
    assert loaded.encode_source(GERMAN[:9]) == tokenizer.encode_source(GERMAN[:9])
    assert loaded.encode_target(ENGLISH[:9]) == tokenizer.encode_target(ENGLISH[:9])


def damaged_contents(model: bytes) -> Iterator[bytes]:
    yield b""
    yield b"not a model\n"
    yield bytes(100)
    yield model[: len(model) // 2]
    yield model[1:]
    yield bytes(255 - byte for byte in model)


@pytest.mark.parametrize("number", range(6), ids=["empty", "text", "zeros", "half", "shifted", "inverted"])
def test_a_damaged_model_is_refused_by_the_name_of_its_folder(number: int, tmp_path: Path) -> None:
    plain().save(tmp_path)
    file = tmp_path / "joint.model"
    file.write_bytes(list(damaged_contents(file.read_bytes()))[number])
    with pytest.raises(ArtefactError) as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    """SentencePiece's own defaults, 0 unknown, 1 begin, 2 end, would read as padding, unknown and begin."""
    import sentencepiece

    prefix = tmp_path / "joint"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(GERMAN), model_prefix=str(prefix), vocab_size=50, minloglevel=2
    )
    with pytest.raises(ArtefactError):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("present", [[], ["source.model"], ["target.model"]], ids=str)
def test_a_folder_without_all_models_has_no_tokenizer(present: list[str], tmp_path: Path) -> None:
    for name in present:
        (tmp_path / name).write_bytes(plain().models[0])
    assert Tokenizer.files(tmp_path) == []
    with pytest.raises(ArtefactError, match="no tokenizer here"):
        Tokenizer.load(tmp_path)


def test_of_a_large_text_every_nth_line_of_both_sides_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = plain().models[0], list[list[str]]()

    def note(lesson: Any) -> bytes:
        seen.append(list(lesson.lines()))
        return model

    monkeypatch.setattr(module, "_SAMPLE", 10)
    monkeypatch.setattr(module, "_learn_one", note)
    sides = [[f"{side} {number}" for number in range(20)] for side in "st"]
    for joint in (True, False):
        learn(lambda: iter(sides[0]), lambda: iter(sides[1]), 20, config.Tokenizer(joint=joint), 1)
    both, *apart = seen
    assert both == [*sides[0][::4], *sides[1][::4]]
    assert apart == [sides[0][::2], sides[1][::2]]


def test_a_tokenizer_learnt_in_a_process_of_its_own_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is wrong comes back as it is."""
    lines = [f"{word} {number % 7}" for number, word in enumerate(GERMAN * 30)]
    sides = (lambda: iter(lines), lambda: iter(lines), len(lines))
    here = learn(*sides, config.Tokenizer(vocab_size=300), 1)
    monkeypatch.setattr(module, "_LONG", 0)
    assert learn(*sides, config.Tokenizer(vocab_size=300), 1).models == here.models
    with pytest.raises(DataError, match="the maximum is"):
        learn(*sides, config.Tokenizer(vocab_size=5_000), 1)


# --- sampling


def test_sampled_pieces_are_the_same_text_and_the_seed_decides_which(tokenizer: Tokenizer) -> None:
    first, again, other = (tokenizer.sample_target(ENGLISH, 0.2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert [tokenizer.decode_target(ids) for ids in first] == ENGLISH
    assert tokenizer.sample_source(GERMAN, 0.2, 1) != tokenizer.encode_source(GERMAN)


def test_bpe_without_dropout_and_a_sharp_unigram_are_the_plain_encoding(tokenizer: Tokenizer) -> None:
    """The limits of alpha: no merge left out; the likeliest segmentation alone, but for ties."""
    bpe, unigram = learned("bpe"), plain()
    assert bpe.sample_target(ENGLISH, 0.0, 1) == bpe.encode_target(ENGLISH)
    sharp = zip(unigram.sample_target(ENGLISH, 50.0, 1), unigram.encode_target(ENGLISH), strict=True)
    assert sum(left == right for left, right in sharp) > 0.95 * len(ENGLISH)


@pytest.mark.parametrize(("kind", "alphas"), [("bpe", (0.05, 0.3)), ("unigram", (0.2, 0.05))])
def test_more_chance_gives_more_pieces(kind: Kind, alphas: tuple[float, float]) -> None:
    """For BPE alpha is the share of merges left out, for unigram a sharpness: they point in opposite ways."""
    model = learned(kind)
    sizes = [
        sum(map(len, ids))
        for ids in (model.encode_target(ENGLISH), *(model.sample_target(ENGLISH, alpha, 1) for alpha in alphas))
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_control_tokens_cannot_be_sampled_from_text(tokenizer: Tokenizer) -> None:
    lines = ["</s> <s> <pad> <unk> 🦊"] * 20
    for ids in tokenizer.sample_target(lines, 0.3, 1):
        assert not {PAD, UNK, BOS, EOS} & set(ids)


def test_threads_do_not_disturb_each_other(tokenizer: Tokenizer) -> None:
    """What is kept of segments is shared; another thread must not change what a seed gives."""
    expected = {seed: tokenizer.sample_target(ENGLISH, 0.2, seed) for seed in range(12)}
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda seed: tokenizer.sample_target(ENGLISH, 0.2, seed), range(12)))
    assert drawn == list(expected.values())


def test_hashes_and_pieces_describe_the_models(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    files = Tokenizer.files(tmp_path)
    assert tokenizer.hashes == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    pieces = tokenizer.pieces("target")
    assert len(set(pieces)) == len(pieces) == VOCABULARY
    assert (pieces[PAD], pieces[EOS]) == ("<pad>", "</s>")
    [ids] = tokenizer.encode_target([ENGLISH[0]])
    assert "".join(pieces[i] for i in ids).replace("▁", " ").strip() == ENGLISH[0]
