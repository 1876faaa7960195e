"""Word links: read from a file, kept with their pairs through cleaning, spread over pieces, and taught to attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import toy_pairs
from transformer_mt import config
from transformer_mt.config import Config, Training
from transformer_mt.data.batching import Batch, Batches, Bucket, SubwordSampling
from transformer_mt.data.fingerprint import difference, fingerprint
from transformer_mt.data.links import Links, encode_links, parse_links, word_starts
from transformer_mt.data.prepare import prepare
from transformer_mt.data.store import Pieces, Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import DataError
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.model.transformer import Transformer
from transformer_mt.special import EOS, PAD
from transformer_mt.training.gradient import Gradient

Line = list[tuple[int, int]]

# --- reading


def test_links_of_a_line() -> None:
    assert parse_links("0-0 2-1  1-1\t2-1", (3, 2), "f:1") == [(0, 0), (2, 1), (1, 1), (2, 1)]
    assert parse_links("", (3, 2), "f:1") == []


@pytest.mark.parametrize("item", ["0", "0-", "a-b", "0-1-2", "-1-0", "٣-0", "0-0,", "1-" + "9" * 5000])
def test_what_is_no_link_is_told_with_its_place(item: str) -> None:
    with pytest.raises(DataError, match=r"^f:7: '.*' is no link; expected numbers of words such as 0-2"):
        parse_links(f"0-0 {item}", (9, 9), "f:7")


@pytest.mark.parametrize("item", ["3-0", "0-2"])
def test_a_link_past_the_words_is_told_with_its_place(item: str) -> None:
    with pytest.raises(DataError, match=f"^f:7: {item} links words that are not there, of 3 and 2; count from 0"):
        parse_links(f"0-0 {item}", (3, 2), "f:7")


# --- from files to the store


class Corpus:
    """Files of text and links in a folder, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, lines: list[str]) -> str:
        path = self.folder / name
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return str(path)

    def source(self, name: str, pairs: list[tuple[str, str]], links: list[str] | None) -> dict[str, str]:
        source = {f: self.file(f"{name}.{f}", [pair[n] for pair in pairs]) for n, f in enumerate(("source", "target"))}
        return source if links is None else {**source, "alignment": self.file(f"{name}.align", links)}

    def config(self, *train: dict[str, str], **sections: Any) -> Config:
        tree = {
            "languages": {"source": "xx", "target": "yy"},
            "data": {"train": list(train)},
            "run_dir": str(self.folder),
        }
        return Config.model_validate({**tree, "tokenizer": {"vocab_size": 310}, **sections})

    def store(self, config: Config) -> Store:
        prepare(config, fingerprint(config), self.folder / "tokenizer", self.folder / "data")
        return Store(self.folder / "data")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def backwards(pair: tuple[str, str]) -> str:
    """The links of the toy language, whose order is the opposite one."""
    words = len(pair[0].split())
    return " ".join(f"{n}-{words - 1 - n}" for n in range(words))


def test_the_links_of_the_stored_pairs_are_theirs(corpus: Corpus) -> None:
    """Whatever was dropped, held out or without links before them."""
    pairs = toy_pairs(400, seed=3)
    mixed = [*pairs[:50], ("", "bar"), pairs[3], ("ma " * 300, "ma " * 300), *pairs[50:200]]  # empty, again, too long
    linked = corpus.source("a", mixed, [backwards(pair) for pair in mixed])
    store = corpus.store(corpus.config(corpus.source("b", pairs[200:300], None), linked))
    assert store.links is not None
    texts = list(zip(*(side.text(np.arange(len(store))) for side in (store.source, store.target)), strict=True))
    known = {pair: backwards(pair) for pair in pairs[:200]}
    assert sum(pair in known for pair in texts) > 190
    for row, pair in enumerate(texts):
        numbers = store.links[row]
        assert " ".join(f"{s}-{t}" for s, t in zip(numbers[::2], numbers[1::2], strict=True)) == known.get(pair, "")


def test_without_an_alignment_there_are_no_links(corpus: Corpus) -> None:
    store = corpus.store(corpus.config(corpus.source("a", toy_pairs(200), None)))
    assert store.links is None
    assert not [path for path in (corpus.folder / "data").iterdir() if "links" in path.name or "staged" in path.name]


