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
from transformer_mt.data.batching import Batches, Bucket, Position, SubwordSampling
from transformer_mt.data.store import BLOCK, SIDES, Array, Pieces, Store, StoreWriter
from transformer_mt.errors import ArtefactError, ConfigError
from transformer_mt.special import BOS, EOS, PAD

Rows = list[list[list[int]]]  # batches of buckets of row numbers


def store_of(folder: Path, lengths: Sequence[tuple[int, int]]) -> Store:
    """A store of pairs with so many pieces on either side; the ids do not matter here."""
    folder.mkdir(exist_ok=True)
    with StoreWriter(folder, dict.fromkeys(SIDES, 100)) as writer:
        ids = [[number] * length for pair in lengths for number, length in zip((7, 8), pair, strict=True)]
        writer.add([Pieces.of(ids[0::2]), Pieces.of(ids[1::2])], [Pieces.lines(b"\n" * len(lengths))] * 2)
    return Store(folder)


def walk(batches: Batches, start: Position = Position()) -> Iterator[tuple[list[list[int]], Position]]:  # noqa: B008
    for buckets, after in batches.walk(start):
        yield [bucket.rows.tolist() for bucket in buckets], after


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
    return [[bucket.rows.tolist() for bucket in batch] for batch in batches.window(epoch, 0)]


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
        source, target = Pieces.of([[11, 12, 13], [14], [15, 16]]), Pieces.of([[21], [22, 23], [24, 25, 26]])
        writer.add([source, target], [Pieces.lines(b"\n\n\n")] * 2)
    store = Store(tmp_path)
    bucket = Bucket(store.source, store.target, np.array([2, 0, 1]))
    assert (bucket.shape, bucket.tokens) == ((3, 4, 4), 9)
    batch = bucket.collate()
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


def test_the_buckets_of_a_batch_cost_about_the_same(like_multi30k: Store) -> None:
    """Of two, one is 1 % cheaper in the middle; of two at random it is 5 %."""
    batches = Batches(like_multi30k, batch_tokens=4096, device_tokens=4096, seed=1)
    pairs = [[bucket.positions for bucket in batch] for batch in batches.window(0, 0) if len(batch) == 2]
    assert len(pairs) > 50
    assert np.median([1 - min(pair) / max(pair) for pair in pairs]) < 0.02
    costs = np.random.default_rng(1).permutation(list(itertools.chain.from_iterable(pairs))).reshape(-1, 2)
    assert np.median(1 - costs.min(1) / costs.max(1)) > 0.04


# --- weights of corpora


def test_weights_of_one_change_nothing(several_windows: Store) -> None:
    plain, weighted = (
        Batches(several_windows, 3000, 2000, seed=1, visits=visits)
        for visits in ((), [(1000, 1.0), (len(several_windows) - 1000, 1.0)])
    )
    assert list(itertools.islice(walk(weighted), 150)) == list(itertools.islice(walk(plain), 150))


def test_whole_weights_repeat_and_fractions_are_left_to_chance(several_windows: Store) -> None:
    """Of the first 1,000 pairs half are visited, the next 2,000 two or three times, the rest once."""
    total = len(several_windows)
    batches = Batches(several_windows, 3000, 2000, seed=1, visits=[(1000, 0.5), (2000, 2.25), (total - 3000, 1.0)])
    counts = [np.bincount(flat(rows_of(batches, epoch)), minlength=total) for epoch in (0, 1)]
    for count in counts:
        assert set(count[:1000].tolist()) == {0, 1}
        assert set(count[1000:3000].tolist()) == {2, 3}
        assert set(count[3000:].tolist()) == {1}
        assert abs(count[:1000].mean() - 0.5) < 0.05
        assert abs(count[1000:3000].mean() - 2.25) < 0.03
    both = (counts[0][:1000] & counts[1][:1000]).mean()
    assert abs(both - 0.25) < 0.05  # another half each epoch


