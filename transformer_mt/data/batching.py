"""The order of training pairs, and batches of them.

An epoch is a seeded walk over blocks of pairs. Some blocks make a window; inside a window pairs are shuffled, sorted
by length into *buckets* of little padding (a bucket is what a device holds at once, a micro-batch), and buckets are
shuffled and gathered to *batches* (an update of the weights each), those of about the same cost together. Memory and
start-up do not grow with the corpus, and what comes at a position is a pure function of the position and the seed.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
from threading import Event

import numpy as np
import torch
from torch import Tensor

from transformer_mt.data.links import Links
from transformer_mt.data.store import BLOCK, Array, Pieces, Side, Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import ArtefactError, ConfigError
from transformer_mt.special import BOS, EOS, PAD

WINDOW = 64  # blocks: 65,536 pairs
_ALIKE = 16  # buckets that are sorted by cost together
_EMPTY = 100  # epochs: where one pair an epoch is expected, chance leaves so many empty once in e^100 times

_Sample = Callable[[Sequence[str], float, int], list[list[int]]]  # lines, alpha, seed → pieces


@dataclass(frozen=True)
class Position:
    """The next batch to train on."""

    epoch: int = 0
    window: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """A micro-batch, padded.

    ``source`` [B, S] ends with an end token, ``target_in`` [B, T] starts with a begin token, ``target_out`` [B, T] ends
    with an end token; all are int64. ``guide`` [B, T, S] is what each position should attend to: see ``Links.guide``.
    """

    source: Tensor
    target_in: Tensor
    target_out: Tensor
    guide: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        source, target_in, target_out = (
            t.to(device, non_blocking=True) for t in (self.source, self.target_in, self.target_out)
        )
        guide = None if self.guide is None else self.guide.to(device, non_blocking=True)
        return Batch(source, target_in, target_out, guide)


@dataclass(frozen=True)
class Bucket:
    """Pairs that a device holds at once: the numbers ``rows`` of ``source``, ``target`` and, if any, ``links``."""

    source: Pieces
    target: Pieces
    rows: Array
    links: Links | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, S and T of the batch, end tokens counted."""
        source, target = (int(side.lengths(self.rows).max()) + 1 for side in (self.source, self.target))
        return len(self.rows), source, target

    @property
    def tokens(self) -> int:
        """Real target tokens, end tokens counted."""
        return int(self.target.lengths(self.rows).sum()) + len(self.rows)

    @property
    def positions(self) -> int:
        """Padded positions of both sides: what it costs."""
        sentences, source, target = self.shape
        return sentences * (source + target)

    def part(self, number: int, count: int) -> "Bucket":
        """Every ``count``-th of its pairs from ``number`` on; there may be none."""
        return replace(self, rows=self.rows[number::count])

    def collate(self) -> Batch:
        """Pad the pairs to matrices, with their begin and end tokens."""
        rows = np.arange(len(self.rows))
        source = self.source.padded(self.rows, after=1, fill=PAD)
        source[rows, self.source.lengths(self.rows)] = EOS
        target = self.target.padded(self.rows, before=1, after=1, fill=PAD)
        target[:, 0] = BOS
        target[rows, self.target.lengths(self.rows) + 1] = EOS
        target_in = np.where(target[:, :-1] == EOS, PAD, target[:, :-1])
        target_out = np.ascontiguousarray(target[:, 1:])
        guide = None if self.links is None else torch.from_numpy(self.links.guide(self.rows, source, target_out))
        return Batch(torch.from_numpy(source), torch.from_numpy(target_in), torch.from_numpy(target_out), guide)


@dataclass(frozen=True)
class SubwordSampling:
    """Pairs in other pieces at every visit (Kudo 2018; Provilkov et al. 2020): see ``Tokenizer.sample_source``.

    A side that would get more than ``longest`` pieces keeps its stored ones.
    """

    tokenizer: Tokenizer
    alpha: float
    longest: int

    def draw(self, store: Store, rows: Array, rng: np.random.Generator, unwanted: Event) -> tuple[Pieces, Pieces]:
        """Both sides of ``rows`` in pieces drawn at random. Raises CancelledError once they are ``unwanted``."""
        source = self._draw(store.source, self.tokenizer.sample_source, rows, rng, unwanted)
        return source, self._draw(store.target, self.tokenizer.sample_target, rows, rng, unwanted)

    def _draw(self, side: Side, sample: _Sample, rows: Array, rng: np.random.Generator, unwanted: Event) -> Pieces:
        def drawn() -> Iterator[list[int]]:
            for start in range(0, len(rows), BLOCK):  # few at once, so that memory stays small
                if unwanted.is_set():
                    raise CancelledError
                part = rows[start : start + BLOCK]
                lists = sample(side.text(part), self.alpha, int(rng.integers(1 << 31)))
                for row, ids in zip(part.tolist(), lists, strict=True):
                    yield ids if len(ids) <= self.longest else side[row]

        return Pieces.of(drawn())