@pytest.mark.parametrize(
    ("line", "links", "message"),
    [
        (3, "0-0 x", "data.train: {align}:4: 'x' is no link; "),
        (7, "0-99", "data.train: {align}:8: 0-99 links words that are not there, of "),
    ],
)
def test_wrong_links_are_told_with_file_and_line(corpus: Corpus, line: int, links: str, message: str) -> None:
    pairs = toy_pairs(200)
    lines = [backwards(pair) for pair in pairs]
    lines[line] = links
    source = corpus.source("a", pairs, lines)
    with pytest.raises(DataError) as caught:
        corpus.store(corpus.config(source))
    assert str(caught.value).startswith(message.format(align=source["alignment"]))


@pytest.mark.parametrize("count", [199, 201])
def test_a_file_of_another_number_of_lines_is_told(corpus: Corpus, count: int) -> None:
    source = corpus.source("a", toy_pairs(200), ["0-0"] * count)
    with pytest.raises(DataError, match=f"same number of lines: .*{source['alignment']} has {count};"):
        corpus.store(corpus.config(source))


def test_the_fingerprint_covers_the_links(corpus: Corpus) -> None:
    pairs = toy_pairs(10)
    given, without = (corpus.config(corpus.source("a", pairs, links)) for links in (["0-0"] * 10, None))
    before = fingerprint(given)
    assert difference(fingerprint(without), before) == "data.train"
    corpus.file("a.align", ["0-1"] * 10)
    assert difference(before, fingerprint(given)) == "data.train"
    corpus.file("a.align", ["0-0"] * 10)
    assert difference(before, fingerprint(given)) == ""


def test_a_pair_whose_pieces_are_other_words_has_no_links(corpus: Corpus) -> None:
    """As around a space that does not break, which parts words but, with this normalization, not pieces."""
    pairs = toy_pairs(200)
    corpus.store(corpus.config(corpus.source("a", pairs, None)))
    tokenizer = Tokenizer.load(corpus.folder / "tokenizer")
    sources, targets = ["mako bilu", "mako\u00a0bilu", "mako  bilu "], ["okamn ulibn"] * 3
    ids = [Pieces.of(tokenizer.encode_source(sources)), Pieces.of(tokenizer.encode_target(targets))]
    stored = encode_links(["0-1 1-0"] * 3, [sources, targets], ids, word_starts(tokenizer))
    assert [stored[row] for row in range(3)] == [[0, 1, 1, 0], [], [0, 1, 1, 0]]


# --- from links of words to those of pieces

# Ids 10 to 19 begin a word, 20 to 29 go on with it.
STARTS = np.isin(np.arange(30), range(10, 20))


def links_of(*pairs: Line) -> Links:
    return Links(Pieces.of([n for link in links for n in link] for links in pairs), (STARTS, STARTS))


def test_the_guide_by_hand() -> None:
    """Of the second row, source word 1 is two pieces; its target's first word, of two pieces, has two links."""
    source = Pieces.of([[10], [10, 11, 21, 12]])
    target = Pieces.of([[10, 11], [13, 23, 14, 15]])
    links = links_of([(0, 1)], [(1, 0), (2, 0), (1, 2), (1, 2)])
    bucket = Bucket(source, target, np.array([1, 0]), links)
    guide = bucket.collate().guide
    assert guide is not None
    third, half, none = [0, 1 / 3, 1 / 3, 1 / 3, 0], [0, 0.5, 0.5, 0, 0], [0.0] * 5
    wanted = [[third, third, none, half, none], [none, [1, 0, 0, 0, 0], none, none, none]]
    torch.testing.assert_close(guide, torch.tensor(wanted))
    part = bucket.part(1, 2).collate().guide
    assert part is not None
    assert part.tolist() == [[[0, 0], [1, 0], [0, 0]]]


def naive(links: Line, sides: Sequence[list[int]], shape: tuple[int, int]) -> list[list[float]]:
    """The guide of one pair, position by position."""

    source, target = sides

    def word(ids: list[int], position: int) -> int:
        return sum(bool(STARTS[i]) for i in ids[: position + 1]) - 1

    rows = []
    for t in range(shape[0]):
        row = [
            float(t < len(target) and s < len(source) and (word(source, s), word(target, t)) in links)
            for s in range(shape[1])
        ]
        rows.append([weight / max(sum(row), 1) for weight in row])
    return rows


side = st.lists(st.lists(st.just(20), max_size=2), min_size=1, max_size=4)
pair = st.tuples(side, side, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=5))


