"""Batches: every pair once an epoch, within the bounds, the same from wherever one starts, and with little padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.data import batching
from transformer_mt.data.batching import Batches, Position
from transformer_mt.data.store import BLOCK, SIDES, Array, Store, StoreWriter
from transformer_mt.errors import ArtefactError
from transformer_mt.special import BOS, EOS, PAD

Rows = list[list[list[int]]]  # batches of buckets of row numbers


def store_of(folder: Path, lengths: Sequence[tuple[int, int]]) -> Store:
    """A store of pairs with so many pieces on either side; the ids do not matter here."""
    folder.mkdir(exist_ok=True)
    with StoreWriter(folder, dict.fromkeys(SIDES, 100)) as writer:
        for source, target in lengths:
            writer.add(("", ""), ([7] * source, [8] * target))
    return Store(folder)


def walk(batches: Batches, start: Position = Position()) -> Iterator[tuple[list[list[int]], Position]]:  # noqa: B008
    for buckets, after in batches.walk(start):
        yield [bucket.tolist() for bucket in buckets], after


def epoch_of(batches: Batches, epoch: int = 0) -> list[tuple[list[list[int]], Position]]:
    """The batches of an epoch, each with the position after it."""
    taken = []
    for item in walk(batches, Position(epoch)):
        taken.append(item)
        if item[1].epoch != epoch:
            assert item[1] == Position(epoch + 1, 0, 0)
            return taken
    raise AssertionError


def rows_of(batches: Batches, epoch: int = 0) -> Rows:
    return [buckets for buckets, _ in epoch_of(batches, epoch)]


def flat(rows: Rows) -> list[int]:
    return list(itertools.chain.from_iterable(itertools.chain.from_iterable(rows)))


@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60),
    batch_tokens=st.integers(1, 120),
    device_tokens=st.integers(1, 120),
    seed=st.integers(0, 3),
)
def test_every_pair_once_an_epoch_within_the_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[tuple[int, int]],
    batch_tokens: int,
    device_tokens: int,
    seed: int,
) -> None:
    store = store_of(tmp_path_factory.getbasetemp() / "bounds", lengths)
    rows = rows_of(Batches(store, batch_tokens, device_tokens, seed))
    assert sorted(flat(rows)) == list(range(len(lengths)))
    for buckets in rows:
        target_tokens = sum(lengths[row][1] + 1 for bucket in buckets for row in bucket)
        assert target_tokens <= batch_tokens or len(buckets) == len(buckets[0]) == 1
        for bucket in buckets:
            for side in (0, 1):
                padded = len(bucket) * max(lengths[row][side] + 1 for row in bucket)
                assert padded <= device_tokens or len(bucket) == 1


@pytest.fixture
def several_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Five blocks, the last of them short, in windows of two."""
    monkeypatch.setattr(batching, "WINDOW", 2)
    draw = np.random.default_rng(0)
    count = 4 * BLOCK + 37
    return store_of(tmp_path / "s", list(zip(draw.integers(1, 40, count), draw.integers(1, 40, count), strict=True)))


def test_an_epoch_of_several_windows_has_every_pair_once(several_windows: Store) -> None:
    batches = Batches(several_windows, 3000, 2000, seed=1)
    assert batches.windows == 3
    taken = epoch_of(batches)
    assert sorted(flat([buckets for buckets, _ in taken])) == list(range(len(several_windows)))
    assert {after.window for _, after in taken} == {0, 1, 2}


def test_walking_from_the_middle_is_the_tail_of_the_whole_walk(several_windows: Store) -> None:
    whole = list(itertools.islice(walk(Batches(several_windows, 3000, 2000, seed=1)), 120))
    assert whole[-1][1].epoch >= 1
    for start in range(0, len(whole) - 1, 7):
        fresh = walk(Batches(several_windows, 3000, 2000, seed=1), whole[start][1])
        assert list(itertools.islice(fresh, 3)) == whole[start + 1 : start + 4]


def test_positions_count_up_and_wrap_at_window_and_epoch(several_windows: Store) -> None:
    position = Position()
    for _, after in epoch_of(Batches(several_windows, 3000, 2000, seed=1)):
        assert after in (
            Position(0, position.window, position.batch + 1),
            Position(0, position.window + 1, 0),
            Position(1, 0, 0),
        )
        position = after


@pytest.mark.parametrize(("seed", "epoch"), [(1, 1), (2, 0)], ids=["another epoch", "another seed"])
def test_another_epoch_or_seed_has_another_order_and_other_batches(
    several_windows: Store, seed: int, epoch: int
) -> None:
    first = rows_of(Batches(several_windows, 3000, 2000, seed=1))
    other = rows_of(Batches(several_windows, 3000, 2000, seed=seed), epoch)
    assert flat(first) != flat(other)
    together = {frozenset(bucket) for buckets in first for bucket in buckets}
    assert len(together & {frozenset(bucket) for buckets in other for bucket in buckets}) < len(together) / 2