class Batches:
    """Batches of a store, by position.

    ``batch_tokens`` bounds the real target tokens of a batch, end tokens included; ``device_tokens`` the padded
    positions of either side of a bucket. A single pair that is longer than a bound is a bucket, or a batch, alone.
    ``visits`` says how often an epoch visits the pairs of each part of the store: (pairs, weight), in the store's
    order; the part of a weight behind the point is a probability. With ``links`` batches have a guide.
    """

    def __init__(
        self,
        store: Store,
        batch_tokens: int,
        device_tokens: int,
        seed: int,
        *,
        visits: Sequence[tuple[int, float]] = (),
        sampling: SubwordSampling | None = None,
        links: Links | None = None,
    ) -> None:
        """Raises ArtefactError when ``visits`` is of another store, ConfigError when they leave an epoch empty."""
        self.store, self.seed, self._sampling, self._links = store, seed, sampling, links
        self.batch_tokens, self.device_tokens = batch_tokens, device_tokens
        self._ends = np.cumsum([pairs for pairs, _ in visits])
        self._weights = np.array([weight for _, weight in visits])
        if visits and self._ends[-1] != len(store):
            raise ArtefactError(f"{store.directory}: the token store is damaged; train in a new run_dir")
        if visits and sum(pairs * weight for pairs, weight in visits) < 1:
            raise ConfigError("data.train: the weights leave less than one pair an epoch; raise them")
        self._weighted = bool((self._weights != 1).any())
        # Buckets of one size that fill a batch; a tenth of what a device holds is left for padding.
        self._buckets_a_batch = -(-batch_tokens * 11 // (10 * device_tokens))
        self._bucket_tokens = -(-batch_tokens // self._buckets_a_batch)
        self._cached: tuple[tuple[int, int], list[list[Bucket]]] | None = None
        self._steps: int | None = None
        self._pool, self._closed = ThreadPoolExecutor(1), Event()
        self._ahead: tuple[tuple[int, int], Future[list[list[Bucket]]]] | None = None

    @property
    def windows(self) -> int:
        """Windows of an epoch."""
        return -(-self.store.blocks // WINDOW)

    def walk(self, start: Position) -> Iterator[tuple[list[Bucket], Position]]:
        """Yield batches without end from ``start`` on, each with the position after it.

        A batch is a list of buckets.
        """
        position = start
        while True:
            batches = self.window(position.epoch, position.window)
            for number in range(position.batch, len(batches)):
                after = Position(position.epoch, position.window, number + 1)
                yield batches[number], after if after.batch < len(batches) else self._next(position)
            position = self._next(position)

    def _next(self, position: Position) -> Position:
        """The start of the next window; one that the weights have left empty does not count.

        Raises ConfigError when all are, epoch after epoch.
        """
        epoch, window = position.epoch, position.window
        for _ in range(_EMPTY * self.windows):
            epoch, window = self._after(epoch, window)
            if not self._weighted or self.window(epoch, window):
                return Position(epoch, window)
        raise ConfigError(f"data.train: the weights have left {_EMPTY} epochs empty; choose others")

    def _after(self, epoch: int, window: int) -> tuple[int, int]:
        return (epoch + 1, 0) if window + 1 == self.windows else (epoch, window + 1)

    @property
    def steps_per_epoch(self) -> int:
        """About how many batches an epoch has: those of the window at hand, or else the first, scaled to all blocks."""
        if self._steps is None:
            (_, window), batches = self._cached or ((0, 0), self.window(0, 0))
            blocks = min(WINDOW, self.store.blocks - window * WINDOW)
            self._steps = max(1, round(len(batches) * self.store.blocks / blocks))
        return self._steps

    def steps_before(self, position: Position) -> int:
        """About how many batches come before a position."""
        epochs = position.epoch + position.window * WINDOW / self.store.blocks
        return round(epochs * self.steps_per_epoch) + position.batch

    def window(self, epoch: int, window: int) -> list[list[Bucket]]:
        """The batches of a window."""
        key = (epoch, window)
        if self._cached is None or self._cached[0] != key:
            made = self._ahead[1].result() if self._ahead and self._ahead[0] == key else self._make(*key, Event())
            self._cached = key, made
            # Sampling takes seconds: the next window is made while this one is used.
            if self._sampling is not None and not self._closed.is_set():
                after = self._after(*key)
                self._ahead = after, self._pool.submit(self._make, *after, self._closed)
        return self._cached[1]

    def close(self) -> None:
        """Give up the window that is being made; the process could not end before."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)
        self._ahead = None

    def _make(self, epoch: int, window: int, unwanted: Event) -> list[list[Bucket]]:
        blocks = np.random.default_rng((self.seed, 0, epoch)).permutation(self.store.blocks)
        blocks = blocks[window * WINDOW : (window + 1) * WINDOW]
        rng = np.random.default_rng((self.seed, 1, epoch, window))
        rows = np.concatenate([self.store.block(int(b)) for b in blocks])
        rounds = self._rounds(rows, rng) if self._weighted else [rows]
        source: Pieces
        target: Pieces
        source, target, links = self.store.source, self.store.target, self._links
        if self._sampling is not None:
            draws = np.random.default_rng((self.seed, 2, epoch, window))
            visited = np.concatenate(rounds)
            source, target = self._sampling.draw(self.store, visited, draws, unwanted)
            links = links and links.visited(visited)
            rounds = np.split(np.arange(len(visited)), np.cumsum([len(rows) for rows in rounds])[:-1])
        buckets = [
            Bucket(source, target, part, links)
            for rows in rounds
            for part in self._buckets(source, target, rng.permutation(rows), rng)
        ]
        buckets = [buckets[i] for i in rng.permutation(len(buckets))]
        if self._buckets_a_batch == 1:  # nothing to pair
            return self._gather(buckets)
        batches = self._gather(_alike(buckets))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _rounds(self, rows: Array, rng: np.random.Generator) -> list[Array]:
        """Each row as often as this epoch visits it, every time in another round.

        Rounds are bucketed apart: in one bucket, the copies of a pair would be one large step in its direction.
        """
        whole, part = np.divmod(self._weights[np.searchsorted(self._ends, rows, side="right")], 1)
        visits = whole.astype(np.int64) + (rng.random(len(rows)) < part)
        return [rows[visits > number] for number in range(max(1, int(visits.max())))]

    def _buckets(self, sources: Pieces, targets: Pieces, rows: Array, rng: np.random.Generator) -> list[Array]:
        """Cut rows into buckets of similar length on both sides; where they are cut is left to chance."""
        source, target = sources.lengths(rows) + 1, targets.lengths(rows) + 1
        # Sorted by target length, and within it by source length, up and down in turn, so that neighbours are alike.
        stripe = (target + rng.integers(2)) // 2
        order = np.lexsort((np.where(stripe % 2, -source, source), stripe))
        rows, source, target = rows[order], source[order], target[order]
        buckets, start, longest = [], 0, 0
        tokens = int(rng.integers(self._bucket_tokens))  # the first bucket is a smaller one
        for i, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
            longest, tokens = max(longest, s, t), tokens + t
            if i > start and (tokens > self._bucket_tokens or longest * (i + 1 - start) > self.device_tokens):
                buckets.append(rows[start:i])
                start, tokens, longest = i, t, max(s, t)
        return [*buckets, rows[start:]] if len(rows) else []

    def _gather(self, buckets: list[Bucket]) -> list[list[Bucket]]:
        """Fill batches with buckets, in order."""
        batches: list[list[Bucket]] = []
        total = 0
        for bucket in buckets:
            tokens = bucket.tokens
            if not batches or total + tokens > self.batch_tokens:
                batches.append([])
                total = 0
            batches[-1].append(bucket)
            total += tokens
        return batches


def _alike(buckets: list[Bucket]) -> list[Bucket]:
    """Buckets in an order in which neighbours cost about the same: processes that share a batch end it together.

    They are sorted in runs of a few only, so that a batch of many is still one of all kinds.
    """
    runs = (buckets[start : start + _ALIKE] for start in range(0, len(buckets), _ALIKE))
    return [bucket for run in runs for bucket in sorted(run, key=attrgetter("positions"))]
