"""Text in, text out."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from transformer_mt import config
from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data.sentences import join_sentences, split_sentences
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.decoding.beam import beam_search
from transformer_mt.decoding.greedy import greedy
from transformer_mt.decoding.hypothesis import Hypothesis, length_limits
from transformer_mt.device import choose_device, choose_precision
from transformer_mt.errors import ArtefactError, ConfigError
from transformer_mt.memory import keep_freed_memory
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.model.packing import packed
from transformer_mt.model.recurrent import Recurrent
from transformer_mt.model.transformer import Transformer
from transformer_mt.rundir import RunDirectory
from transformer_mt.special import BOS, EOS, PAD
from transformer_mt.terminal import warn

LONGEST_SOURCE = 1024  # pieces; training sees 256 at most, and attention grows with the square
_BATCH_POSITIONS = 8192  # padded source positions of a batch, whatever its number of lines
_SCORE_POSITIONS = 2048  # padded positions whose distributions over the vocabulary are held at once
_READ_AHEAD = 32  # batches that are sorted by length together
_ATTENTION_AHEAD = 4  # the same where the weights of all pairs are held: a megabyte a pair, of large models
_ATTENTION_CELLS = 1 << 20  # of each head, that are held at once
_UNDETERMINED = config.Languages(source="und", target="und")  # the code of ISO 639-2


class Token(NamedTuple):
    """A piece of a translation, and its log p given the source and the pieces before it."""

    piece: str
    log_probability: float


@dataclass(frozen=True)
class Translation:
    """A translation and its score, Σ log p / length^length_penalty.

    ``tokens`` are those whose log p make the score, the end token too; none where they were not asked for. The score is
    NaN where nobody asked for it and greedy search could do without.
    """

    text: str
    score: float
    tokens: tuple[Token, ...] = ()


_Chunk = tuple[Sequence[int], list[str]]  # lines and their numbers


class Attention(NamedTuple):
    """The pieces of a pair, end tokens left out, and its attention [L, H, T + 1, S + 1], with those.

    Row t is of the position that reads target piece t - 1, or the begin token, and predicts piece t, or the end token.
    """

    source: list[str]
    target: list[str]
    weights: Tensor


class Wanted(NamedTuple):
    """What is to be known of a line: its ``best`` translations, their scores, and their tokens, which have scores."""

    best: int = 1
    scores: bool = True
    tokens: bool = False


TEXT, SCORED = Wanted(scores=False), Wanted()


class Batch(NamedTuple):
    """Encoded lines that are translated together, the ``rows`` of a chunk whose ``results`` are being gathered."""

    sources: list[list[int]]
    rows: list[int]
    results: list[list[Translation]]
    last: bool  # of the chunk


class Translator:
    """A trained model with its tokenizer: ``Translator.load("runs/x").translate(["…"])``."""

    def __init__(
        self,
        model: EncoderDecoder,
        tokenizer: Tokenizer,
        decoding: config.Decoding,
        device: torch.device,
        languages: config.Languages = _UNDETERMINED,
    ) -> None:
        keep_freed_memory()
        self.model, self.tokenizer, self.decoding, self.device = model, tokenizer, decoding, device
        self.languages = languages  # whose rules split and join sentences
        self._precision = choose_precision(decoding.precision, device)
        self._packed: EncoderDecoder | None = None

    @classmethod
    def load(cls, run: str | Path, checkpoint: str = "best", overrides: Sequence[str] = ()) -> Self:
        """Load from a run directory (or the configuration of one) the ``best``, ``last`` or a named checkpoint.

        Raises ConfigError when there is none, ArtefactError when something of it is damaged.
        """
        return cls.from_config(load_config(Path(run), overrides), checkpoint)

    @classmethod
    def from_config(cls, settings: Config, checkpoint: str = "best") -> Self:
        """The same from a configuration that is loaded already."""
        paths = RunDirectory(Path(settings.run_dir))
        checkpoints = Checkpoints(paths.checkpoints)
        name = checkpoints.resolve(checkpoint)
        manifest = checkpoints.manifest(name)
        tokenizer = Tokenizer.load(paths.tokenizer, manifest.get("tokenizer", {}))
        _refuse_other_model(settings.model, manifest.get("model"), name)
        device = choose_device(settings.device)
        model = make_model(settings.model, tokenizer)
        load_weights(model, checkpoints.weights(name), str(paths.checkpoints / name))
        return cls(model.to(device).eval(), tokenizer, settings.decoding, device, settings.languages)

    def translate(self, lines: Iterable[str], *, split: bool = False) -> list[str]:
        """The best translation of each line; of an empty line, an empty one.

        ``split`` is for lines of several sentences: each is translated alone, which is what most models learnt.
        """
        if not split:
            return [translations[0].text for translations in self.stream(lines, TEXT)]
        return [self.joined(sentences) for sentences in self.stream_sentences(lines, TEXT)]

    def stream(
        self,
        lines: Iterable[str],
        wanted: Wanted = SCORED,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[list[Translation]]:
        """For each line, in order, its best translations (at most beam_size), with what is ``wanted`` of them.

        Lines are read ahead, sorted by length and translated in batches, in bounded memory; ``progress`` is called
        with the number of lines of every batch that is done; ``first`` is the number of lines before, for warnings.
        """
        for results in self._translated(self._chunks(lines, first), wanted, progress):
            yield from results

    def stream_sentences(
        self,
        lines: Iterable[str],
        wanted: Wanted = SCORED,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[list[tuple[str, Translation]]]:
        """For each line, in order, its sentences with the best translation of each; none for a line without text.

        The rest is as in :meth:`stream`, but that ``progress`` counts sentences.
        """
        split, again = itertools.tee(
            (numbers, [split_sentences(line, self.languages.source) for line in chunk])
            for numbers, chunk in self._chunks(lines, first)
        )
        flat = (
            (
                [number for number, sentences in zip(numbers, chunk, strict=True) for _ in sentences],
                [sentence for sentences in chunk for sentence in sentences],
            )
            for numbers, chunk in split
        )
        for results, (_, chunk) in zip(self._translated(flat, wanted, progress), again, strict=True):
            translations = iter(results)
            yield from ([(sentence, next(translations)[0]) for sentence in sentences] for sentences in chunk)

    def joined(self, sentences: Iterable[tuple[str, Translation]]) -> str:
        """The translations of a line's sentences as one line of the target language."""
        return join_sentences((translation.text for _, translation in sentences), self.languages.target)

    def _chunks(self, lines: Iterable[str], first: int) -> Iterator[_Chunk]:
        lines = iter(lines)
        while chunk := list(itertools.islice(lines, self.chunk)):
            yield range(first + 1, first + len(chunk) + 1), chunk
            first += len(chunk)

    def _translated(
        self, chunks: Iterable[_Chunk], wanted: Wanted, progress: Callable[[int], None] | None
    ) -> Iterator[list[list[Translation]]]:
        """The translations of each chunk."""
        for batch, found in self.each(self._batches(chunks), wanted):
            for row, translations in zip(batch.rows, found, strict=True):
                batch.results[row] = translations
            if progress is not None and batch.rows:
                progress(len(batch.rows))
            if batch.last:
                yield batch.results

    def _batches(self, chunks: Iterable[_Chunk]) -> Iterator[Batch]:
        """The batches of each chunk, one at least."""
        for numbers, lines in chunks:
            ids = self.encode(lines, numbers)
            results = [[Translation("", 0.0)] for _ in lines]
            batches = list(by_length([len(line) for line in ids], self.decoding.batch_size, _BATCH_POSITIONS)) or [[]]
            for rows in batches:
                yield Batch([ids[row] for row in rows], rows, results, last=rows is batches[-1])

    def each(self, batches: Iterable[Batch], wanted: Wanted) -> Iterator[tuple[Batch, list[list[Translation]]]]:
        """Each batch, in order, with what :meth:`translate_batch` makes of it."""
        for batch in batches:
            yield batch, self.translate_batch(batch.sources, wanted)

    def translate_batch(self, sources: list[list[int]], wanted: Wanted) -> list[list[Translation]]:
        """The translations of encoded lines that have text."""
        if not sources:
            return []
        scored = wanted.scores or wanted.tokens
        found = [hypotheses[: wanted.best] for hypotheses in self.search(sources, scored=scored)]
        texts = [
            [Translation(self.tokenizer.decode_target(h.ids), h.score) for h in hypotheses] for hypotheses in found
        ]
        if not wanted.tokens:
            return texts
        return [
            [replace(translation, tokens=of_one) for translation, of_one in zip(translations, of_each, strict=True)]
            for translations, of_each in zip(texts, self._tokens(sources, found), strict=True)
        ]

    def _tokens(self, sources: list[list[int]], found: list[list[Hypothesis]]) -> list[list[tuple[Token, ...]]]:
        """The tokens of hypotheses, by one teacher-forced pass; search does not carry them."""
        limits = length_limits(padded(sources), self.model.position_limit)
        # At the longest length there is no end token.
        written = [
            [[*h.ids, EOS] if len(h.ids) < limit else h.ids for h in hypotheses]
            for hypotheses, limit in zip(found, limits, strict=True)
        ]
        repeated = [source for source, ids in zip(sources, written, strict=True) for _ in ids]
        values = iter(self._forced(repeated, [row for ids in written for row in ids], searched=True))
        name = self.tokenizer.target.id_to_piece
        return [
            [tuple(Token(name(i), value) for i, value in zip(row, next(values), strict=True)) for row in ids]
            for ids in written
        ]

    def encode(self, lines: Sequence[str], numbers: Sequence[int] | None = None) -> list[list[int]]:
        """Source ids with their end token; an empty list for a line without text. Very long lines are cut.

        ``numbers`` is what warnings call the lines; 1, 2, … when left out.
        """
        limit = self.longest
        encoded = self.tokenizer.encode_source(lines)
        for number, line, ids in zip(numbers or range(1, len(lines) + 1), lines, encoded, strict=True):
            if not line.strip():
                ids.clear()
            elif len(ids) >= limit:
                warn(f"line {number}: {len(ids)} pieces are too long; cut to {limit - 1}, split it")
                del ids[limit - 1 :]
            if ids:
                ids.append(EOS)
        return encoded

    @property
    def packed(self) -> EncoderDecoder:
        """The model made ready for decoding, of the weights as they were at its first use."""
        if self._packed is None:
            self._packed = packed(self.model, self._precision)
        return self._packed

    def release(self) -> None:
        """Free what :attr:`packed` made; to be called before the weights change."""
        self._packed = None

    @torch.inference_mode()
    def search(self, ids: list[list[int]], *, scored: bool = True) -> list[list[Hypothesis]]:
        """The hypotheses of encoded lines, one batch, best first; greedy ones are found sooner if not ``scored``."""
        options = self.decoding
        source = padded(ids).to(self.device)
        if options.beam_size == 1:
            return [[h] for h in greedy(self.packed, source, options.length_penalty, scored=scored)]
        return beam_search(self.packed, source, options.beam_size, options.length_penalty, options.patience)

    def score(
        self, sources: Sequence[str], targets: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> list[float]:
        """Σ log p of each given translation, the end token counted; ``progress`` is called as in :meth:`stream`.

        Minus infinity for an empty source; NaN, with a warning, for a translation too long to be scored.
        """
        ids = self.encode(sources)
        gold = [[*line, EOS] for line in self.tokenizer.encode_target(targets)]
        scores = [0.0 if source else float("-inf") for source in ids]
        for number, line in enumerate(gold):
            if len(line) > self.longest:
                warn(f"line {number + 1}: a translation of {len(line) - 1} pieces is too long to be scored; split it")
                scores[number] = float("nan")
                ids[number] = []
        forced = self._forced(ids, gold, progress)
        return [score + math.fsum(values) for score, values in zip(scores, forced, strict=True)]

    @torch.inference_mode()
    def _forced(
        self,
        sources: list[list[int]],
        gold: list[list[int]],
        progress: Callable[[int], None] | None = None,
        *,
        searched: bool = False,
    ) -> list[list[float]]:
        """log p of each token of ``gold``, given those before it; none where the source is empty.

        ``searched`` takes the probabilities from which search chooses, where the end token does not come first.
        """
        results: list[list[float]] = [[] for _ in gold]
        lengths = [max(len(source), len(target)) if source else 0 for source, target in zip(sources, gold, strict=True)]
        for batch in by_length(lengths, self.decoding.batch_size, _SCORE_POSITIONS):
            target = padded([[BOS, *gold[n]] for n in batch]).to(self.device)
            hidden = self.packed(padded([sources[n] for n in batch]).to(self.device), target[:, :-1]).hidden
            logits = self.packed.logits(hidden).float()  # [B, T, V]
            if searched:
                logits[:, 0, EOS] = float("-inf")
            log_p = logits.log_softmax(-1).gather(2, target[:, 1:, None])[:, :, 0]
            for number, values in zip(batch, log_p.tolist(), strict=True):
                results[number] = values[: len(gold[number])]
            if progress is not None:
                progress(len(batch))
        return results

    def attention(
        self, sources: Sequence[str], targets: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Iterator[Attention]:
        """For each pair, in order, what the model attends to as it reads the given translation.

        A side without text has no pieces, one that is too long is cut; ``progress`` is called as in :meth:`stream`.
        Raises ConfigError for a model without attention.
        """
        ahead = self.decoding.batch_size * _ATTENTION_AHEAD
        for first in range(0, len(sources), ahead):
            numbers = range(first + 1, min(first + ahead, len(sources)) + 1)
            ids = [line or [EOS] for line in self.encode(sources[first : first + ahead], numbers)]
            gold = self.tokenizer.encode_target(targets[first : first + ahead])
            for number, line in zip(numbers, gold, strict=True):
                if len(line) >= self.longest:
                    warn(f"line {number}: a translation of {len(line)} pieces is too long; cut to {self.longest - 1}, "
                         "split it")  # fmt: skip
                    del line[self.longest - 1 :]
            name_source, name_target = self.tokenizer.source.id_to_piece, self.tokenizer.target.id_to_piece
            for part in _bounded([len(source) * (len(target) + 1) for source, target in zip(ids, gold, strict=True)]):
                found = self._attended(ids[part], gold[part], progress)
                for source, target, weights in zip(ids[part], gold[part], found, strict=True):
                    yield Attention(name_source(source[:-1]), name_target(target), weights)

    @torch.inference_mode()
    def _attended(
        self, sources: list[list[int]], gold: list[list[int]], progress: Callable[[int], None] | None
    ) -> list[Tensor]:
        """The attention [L, H, T + 1, S] of encoded pairs, on the CPU, by the plain model."""
        results = [torch.empty(0)] * len(gold)
        lengths = [max(len(source), len(target) + 1) for source, target in zip(sources, gold, strict=True)]
        for batch in by_length(lengths, self.decoding.batch_size, _SCORE_POSITIONS):
            source, target = padded([sources[n] for n in batch]), padded([[BOS, *gold[n]] for n in batch])
            weights = self.model(source.to(self.device), target.to(self.device), attention=True).attention
            if weights is None:
                raise ConfigError("model.attention: none, so there is nothing to look at; use a model with attention")
            for row, number in enumerate(batch):
                part = slice(len(gold[number]) + 1), slice(len(sources[number]))
                results[number] = torch.stack([layer[row][:, *part].float().cpu() for layer in weights])
            if progress is not None:
                progress(len(batch))
        return results

    @property
    def chunk(self) -> int:
        """The number of lines that are read ahead and sorted by length together."""
        return self.decoding.batch_size * _READ_AHEAD

    @property
    def longest(self) -> int:
        """The most pieces of a side, end token counted, that the model is asked to read."""
        return min(LONGEST_SOURCE, self.model.position_limit or LONGEST_SOURCE)


def by_length(lengths: Sequence[int], size: int, positions: int) -> Iterator[list[int]]:
    """Indices by length, longest first, in batches of at most ``size`` and of ``positions`` when padded.

    What has length 0 is in none; what is longer than ``positions`` is alone.
    """
    order = sorted((n for n, length in enumerate(lengths) if length), key=lambda n: -lengths[n])
    start = 0
    while start < len(order):
        count = min(size, max(1, positions // lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _bounded(cells: Sequence[int]) -> Iterator[slice]:
    """Neighbours that have so many cells of attention together, one at least."""
    start, total = 0, 0
    for number, count in enumerate(cells):
        if total + count > _ATTENTION_CELLS and number > start:
            yield slice(start, number)
            start, total = number, 0
        total += count
    yield slice(start, len(cells))


def _refuse_other_model(settings: config.Model, trained: Any, name: str) -> None:
    """Weights alone do not tell the number of heads. Raises ArtefactError when the model is another one."""
    now, before = settings.model_dump(), config.as_trained(trained)
    changed = [f"model.{key} is {now[key]} but was {before.get(key)}" for key in now if now[key] != before.get(key)]
    if changed:
        raise ArtefactError(
            f"{name}: does not fit the configured model: {', '.join(changed)}; use the run's own settings"
        )


def make_model(settings: config.Model, tokenizer: Tokenizer) -> EncoderDecoder:
    """The untrained model of a configuration, for a tokenizer's vocabularies."""
    vocabularies = tokenizer.source_size, None if tokenizer.joint else tokenizer.target_size
    if isinstance(settings, config.Recurrent):
        return Recurrent(settings, *vocabularies)
    return Transformer(settings, *vocabularies)


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """Lists of ids as a matrix, filled up with PAD."""
    width = max(map(len, ids))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in ids], dtype=torch.int64)
