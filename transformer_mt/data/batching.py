"""The order of training pairs, and batches of them.

An epoch is a seeded walk over blocks of pairs. Some blocks make a window; inside a window pairs are shuffled, sorted
by length into *buckets* of little padding (a bucket is what a device holds at once, a micro-batch), and buckets are
shuffled and gathered to *batches* (an update of the weights each). Memory and start-up do not grow with the corpus,
and what comes at a position is a pure function of the position and the seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transformer_mt.data.store import Array, Store
from transformer_mt.special import BOS, EOS, PAD

WINDOW = 64  # blocks: 65,536 pairs


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
    with an end token; all are int64.
    """

    source: Tensor
    target_in: Tensor
    target_out: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.source, self.target_in, self.target_out)))


class Batches:
    """Batches of a store, by position.

    ``batch_tokens`` bounds the real target tokens of a batch, end tokens included; ``device_tokens`` the padded
    positions of either side of a bucket. A single pair that is longer than a bound is a bucket, or a batch, alone.
    """

    def __init__(self, store: Store, batch_tokens: int, device_tokens: int, seed: int) -> None:
        self.store, self.seed = store, seed
        self.batch_tokens, self.device_tokens = batch_tokens, device_tokens
        # Buckets of one size that fill a batch; a tenth of what a device holds is left for padding.
        buckets = -(-batch_tokens * 11 // (10 * device_tokens))
        self._bucket_tokens = -(-batch_tokens // buckets)
        self._cached: tuple[tuple[int, int], list[list[Array]]] | None = None

    @property
    def windows(self) -> int:
        """Windows of an epoch."""
        return -(-self.store.blocks // WINDOW)

    def walk(self, start: Position) -> Iterator[tuple[list[Array], Position]]:
        """Yield batches without end from ``start`` on, each with the position after it.

        A batch is a list of buckets, a bucket the row numbers of its pairs.
        """
        epoch, window, batch = start.epoch, start.window, start.batch
        while True:
            batches = self.window(epoch, window)
            while batch < len(batches):
                batch += 1
                after = Position(epoch, window, batch)
                if batch == len(batches):
                    last = window + 1 == self.windows
                    after = Position(epoch + 1) if last else Position(epoch, window + 1)
                yield batches[batch - 1], after
            epoch, window, batch = (epoch + 1, 0, 0) if window + 1 == self.windows else (epoch, window + 1, 0)

    def window(self, epoch: int, window: int) -> list[list[Array]]:
        """The batches of a window."""
        if self._cached is None or self._cached[0] != (epoch, window):
            blocks = np.random.default_rng((self.seed, 0, epoch)).permutation(self.store.blocks)
            blocks = blocks[window * WINDOW : (window + 1) * WINDOW]
            rng = np.random.default_rng((self.seed, 1, epoch, window))
            rows = rng.permutation(np.concatenate([self.store.block(int(b)) for b in blocks]))
            buckets = self._buckets(rows, rng)
            shuffled = [buckets[i] for i in rng.permutation(len(buckets))]
            self._cached = (epoch, window), self._gather(shuffled)
        return self._cached[1]

    def _buckets(self, rows: Array, rng: np.random.Generator) -> list[Array]:
        """Cut rows into buckets of similar length on both sides; where they are cut is left to chance."""
        source = self.store.source.lengths(rows) + 1
        target = self.store.target.lengths(rows) + 1
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
        buckets.append(rows[start:])
        return buckets

    def _gather(self, buckets: list[Array]) -> list[list[Array]]:
        """Fill batches with buckets, in order."""
        batches: list[list[Array]] = [[]]
        total = 0
        for bucket in buckets:
            tokens = int(self.store.target.lengths(bucket).sum()) + len(bucket)
            if batches[-1] and total + tokens > self.batch_tokens:
                batches.append([])
                total = 0
            batches[-1].append(bucket)
            total += tokens
        return batches

    def collate(self, rows: Array) -> Batch:
        """Pad the pairs of ``rows`` to matrices, with their begin and end tokens."""
        source = self.store.source.padded(rows, after=1, fill=PAD)
        source[np.arange(len(rows)), self.store.source.lengths(rows)] = EOS
        target = self.store.target.padded(rows, before=1, after=1, fill=PAD)
        target[:, 0] = BOS
        target[np.arange(len(rows)), self.store.target.lengths(rows) + 1] = EOS
        target_in = np.where(target[:, :-1] == EOS, PAD, target[:, :-1])
        return Batch(*(torch.from_numpy(a) for a in (source, target_in, np.ascontiguousarray(target[:, 1:]))))
