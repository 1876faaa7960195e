"""From raw corpora to the token store: read, clean, hold out, learn the tokenizer, encode."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from transformer_mt.config import Config, Languages, Source
from transformer_mt.data import corpus
from transformer_mt.data.cleaning import Cleaner, Dropped, pair_hash
from transformer_mt.data.corpus import read_pairs
from transformer_mt.data.sets import Lottery, evaluation_set, own_lines, write_given_sets, write_held_out
from transformer_mt.data.store import SIDES, StoreWriter
from transformer_mt.data.tokenizer import Tokenizer, learn
from transformer_mt.errors import ArtefactError, DataError
from transformer_mt.terminal import bar, say

_CHUNK = 8_192  # pairs encoded at once


def read_manifest(data: Path) -> dict[str, Any] | None:
    """The description of a finished store; None when there is none. Raises ArtefactError when it is damaged."""
    path = data / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for key in ("pairs", "corpora", "sets", "held_out", "leaks", "dropped", "vocabulary", "tokenizer"):
            manifest[key]
        manifest["fingerprint"]["files"], manifest["fingerprint"]["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: damaged; train in a new run_dir") from error
    return manifest  # type: ignore[no-any-return]


def set_names(data: Path, split: str) -> list[str]:
    """The sets of ``valid`` or ``test``, in the order of the configuration. Raises ArtefactError."""
    manifest = read_manifest(data)
    if manifest is None:
        raise ArtefactError(f"{data}: no token store here; run `mt tokenize` first")
    return list(manifest["sets"][split])


def prepare(config: Config, prints: dict[str, Any], tokenizer_dir: Path, data: Path) -> dict[str, Any]:
    """Make tokenizer and store from scratch; return the manifest, which is written last.

    Raises DataError when the text is at fault.
    """
    for directory in (tokenizer_dir, data):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    sets, dropped, staged = write_given_sets(config, data), Dropped(), _Staged(config, data)
    lottery = Lottery([split for split, names in sets.items() if not names])
    staged.write(config, _hashes(data, chain(*sets.values())), lottery, dropped)
    if staged.pairs == 0:
        raise DataError(_nothing_left(dropped))
    drawn = lottery.draw()
    staged.held_out = write_held_out(data, drawn, staged.all_pairs())
    tokenizer = _tokenizer(config, staged)
    tokenizer.save(tokenizer_dir)
    kept = _encode(config, tokenizer, staged, data, dropped)
    if sum(kept) == 0:
        raise DataError(_nothing_left(dropped))
    staged.remove()
    manifest = {
        "fingerprint": prints,
        "pairs": sum(kept),
        "corpora": [
            {"name": corpus.name(source), "read": read, "pairs": pairs, "weight": source.weight}
            for source, read, pairs in zip(config.data.train, staged.read, kept, strict=True)
        ],
        "sets": {split: names or [split] for split, names in sets.items()},
        "held_out": {split: len(values) for split, values in drawn.items()},
        "leaks": staged.leaks,
        "dropped": dropped.to_json(),
        "vocabulary": {"source": tokenizer.source_size, "target": tokenizer.target_size},
        "tokenizer": tokenizer.hashes,
    }
    (data / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    return manifest


_REMEDIES = {  # by the rule that drops most
    "empty": "give text on both sides",
    "too long": "give one sentence a line, or raise data.max_length",
    "control": "is the encoding right? Convert the files anew",
    "copies": "source and target are the same, give the translations",
    "script": "a side is not in its language's script, check languages and which file is which",
    "leaks": "give other text than that of validation and test",
    "length ratio": "check that line i is the translation of line i, or raise data.max_ratio",
}


def _nothing_left(dropped: Dropped) -> str:
    if not dropped.counts:
        return "data.train: no training pair is left: the files are empty; give text, one sentence a line"
    rule = next(rule for rule, _ in dropped.counts.most_common() if rule in _REMEDIES)  # not copies of what is dropped
    place = dropped.examples[rule][0].place
    return f"data.train: no training pair is left: {dropped} (such as {place}); {_REMEDIES[rule]}"


class _Staged:
    """Cleaned pairs as plain lines, with the place that each was read from."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.names = [corpus.name(source) for source in config.data.train]
        self.read = [0] * len(self.names)  # pairs of each corpus, dropped ones included
        self.pairs = 0
        self.held_out: set[int] = set()  # by number among the staged
        self.leaks = 0  # pairs that are in a given validation or test set, too
        self._text = {side: folder / f"staged.{side}.txt" for side in SIDES}
        self._rows = folder / "staged.rows"  # for every pair its number among all that were read

    def write(self, config: Config, given: set[int], lottery: Lottery, dropped: Dropped) -> None:
        """Read every corpus once; keep what the rules leave. Raises DataError when the text is at fault."""
        first = (pair for source in config.data.train for pair in self._pairs(source, config.languages))
        cleaner = Cleaner(config.data, config.languages, first, given)
        with ExitStack() as stack, bar("reading", None, "pairs") as progress:
            files = [
                stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in self._text.values()
            ]
            rows = stack.enter_context(self._rows.open("wb"))
            for number, source in enumerate(config.data.train):
                before = sum(self.read)
                for line, pair in enumerate(self._pairs(source, config.languages), start=1):
                    rule = cleaner.text_rule(*pair)
                    if rule is None:
                        lottery.add(value := pair_hash(*pair))
                        self.leaks += value in given
                        for file, text in zip(files, pair, strict=True):
                            file.write(text + "\n")
                        rows.write((before + line - 1).to_bytes(8, "little"))
                        self.pairs += 1
                    else:
                        dropped.add(rule, f"{self.names[number]}:{line}", *pair)
                    self.read[number] = line
                    progress.advance()

    @staticmethod
    def _pairs(source: Source, languages: Languages) -> Iterator[tuple[str, str]]:
        try:
            for line, targets in read_pairs(source, languages):
                yield line, targets[0]
        except DataError as error:
            raise DataError(f"data.train: {error}") from error

    def lines(self, side: str) -> Iterator[str]:
        """The lines of a side that training may have."""
        return (line for n, line in enumerate(own_lines(self._text[side])) if n not in self.held_out)

    def all_pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs, those that are held out included."""
        return zip(*map(own_lines, self._text.values()), strict=True)

    def rows(self) -> Iterator[int]:
        """The numbers, among all that were read, of the pairs that training may have."""
        numbers = np.memmap(self._rows, "<i8", "r") if self.pairs else ()
        return (int(row) for n, row in enumerate(numbers) if n not in self.held_out)

    def corpus(self, row: int) -> int:
        """The corpus that a pair was read from."""
        return next(n for n, end in enumerate(accumulate(self.read)) if row < end)

    def place(self, row: int) -> str:
        """File and line of a pair."""
        number = self.corpus(row)
        return f"{self.names[number]}:{row - sum(self.read[:number]) + 1}"

    def remove(self) -> None:
        """Delete the files."""
        for path in (*self._text.values(), self._rows):
            path.unlink()


def _hashes(data: Path, names: Iterable[str]) -> set[int]:
    """The pairs of validation and test sets, by hash."""
    sets = (evaluation_set(data, name) for name in names)
    return {pair_hash(*pair) for sources, references in sets for pair in zip(sources, references[0], strict=True)}


def _tokenizer(config: Config, staged: _Staged) -> Tokenizer:
    if config.tokenizer.from_ is not None:
        return Tokenizer.load(Path(config.tokenizer.from_) / "tokenizer")
    say("learning the tokenizer …")
    source, target = (partial(staged.lines, side) for side in SIDES)
    return learn(source, target, staged.pairs - len(staged.held_out), config.tokenizer, config.seed)


def _encode(config: Config, tokenizer: Tokenizer, staged: _Staged, data: Path, dropped: Dropped) -> list[int]:
    """Encode the staged pairs into the store; return how many of each corpus the rules left."""
    kept = [0] * len(staged.names)
    cleaner = Cleaner(config.data, config.languages)
    vocabulary = {"source": tokenizer.source_size, "target": tokenizer.target_size}
    pairs = zip(staged.rows(), *map(staged.lines, SIDES), strict=True)
    with (
        StoreWriter(data, vocabulary) as writer,
        bar("encoding", staged.pairs - len(staged.held_out), "pairs") as progress,
    ):
        while chunk := list(islice(pairs, _CHUNK)):
            rows, sources, targets = zip(*chunk, strict=True)
            encoded = zip(tokenizer.encode_source(sources), tokenizer.encode_target(targets), strict=True)
            for row, text, ids in zip(rows, zip(sources, targets, strict=True), encoded, strict=True):
                if (rule := cleaner.length_rule(*ids)) is not None:
                    dropped.add(rule, staged.place(row), *text)
                else:
                    writer.add(text, ids)
                    kept[staged.corpus(row)] += 1
            progress.advance(len(chunk))
    return kept