def test_a_weighted_walk_from_the_middle_is_the_tail_of_the_whole(several_windows: Store) -> None:
    def batches() -> Batches:
        return Batches(several_windows, 3000, 2000, seed=1, visits=[(2000, 0.3), (len(several_windows) - 2000, 1.5)])

    whole = list(itertools.islice(walk(batches()), 120))
    for start in range(0, len(whole) - 1, 7):
        assert list(itertools.islice(walk(batches(), whole[start][1]), 3)) == whole[start + 1 : start + 4]


def test_windows_that_weights_leave_empty_are_passed_over(several_windows: Store) -> None:
    """Two pairs an epoch in three windows: positions name windows that have batches, and epochs end."""
    total = len(several_windows)
    batches = Batches(several_windows, 3000, 2000, seed=1, visits=[(total, 2 / total)])
    position, visited, windows = Position(), 0, set()
    for buckets, after in walk(batches):
        visited += len(flat([buckets]))
        assert (after.epoch, after.window, after.batch) > (position.epoch, position.window, position.batch)
        assert batches.window(after.epoch, after.window)[after.batch :]
        windows.add(after.window)
        position = after
        if after.epoch >= 60:
            break
    assert windows == {0, 1, 2}
    assert 80 < visited < 160


def test_an_epoch_that_is_always_empty_is_refused_and_not_looked_for_without_end(several_windows: Store) -> None:
    batches = Batches(several_windows, 3000, 2000, seed=1, visits=[(len(several_windows), 0.5)])
    batches._weights = np.zeros(1)
    with pytest.raises(ConfigError, match=r"data\.train: the weights have left 100 epochs empty; choose others"):
        next(batches.walk(Position()))


def test_weights_of_another_store_or_of_nothing_are_refused(several_windows: Store) -> None:
    with pytest.raises(ArtefactError, match="damaged"):
        Batches(several_windows, 3000, 2000, seed=1, visits=[(7, 0.5)])
    with pytest.raises(ConfigError, match=r"data\.train: the weights leave less than one pair"):
        Batches(several_windows, 3000, 2000, seed=1, visits=[(len(several_windows), 1e-5)])


# --- how many there are


def test_a_small_last_window_does_not_count_as_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three blocks in windows of two."""
    monkeypatch.setattr(batching, "WINDOW", 2)
    batches = Batches(store_of(tmp_path / "s", [(5, 7)] * (3 * BLOCK)), 256, 256, seed=1)
    assert batches.steps_per_epoch == round(1.5 * len(batches.window(0, 0)))
    assert abs(batches.steps_per_epoch - len(rows_of(batches))) <= 2
    assert batches.steps_before(Position()) == 0
    assert batches.steps_before(Position(3, 1, 7)) == round((3 + 2 / 3) * batches.steps_per_epoch) + 7


def test_steps_of_an_epoch_of_one_window_are_exact(tmp_path: Path) -> None:
    batches = Batches(store_of(tmp_path / "s", [(5, 7)] * 90), 32, 32, seed=1)
    assert batches.steps_per_epoch == len(rows_of(batches)) == 23  # 4 pairs of 8 tokens; the first is a smaller one


# --- subword sampling


class Cutter:
    """A tokenizer whose every letter is a piece, or two of it, by chance."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def sample_source(self, lines: list[str], alpha: float, seed: int) -> list[list[int]]:
        draw = np.random.default_rng(seed)
        self.seeds.append(seed)
        return [[10 + int(draw.random() < alpha)] * (len(line) + int(draw.integers(3))) for line in lines]

    sample_target = sample_source