def test_batches_are_in_no_order_of_length(several_windows: Store) -> None:
    """A curriculum that comes with the sorting would hurt: neighbours must be unrelated."""
    rows = rows_of(Batches(several_windows, 1000, 1000, seed=1))
    means = np.array([several_windows.target.lengths(np.array(flat([batch]))).mean() for batch in rows])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


def batches_of(batches: Batches, epoch: int) -> Rows:
    """The batches of an epoch's first window."""
    return [[bucket.tolist() for bucket in batch] for batch in batches.window(epoch, 0)]


def test_blocks_of_a_window_come_from_all_over_the_corpus(several_windows: Store) -> None:
    batches = Batches(several_windows, 3000, 2000, seed=1)
    firsts = {tuple(sorted({row // BLOCK for row in flat(batches_of(batches, epoch))})) for epoch in range(8)}
    assert len(firsts) > 2


def test_only_what_is_used_is_verified(several_windows: Store, tmp_path: Path) -> None:
    """A damaged block is found in the window that uses it, before anything of it is trained on."""
    batches = Batches(several_windows, 3000, 2000, seed=1)
    used = {row // BLOCK for row in flat(batches_of(batches, 0))}
    damaged = min(set(range(4)) - used)
    path = tmp_path / "s" / "train.target.ids.npy"
    store = Store(tmp_path / "s")
    content = bytearray(path.read_bytes())
    content[128 + 2 * int(store.target.offsets[damaged * BLOCK])] ^= 1
    path.write_bytes(content)
    fresh = Batches(Store(tmp_path / "s"), 3000, 2000, seed=1)
    fresh.window(0, 0)
    with pytest.raises(ArtefactError):
        list(itertools.chain(fresh.window(0, 1), fresh.window(0, 2)))


def test_collate_by_hand(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, dict.fromkeys(SIDES, 100)) as writer:
        writer.add(("", ""), ([11, 12, 13], [21]))
        writer.add(("", ""), ([14], [22, 23]))
        writer.add(("", ""), ([15, 16], [24, 25, 26]))
    batch = Batches(Store(tmp_path), 100, 100, seed=1).collate(np.array([2, 0, 1]))
    assert batch.source.tolist() == [
        [15, 16, EOS, PAD],
        [11, 12, 13, EOS],
        [14, EOS, PAD, PAD],
    ]
    assert batch.target_in.tolist() == [
        [BOS, 24, 25, 26],
        [BOS, 21, PAD, PAD],
        [BOS, 22, 23, PAD],
    ]
    assert batch.target_out.tolist() == [
        [24, 25, 26, EOS],
        [21, EOS, PAD, PAD],
        [22, 23, EOS, PAD],
    ]
    for tensor in (batch.source, batch.target_in, batch.target_out):
        assert tensor.dtype == torch.int64
        assert tensor.is_contiguous()


def padding(store: Store, batches: Batches) -> float:
    """The share of the padded positions of both sides, in an epoch, that is padding."""
    real = padded = 0
    for bucket in itertools.chain.from_iterable(rows_of(batches)):
        rows: Array = np.array(bucket)
        for side in (store.source, store.target):
            lengths = side.lengths(rows) + 1
            real += int(lengths.sum())
            padded += int(lengths.max()) * len(lengths)
    return 1 - real / padded


@pytest.fixture(scope="module")
def like_multi30k(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """29,000 pairs of 16 pieces in the mean; the sides differ by a tenth or so."""
    draw = np.random.default_rng(30)
    source = np.clip(np.rint(draw.lognormal(np.log(15), 0.33, 29_000)), 3, 60).astype(int)
    target = np.clip(np.rint(source * draw.normal(1, 0.12, 29_000) + draw.normal(0, 1, 29_000)), 3, 60).astype(int)
    assert 15.5 < target.mean() < 16.5
    pairs = list(zip(source.tolist(), target.tolist(), strict=True))
    return store_of(tmp_path_factory.mktemp("multi30k"), pairs)


@pytest.mark.parametrize("device_tokens", [2048, 8192])
def test_at_most_a_twentieth_is_padding(like_multi30k: Store, device_tokens: int) -> None:
    batches = Batches(like_multi30k, batch_tokens=4096, device_tokens=device_tokens, seed=1)
    assert padding(like_multi30k, batches) <= 0.05


def test_batches_are_nearly_full(like_multi30k: Store) -> None:
    tokens = int(like_multi30k.target.offsets[-1]) + len(like_multi30k)
    rows = rows_of(Batches(like_multi30k, batch_tokens=4096, device_tokens=8192, seed=1))
    assert tokens / (len(rows) * 4096) > 0.95
