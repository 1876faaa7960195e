"""SentencePiece: text to pieces and back, one model for both languages or one a side."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import sentencepiece

from transformer_mt import config
from transformer_mt.data.sampling import Sampler
from transformer_mt.errors import ArtefactError, ConfigError, DataError
from transformer_mt.parallel import apart
from transformer_mt.special import BOS, EOS, PAD, UNK

LONGEST_PIECE = 16  # characters; SentencePiece's own default, on which `prepare` relies to drop long lines early
_THREADS = 4  # a constant: the pieces of a unigram model depend on the number of threads
_SAMPLE = 1_000_000  # lines that are enough to learn from; they take minutes and, 70 characters each, 1.6 GB
_LONG = 20_000  # pairs from which learning takes seconds: a process of its own can be ended by a signal
_LOST = "put its files back, or train in a new run_dir"


class Tokenizer:
    """A pair of SentencePiece models; with a joint vocabulary both are the same."""

    def __init__(self, source: bytes, target: bytes | None) -> None:
        self.models = [source] if target is None else [source, target]
        self.source = sentencepiece.SentencePieceProcessor(model_proto=source)
        self.target = self.source if target is None else sentencepiece.SentencePieceProcessor(model_proto=target)
        self._samplers: dict[tuple[bool, float], Sampler] = {}

    @property
    def joint(self) -> bool:
        """Whether both languages share one vocabulary."""
        return len(self.models) == 1

    @property
    def source_size(self) -> int:
        """V of the source side."""
        return int(self.source.get_piece_size())

    @property
    def target_size(self) -> int:
        """V of the target side."""
        return int(self.target.get_piece_size())

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the model files, by name."""
        names = self.names(self.joint)
        return {name: hashlib.sha256(model).hexdigest() for name, model in zip(names, self.models, strict=True)}

    def pieces(self, side: str) -> list[str]:
        """The vocabulary of ``source`` or ``target``: every piece, in the order of ids."""
        model = self.source if side == "source" else self.target
        return [model.id_to_piece(number) for number in range(model.get_piece_size())]

    def encode_source(self, lines: Sequence[str], threads: int = -1) -> list[list[int]]:
        """Pieces of source lines, without an end token, by all cores. Text such as ``</s>`` stays text."""
        return self.source.encode(list(lines), num_threads=threads)  # type: ignore[no-any-return]

    def encode_target(self, lines: Sequence[str], threads: int = -1) -> list[list[int]]:
        """Pieces of target lines, without begin and end tokens."""
        return self.target.encode(list(lines), num_threads=threads)  # type: ignore[no-any-return]

    def sample_source(self, lines: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Pieces of source lines, cut at random: another draw for every ``seed``, the same in every process for one.

        ``alpha`` is for BPE the probability that a merge is left out (BPE-dropout, Provilkov et al. 2020), for unigram
        the exponent of a segmentation's probability (Kudo 2018): the smaller, the more even, and the more pieces.
        """
        return self._sampler(self.source, alpha).sample(lines, seed)

    def sample_target(self, lines: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """The same of target lines."""
        return self._sampler(self.target, alpha).sample(lines, seed)

    def _sampler(self, model: Any, alpha: float) -> Sampler:
        key = (model is self.source, alpha)
        if key not in self._samplers:
            self._samplers[key] = Sampler(model, alpha)
        return self._samplers[key]

    def decode_target(self, ids: Sequence[int]) -> str:
        """Text of target pieces, on one line whatever bytes the model chose; control tokens are left out."""
        text = self.target.decode([i for i in ids if i not in (PAD, BOS, EOS)])
        return re.sub(r"[\r\n\0]+", " ", text)

    def save(self, directory: Path) -> None:
        """Write ``joint.model``, or ``source.model`` and ``target.model``."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, model in zip(self.names(self.joint), self.models, strict=True):
            (directory / name).write_bytes(model)

    @staticmethod
    def names(joint: bool) -> list[str]:
        """What the model files are called."""
        return ["joint.model"] if joint else ["source.model", "target.model"]

    @classmethod
    def files(cls, directory: Path) -> list[Path]:
        """The model files in a directory; empty when it has none."""
        for joint in (True, False):
            paths = [directory / name for name in cls.names(joint)]
            if all(path.is_file() for path in paths):
                return paths
        return []

    @classmethod
    def load(cls, directory: Path, known: dict[str, str] | None = None) -> "Tokenizer":
        """Read what :meth:`save` wrote. Raises ArtefactError, also when its hashes are not the ``known`` ones.

        These are compared first: SentencePiece may crash on a damaged model.
        """
        paths = cls.files(directory)
        if not paths:
            raise ArtefactError(f"{directory}: no tokenizer here; {_LOST}")
        try:
            models = [path.read_bytes() for path in paths]
            if not all(models):
                raise RuntimeError("an empty file")
            found = {path.name: hashlib.sha256(model).hexdigest() for path, model in zip(paths, models, strict=True)}
            if known is not None and found != known:
                raise ArtefactError(f"{directory}: not the tokenizer that the run was trained with; {_LOST}")
            tokenizer = cls(models[0], models[1] if len(models) > 1 else None)
        except (OSError, RuntimeError) as error:
            raise ArtefactError(f"{directory}: the tokenizer is damaged or unreadable: {error}; {_LOST}") from error
        for side in (tokenizer.source, tokenizer.target):
            if (side.pad_id(), side.unk_id(), side.bos_id(), side.eos_id()) != (PAD, UNK, BOS, EOS):
                raise ArtefactError(
                    f"{directory}: not a tokenizer of this program: its special ids are others; {_LOST}"
                )
        return tokenizer


def default_vocab_size(pairs: int) -> int:
    """A vocabulary that fits the corpus: small ones for little data (Gowda and May 2020), 32,000 at most."""
    for limit, size in ((20_000, 4_000), (500_000, 8_000), (2_000_000, 16_000)):
        if pairs < limit:
            return size
    return 32_000


def learn(
    source: Callable[[], Iterator[str]],
    target: Callable[[], Iterator[str]],
    pairs: int,
    settings: config.Tokenizer,
    seed: int,
) -> Tokenizer:
    """Learn a tokenizer from the lines of both sides.

    Raises DataError when there is too little text for the vocabulary, ConfigError when the vocabulary is too small.
    """
    size = settings.vocab_size or default_vocab_size(pairs)

    step = max(1, -(-pairs * (2 if settings.joint else 1) // _SAMPLE))  # lines of all of the text, few enough

    models, limits = [], []
    for sides in [(source, target)] if settings.joint else [(source,), (target,)]:
        with NamedTemporaryFile("w", encoding="utf-8", newline="\n") as text:
            text.writelines(f"{line}\n" for side in sides for line in islice(side(), 0, None, step) if line.strip())
            text.flush()
            job = _Lesson(text.name, size, settings, seed)
            try:
                models.append(_learn_one(job) if pairs < _LONG else apart(_learn_one, job))
            except _TooLargeError as error:
                limits.append(error.limit)
    if limits:
        raise DataError(
            f"tokenizer.vocab_size: {size} is more than this text has pieces for (training pairs: {pairs:,}); leave it "
            f"out, or lower it: the maximum is {min(limits)}"
        )
    return Tokenizer(models[0], None if settings.joint else models[1])


class _TooLargeError(Exception):
    """The vocabulary asked for is larger than ``limit``, the largest that the text gives."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class _Lesson(NamedTuple):
    """The text of a tokenizer, a file with a line each, and what it is to become."""

    text: str
    size: int
    settings: config.Tokenizer
    seed: int

    def lines(self) -> Iterator[str]:
        """The text, line by line."""
        with Path(self.text).open(encoding="utf-8", newline="\n") as file:
            yield from (line.removesuffix("\n") for line in file)


def _coverage(lines: Iterator[str], size: int) -> float:
    """The share of characters that get a piece of their own: all, unless they would fill a quarter of the vocabulary.

    What is not covered is written in bytes; 0.9995 is SentencePiece's advice for Chinese and Japanese.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    return 1.0 if len(counts) <= (size - 260) / 4 else 0.9995


def _learn_one(lesson: _Lesson) -> bytes:
    model, (_, size, settings, seed) = io.BytesIO(), lesson
    try:
        sentencepiece.set_random_generator_seed(seed)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lesson.lines(),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=size,
            character_coverage=_coverage(lesson.lines(), size),
            byte_fallback=True,
            normalization_rule_name=settings.normalization,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            max_sentence_length=1 << 20,  # bytes; `prepare` has dropped what is too long, and counted it
            max_sentencepiece_length=LONGEST_PIECE,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        text = str(error)
        if limit := re.search(r"too high.*?<= (\d+)", text, re.DOTALL):
            if settings.vocab_size is None:
                return _learn_one(lesson._replace(size=int(limit[1])))
            raise _TooLargeError(int(limit[1])) from error
        if needed := re.search(r"smaller than required_chars\D+\d+ vs (\d+)", text):
            raise ConfigError(
                f"tokenizer.vocab_size: {size} is too small for this text; set {int(needed[1]) + 1} or more"
            ) from error
        raise DataError(f"data.train: SentencePiece cannot learn from this text: {text}; give it more text") from error
    return model.getvalue()