@pytest.fixture
def sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two windows of one block, with text as long as its ids are many."""
    monkeypatch.setattr(batching, "WINDOW", 1)
    draw = np.random.default_rng(0)
    with StoreWriter(tmp_path, dict.fromkeys(SIDES, 100)) as writer:
        lengths = draw.integers(1, 20, (2, BLOCK + 50)).tolist()
        lines = ["".join(letter * n + "\n" for n in side) for letter, side in zip("st", lengths, strict=True)]
        ids = [Pieces.of([number] * n for n in side) for number, side in zip((7, 8), lengths, strict=True)]
        writer.add(ids, [Pieces.lines(side.encode()) for side in lines])
    return Store(tmp_path)


def sampling(longest: int = 100) -> SubwordSampling:
    return SubwordSampling(Cutter(), 0.5, longest)  # type: ignore[arg-type]


def pieces_of(batches: Batches, epoch: int) -> list[tuple[list[int], list[int]]]:
    """The pairs of an epoch's two windows, in pieces, in the order of training."""
    buckets = [bucket for window in (0, 1) for batch in batches.window(epoch, window) for bucket in batch]
    return [(bucket.source[row], bucket.target[row]) for bucket in buckets for row in bucket.rows.tolist()]


def test_every_visit_draws_anew_and_the_position_decides_what(sampled: Store) -> None:
    first, again = (Batches(sampled, 300, 200, seed=1, sampling=sampling()) for _ in range(2))
    epochs = [pieces_of(first, epoch) for epoch in (0, 1)]
    assert len(epochs[0]) == len(epochs[1]) == len(sampled)
    assert sorted(epochs[0]) != sorted(epochs[1])
    assert pieces_of(again, 1) == epochs[1]  # without epoch 0 before it
    assert {piece for pair in epochs[0] for ids in pair for piece in ids} == {10, 11}


def test_bounds_hold_for_the_pieces_drawn(sampled: Store) -> None:
    batches = Batches(sampled, 300, 200, seed=1, sampling=sampling())
    for buckets in itertools.chain(batches.window(0, 0), batches.window(0, 1)):
        assert sum(bucket.tokens for bucket in buckets) <= 300
        for bucket in buckets:
            batch = bucket.collate()
            assert tuple(batch.source.shape) + tuple(batch.target_out.shape[1:]) == bucket.shape
            assert int((batch.target_out != PAD).sum()) == bucket.tokens
            assert max(batch.source.numel(), batch.target_out.numel()) <= 200


def test_a_side_of_too_many_pieces_keeps_the_stored_ones(sampled: Store) -> None:
    for pair in pieces_of(Batches(sampled, 300, 200, seed=1, sampling=sampling(longest=10)), 0):
        for ids, stored in zip(pair, (7, 8), strict=True):
            assert len(ids) <= 10 or set(ids) == {stored}
            assert len(ids) > 10 or set(ids) <= {10, 11, stored}


def test_a_pair_visited_twice_is_drawn_twice(sampled: Store) -> None:
    batches = Batches(sampled, 300, 200, seed=1, sampling=sampling(), visits=[(len(sampled), 3.0)])
    assert len(pieces_of(batches, 0)) == 3 * len(sampled)
    assert len(set(map(str, pieces_of(batches, 0)))) > 1.5 * len(
        set(map(str, pieces_of(Batches(sampled, 300, 200, seed=1), 0)))
    )


def test_damaged_text_ends_training_and_not_silently_in_a_thread(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "train.source.txt"
    path.write_bytes(path.read_bytes()[:-2] + b"x\n")
    batches = Batches(Store(tmp_path), 300, 200, seed=1, sampling=sampling())
    with pytest.raises(ArtefactError, match="text of the token store"):
        pieces_of(batches, 0)


def test_the_copies_of_a_weighted_pair_are_hardly_ever_in_one_batch(like_multi30k: Store) -> None:
    """Four visits are four steps: together, as neighbours in a bucket, they would be one of four times the gradient."""
    batches = Batches(like_multi30k, 4096, 4096, seed=1, visits=[(len(like_multi30k), 4.0)])
    shares = []
    for batch in batches.window(0, 0):
        rows = np.concatenate([bucket.rows for bucket in batch])
        shares.append(len(np.unique(rows)) / len(rows))
    assert np.mean(shares) > 0.95
