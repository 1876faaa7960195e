"""Text in, text out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_mt import config
from transformer_mt.checkpoint import Checkpoints, load_weights
from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.decoding.beam import beam_search
from transformer_mt.decoding.greedy import greedy
from transformer_mt.decoding.hypothesis import Hypothesis
from transformer_mt.device import autocast, choose_device, choose_precision
from transformer_mt.errors import ArtefactError
from transformer_mt.model.transformer import Transformer
from transformer_mt.rundir import RunDirectory, sha256
from transformer_mt.special import BOS, EOS, PAD
from transformer_mt.terminal import warn

LONGEST_SOURCE = 1024  # pieces; training sees 256 at most, and attention grows with the square
_BATCH_POSITIONS = 8192  # padded source positions of a batch, whatever its number of lines
_SCORE_POSITIONS = 2048  # padded positions whose distributions over the vocabulary are held at once
_READ_AHEAD = 32  # batches that are sorted by length together


class Translator:
    """A trained model with its tokenizer: ``Translator.load("runs/x").translate(["…"])``."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, decoding: config.Decoding, device: torch.device
    ) -> None:
        self.model, self.tokenizer, self.decoding, self.device = model, tokenizer, decoding, device
        self._precision = choose_precision(decoding.precision, device)

    @classmethod
    def load(cls, run: str | Path, checkpoint: str = "best", overrides: Sequence[str] = ()) -> "Translator":
        """Load from a run directory (or the configuration of one) the ``best``, ``last`` or a named checkpoint.

        Raises ConfigError when there is none, ArtefactError when something of it is damaged.
        """
        return cls.from_config(load_config(Path(run), overrides), checkpoint)

    @classmethod
    def from_config(cls, settings: Config, checkpoint: str = "best") -> "Translator":
        """The same from a configuration that is loaded already."""
        paths = RunDirectory(Path(settings.run_dir))
        checkpoints = Checkpoints(paths.checkpoints)
        name = checkpoints.resolve(checkpoint)
        manifest = checkpoints.manifest(name)
        tokenizer = Tokenizer.load(paths.tokenizer)
        if manifest.get("tokenizer") != tokenizer_hash(paths.tokenizer):
            raise ArtefactError(f"{paths.tokenizer}: not the tokenizer that {name} was trained with")
        _refuse_other_model(settings.model, manifest.get("model"), name)
        device = choose_device(settings.device)
        model = make_model(settings.model, tokenizer)
        load_weights(model, checkpoints.weights(name), str(paths.checkpoints / name))
        return cls(model.to(device).eval(), tokenizer, settings.decoding, device)

    def translate(self, lines: Iterable[str]) -> list[str]:
        """The best translation of each line; of an empty line, an empty one."""
        return [hypotheses[0][0] for hypotheses in self.stream(lines)]

    def stream(
        self, lines: Iterable[str], best: int = 1, progress: Callable[[int], None] | None = None, first: int = 0
    ) -> Iterator[list[tuple[str, float]]]:
        """For each line, in order, its ``best`` translations (at most beam_size) with their scores.

        Lines are read ahead, sorted by length and translated in batches, in bounded memory; ``progress`` is called
        with the number of lines of every batch that is done; ``first`` is the number of lines before, for warnings.
        """
        lines = iter(lines)
        while chunk := list(islice(lines, self.decoding.batch_size * _READ_AHEAD)):
            yield from self._chunk(chunk, best, first, progress)
            first += len(chunk)

    def _chunk(
        self, lines: list[str], best: int, first: int, progress: Callable[[int], None] | None
    ) -> list[list[tuple[str, float]]]:
        ids = self.encode(lines, first)
        results: list[list[tuple[str, float]]] = [[("", 0.0)] for _ in lines]
        for batch in by_length([len(line) for line in ids], self.decoding.batch_size, _BATCH_POSITIONS):
            for number, hypotheses in zip(batch, self.search([ids[n] for n in batch]), strict=True):
                results[number] = [(self.tokenizer.decode_target(h.ids), h.score) for h in hypotheses[:best]]
            if progress is not None:
                progress(len(batch))
        return results

    def encode(self, lines: Sequence[str], first: int = 0) -> list[list[int]]:
        """Source ids with their end token; an empty list for a line without text. Very long lines are cut."""
        limit = self._longest()
        encoded = self.tokenizer.encode_source(lines)
        for number, (line, ids) in enumerate(zip(lines, encoded, strict=True)):
            if not line.strip():
                ids.clear()
            elif len(ids) >= limit:
                warn(f"line {first + number + 1}: {len(ids)} pieces are too long; cut to {limit - 1}, split it")
                del ids[limit - 1 :]
            if ids:
                ids.append(EOS)
        return encoded

    @torch.inference_mode()
    def search(self, ids: list[list[int]]) -> list[list[Hypothesis]]:
        """The hypotheses of encoded lines, one batch, best first."""
        source = padded(ids).to(self.device)
        options = self.decoding
        with autocast(self.device, self._precision):
            if options.beam_size == 1:
                return [[h] for h in greedy(self.model, source, options.length_penalty)]
            return beam_search(self.model, source, options.beam_size, options.length_penalty, options.patience)

    @torch.inference_mode()
    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Σ log p of each given translation, the end token counted.

        Minus infinity for an empty source; NaN, with a warning, for a translation too long to be scored.
        """
        ids = self.encode(sources)
        gold = [[BOS, *line, EOS] for line in self.tokenizer.encode_target(targets)]
        scores = [float("-inf")] * len(ids)
        limit = self._longest() + 1
        for number, line in enumerate(gold):
            if len(line) > limit:
                warn(f"line {number + 1}: a translation of {len(line) - 2} pieces is too long to be scored")
                scores[number] = float("nan")
                ids[number] = []
        lengths = [max(len(source), len(target)) if source else 0 for source, target in zip(ids, gold, strict=True)]
        for batch in by_length(lengths, self.decoding.batch_size, _SCORE_POSITIONS):
            with autocast(self.device, self._precision):
                target = padded([gold[n] for n in batch]).to(self.device)
                hidden = self.model(padded([ids[n] for n in batch]).to(self.device), target[:, :-1])
                log_p = self.model.logits(hidden).float().log_softmax(-1)  # [B, T, V]
            right = log_p.gather(2, target[:, 1:, None])[:, :, 0] * (target[:, 1:] != PAD)
            for number, value in zip(batch, right.cpu().double().sum(1).tolist(), strict=True):
                scores[number] = value
        return scores

    def _longest(self) -> int:
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


def _refuse_other_model(settings: config.Model, trained: Any, name: str) -> None:
    """Weights alone do not tell the number of heads. Raises ArtefactError when the model is another one."""
    now = settings.model_dump()
    before = trained if isinstance(trained, dict) else {}
    changed = [f"model.{key} is {now[key]} but was {before.get(key)}" for key in now if now[key] != before.get(key)]
    if changed:
        raise ArtefactError(f"{name}: does not fit the configured model: {', '.join(changed)}")


def make_model(settings: config.Model, tokenizer: Tokenizer) -> Transformer:
    """The untrained model of a configuration, for a tokenizer's vocabularies."""
    return Transformer(settings, tokenizer.source_size, None if tokenizer.joint else tokenizer.target_size)


def tokenizer_hash(directory: Path) -> dict[str, str]:
    """The SHA-256 of the tokenizer's files, by name."""
    return {path.name: sha256(path) for path in Tokenizer.files(directory)}


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """Lists of ids as a matrix, filled up with PAD."""
    width = max(map(len, ids))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in ids], dtype=torch.int64)