@given(st.lists(pair, min_size=1, max_size=4))
def test_the_guide_equals_a_naive_one(pairs: list[tuple[list[Any], list[Any], Line]]) -> None:
    texts = [[[i for rest in words for i in (10, *rest)] for words in sides[:2]] for sides in pairs]
    links = [[(s, t) for s, t in links if s < len(source) and t < len(target)] for source, target, links in pairs]
    source, target = (Pieces.of(column) for column in zip(*texts, strict=True))
    bucket = Bucket(source, target, np.arange(len(pairs))[::-1], links_of(*links))
    batch, (_, s, t) = bucket.collate(), bucket.shape
    assert batch.guide is not None
    wanted = [naive(line, text, (t, s)) for line, text in zip(links, texts, strict=True)]
    torch.testing.assert_close(batch.guide, torch.tensor(wanted[::-1]))


@pytest.mark.parametrize("sampled", [False, True])
def test_batches_of_a_store_have_guides_and_pieces_may_be_drawn(corpus: Corpus, sampled: bool) -> None:
    """Every word attends to the one at the other end, in whatever pieces: rows of real pieces sum to 1."""
    pairs = toy_pairs(200)
    store = corpus.store(corpus.config(corpus.source("a", pairs, [backwards(pair) for pair in pairs])))
    tokenizer = Tokenizer.load(corpus.folder / "tokenizer")
    starts = word_starts(tokenizer)
    assert store.links is not None
    batches = Batches(
        store, 400, 300, seed=1, visits=[(len(store), 1.5)], links=Links(store.links, starts),
        sampling=SubwordSampling(tokenizer, 0.2, 100) if sampled else None,
    )  # fmt: skip
    for bucket in (bucket for batch in batches.window(0, 0) for bucket in batch):
        batch = bucket.collate()
        assert batch.guide is not None
        real = (batch.target_out != PAD) & (batch.target_out != EOS)
        torch.testing.assert_close(batch.guide.sum(2), real.float())
        for guide, source, target in zip(batch.guide, batch.source, batch.target_out, strict=True):
            of_source, of_target = (starts[0][source].cumsum() - 1, starts[1][target].cumsum() - 1)
            for t, s in guide.nonzero().tolist():
                assert of_source[s] == of_source[-1] - of_target[t]
    batches.close()


def test_batches_without_links_have_no_guide() -> None:
    pieces = Pieces.of([[10, 11]])
    assert Bucket(pieces, pieces, np.array([0])).collate().guide is None


# --- learning


MODELS = [
    Transformer(config.Transformer(size="tiny", layers=4, width=24, heads=3, feed_forward=32, dropout=0.0), 30),
    Recurrent(config.Recurrent(width=16, dropout=0.0), 30),
]


@pytest.mark.parametrize("model", MODELS, ids=["transformer", "recurrent"])
def test_the_gradient_is_that_of_the_loss_and_the_weighted_guided_loss(model: EncoderDecoder) -> None:
    """Of the Transformer's four layers the third is taught, and of its heads the first."""
    pieces = [Pieces.of([[10], [11, 21, 12], [13, 22, 14]]), Pieces.of([[10, 11], [13, 23, 14, 15], [10]])]
    plain = Bucket(pieces[0], pieces[1], np.arange(3))
    guided = Bucket(pieces[0], pieces[1], np.arange(3), links_of([(0, 1)], [(1, 0), (0, 0), (1, 2)], []))
    batch: Batch = guided.collate()
    assert batch.guide is not None

    def gradient(bucket: Bucket, weight: float) -> list[torch.Tensor]:
        model.zero_grad()
        settings = Training(guided_alignment=weight)
        Gradient(model, settings, torch.amp.GradScaler("cpu", enabled=False), 1, None).add([bucket], 1, 7)
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]

    ours = [there - here for there, here in zip(gradient(guided, 0.3), gradient(plain, 0.3), strict=True)]
    model.zero_grad()
    attention = model(batch.source, batch.target_in, attention=True).attention
    seen = attention[2 if len(attention) == 4 else 0][:, 0]
    loss = -0.3 / 7 * sum(g * a.log() for g, a in zip(batch.guide.flatten(), seen.flatten(), strict=True) if g > 0)
    loss.backward()
    theirs = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert max(float(p.abs().max()) for p in theirs) > 1e-4
