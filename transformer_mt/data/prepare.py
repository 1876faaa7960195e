"""From raw corpora to the token store: read, clean, hold out, learn the tokenizer, encode."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_mt.config import Config, Languages, Source
from transformer_mt.data import corpus
from transformer_mt.data.cleaning import Cleaner, Dropped, Repeats, are_among, pair_hash
from transformer_mt.data.corpus import read_training_pairs
from transformer_mt.data.links import Mask, encode_links, word_starts
from transformer_mt.data.sets import Lottery, digests, own_lines, read_set, write_given_sets, write_held_out
from transformer_mt.data.store import LINKS, SIDES, Array, Pieces, StoreWriter
from transformer_mt.data.tokenizer import Tokenizer, learn
from transformer_mt.errors import ArtefactError, DataError
from transformer_mt.parallel import in_order
from transformer_mt.sealed import seal, unseal
from transformer_mt.terminal import bar, say

_CHUNK = 2_048  # pairs cleaned or encoded at once
_NUMBERS = np.dtype([("row", "<i8"), ("hash", "<u8")])  # of a pair: its number among all that were read; its hash
_Pair = tuple[str, ...]  # source, target and, where a corpus has them, word links
_Chunk = tuple[Array, list[Pieces]]  # some staged pairs: their numbers among all that were read, the lines of each side


def read_manifest(data: Path) -> dict[str, Any] | None:
    """The description of a finished store; None when there is none. Raises ArtefactError when it is damaged."""
    path = data / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = unseal(path.read_text(encoding="utf-8"))
        for key in ("pairs", "corpora", "sets", "held_out", "leaks", "dropped", "vocabulary", "tokenizer"):
            manifest[key]
        manifest["fingerprint"]["files"], manifest["fingerprint"]["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: damaged; train in a new run_dir") from error
    return manifest


def _manifest(data: Path) -> dict[str, Any]:
    if (manifest := read_manifest(data)) is None:
        raise ArtefactError(f"{data}: no token store here; run `mt tokenize` first")
    return manifest


def set_names(data: Path, split: str) -> list[str]:
    """The sets of ``valid`` or ``test``, in the order of the configuration. Raises ArtefactError."""
    return list(_manifest(data)["sets"][split])


def evaluation_set(data: Path, set_name: str) -> tuple[list[str], list[list[str]]]:
    """The source lines of a set and its references, each a list of lines, checked. Raises ArtefactError."""
    return read_set(data, set_name, _manifest(data).get("texts", {}).get(set_name))


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
    staged.held_out = write_held_out(data, drawn, staged.all_pairs(), staged.hashes())
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
        "texts": {name: digests(data, name) for split, names in sets.items() for name in names or [split]},
        "held_out": {split: len(values) for split, values in drawn.items()},
        "leaks": staged.leaks,
        "dropped": dropped.to_json(),
        "vocabulary": {"source": tokenizer.source_size, "target": tokenizer.target_size},
        "tokenizer": tokenizer.hashes,
    }
    (data / "manifest.json").write_text(seal(manifest), encoding="utf-8")
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
    """Cleaned pairs as plain lines, with the place that each was read from, and their word links, if any have some."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.names = [corpus.name(source) for source in config.data.train]
        self.read = [0] * len(self.names)  # pairs of each corpus, dropped ones included
        self.pairs = 0
        self.held_out: set[int] = set()  # by number among the staged
        self.leaks = 0  # pairs that are in a given validation or test set, too
        self.linked = any(source.alignment is not None for source in config.data.train)
        self._text = {side: folder / f"staged.{side}.txt" for side in (*SIDES, LINKS)[: 3 if self.linked else 2]}
        self._numbers = folder / "staged.numbers"
        self._sizes: list[list[int]] = []  # of each chunk: its pairs, its bytes of either side

    def write(self, config: Config, given: Array, lottery: Lottery, dropped: Dropped) -> None:
        """Read every corpus once; keep what the rules leave. Raises DataError when the text is at fault."""
        first = ((pair[0], pair[1]) for source in config.data.train for pair in self._pairs(source, config.languages))
        clean, repeats = partial(_clean, Cleaner(config.data, config.languages, first)), Repeats(config.data, given)
        with ExitStack() as stack, bar("reading", None, "pairs") as progress:
            files = [stack.enter_context(path.open("wb")) for path in (*self._text.values(), self._numbers)]
            for (number, pairs), (rules, hashes) in in_order(clean, self._chunks_of(config)):
                before = sum(self.read)
                self.read[number] += len(pairs)
                rules |= repeats.rules(hashes, np.flatnonzero(_left(len(pairs), rules)))
                for row in sorted(rules):
                    dropped.add(rules[row], self.place(before + row), *pairs[row][:2])
                kept = np.flatnonzero(_left(len(pairs), rules))
                numbers = np.empty(len(kept), _NUMBERS)
                numbers["row"], numbers["hash"] = before + kept, hashes[kept]
                lottery.add(numbers["hash"])
                self.leaks += int(are_among(numbers["hash"], given).sum())
                lines = zip_longest(self._text, *(pairs[row] for row in kept.tolist()), fillvalue="")
                text = ["".join([line + "\n" for line in side]).encode() for _, *side in lines]
                for file, data in zip(files, (*text, numbers.tobytes()), strict=True):
                    file.write(data)
                self._sizes.append([len(numbers), *map(len, text)])
                self.pairs += len(numbers)
                progress.advance(len(pairs))

    def _chunks_of(self, config: Config) -> Iterator[tuple[int, list[_Pair]]]:
        """Pairs as they are read, some at once, each time with the number of their corpus."""
        for number, source in enumerate(config.data.train):
            pairs = self._pairs(source, config.languages)
            while chunk := list(islice(pairs, _CHUNK)):
                yield number, chunk

    @staticmethod
    def _pairs(source: Source, languages: Languages) -> Iterator[_Pair]:
        try:
            yield from read_training_pairs(source, languages)
        except DataError as error:
            raise DataError(f"data.train: {error}") from error

    def lines(self, side: str) -> Iterator[str]:
        """The lines of a side that training may have."""
        return (line for n, line in enumerate(own_lines(self._text[side])) if n not in self.held_out)

    def all_pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs, those that are held out included."""
        return zip(*(own_lines(self._text[side]) for side in SIDES), strict=True)

    def hashes(self) -> Iterator[int]:
        """The hash of each pair, those that are held out included."""
        with self._numbers.open("rb") as file:
            for pairs, *_ in self._sizes:
                yield from np.fromfile(file, _NUMBERS, pairs)["hash"].tolist()

    def chunks(self) -> Iterator[_Chunk]:
        """The pairs that training may have, some at once."""
        first = 0
        with ExitStack() as stack:
            texts = [stack.enter_context(path.open("rb")) for path in self._text.values()]
            file = stack.enter_context(self._numbers.open("rb"))
            for pairs, *sizes in self._sizes:
                rows = np.fromfile(file, _NUMBERS, pairs)["row"]
                text = [Pieces.lines(file.read(size)) for file, size in zip(texts, sizes, strict=True)]
                wanted = np.array([row not in self.held_out for row in range(first, first + pairs)], bool)
                yield rows[wanted], [lines.where(wanted) for lines in text]
                first += pairs

    def corpus(self, row: int) -> int:
        """The corpus that a pair was read from."""
        return next(n for n, end in enumerate(accumulate(self.read)) if row < end)

    def place(self, row: int) -> str:
        """File and line of a pair."""
        number = self.corpus(row)
        return f"{self.names[number]}:{row - sum(self.read[:number]) + 1}"

    def remove(self) -> None:
        """Delete the files."""
        for path in (*self._text.values(), self._numbers):
            path.unlink()


def _clean(cleaner: Cleaner, chunk: tuple[int, list[_Pair]]) -> tuple[dict[int, str], Array]:
    """Which pairs of a chunk rules drop by their text, and the hashes of all."""
    _, pairs = chunk
    rules = {row: rule for row, pair in enumerate(pairs) if (rule := cleaner.text_rule(*pair[:2])) is not None}
    return rules, np.fromiter((pair_hash(*pair[:2]) for pair in pairs), np.uint64, len(pairs))


def _left(count: int, rules: dict[int, str]) -> npt.NDArray[np.bool_]:
    """Which of so many pairs no rule drops [count]."""
    left = np.ones(count, bool)
    left[list(rules)] = False
    return left


def _hashes(data: Path, names: Iterable[str]) -> Array:
    """The pairs of validation and test sets, by hash, in order."""
    sets = (read_set(data, name) for name in names)
    pairs = (pair for sources, references in sets for pair in zip(sources, references[0], strict=True))
    return np.unique(np.fromiter((pair_hash(*pair) for pair in pairs), np.uint64))


def _tokenizer(config: Config, staged: _Staged) -> Tokenizer:
    if config.tokenizer.from_ is not None:
        origin = Path(config.tokenizer.from_)
        return Tokenizer.load(origin / "tokenizer", (read_manifest(origin / "data") or {}).get("tokenizer"))
    say("learning the tokenizer …")
    source, target = (partial(staged.lines, side) for side in SIDES)
    return learn(source, target, staged.pairs - len(staged.held_out), config.tokenizer, config.seed)


def _encode(config: Config, tokenizer: Tokenizer, staged: _Staged, data: Path, dropped: Dropped) -> list[int]:
    """Encode the staged pairs into the store; return how many of each corpus the rules left."""
    kept = np.zeros(len(staged.names), np.int64)
    ends = np.cumsum(staged.read)
    starts = word_starts(tokenizer) if staged.linked else None
    encode = partial(_encoded, Cleaner(config.data, config.languages), tokenizer, starts)
    vocabulary = {"source": tokenizer.source_size, "target": tokenizer.target_size}
    if staged.linked:
        vocabulary[LINKS] = config.data.max_length  # a word has a piece or more
    with (
        StoreWriter(data, vocabulary) as writer,
        bar("encoding", staged.pairs - len(staged.held_out), "pairs") as progress,
    ):
        for (rows, text), (rules, ids) in in_order(encode, staged.chunks()):
            for row, rule in rules.items():
                pair = (str(bytes(lines[row]), "utf-8")[:-1] for lines in text[:2])
                dropped.add(rule, staged.place(int(rows[row])), *pair)
            wanted = _left(len(rows), rules)
            writer.add(ids, [lines.where(wanted) for lines in text[:2]])
            kept += np.bincount(np.searchsorted(ends, rows[wanted], side="right"), minlength=len(kept))
            progress.advance(len(rows))
    return kept.tolist()


def _encoded(
    cleaner: Cleaner, tokenizer: Tokenizer, starts: tuple[Mask, Mask] | None, chunk: _Chunk
) -> tuple[dict[int, str], list[Pieces]]:
    """Which pairs of a chunk rules drop by their pieces, and the pieces of the others, both sides, and their links."""
    encoders = (tokenizer.encode_source, tokenizer.encode_target)
    source, target, *links = (text.ids.tobytes().decode().split("\n")[:-1] for text in chunk[1])
    texts = source, target
    ids = [Pieces.of(encode(part, threads=1)) for encode, part in zip(encoders, texts, strict=True)]
    rules = cleaner.length_rules(*(np.diff(side.offsets) for side in ids))
    if starts is not None:
        ids.append(encode_links(links[0], texts, ids, starts))
    return rules, [side.where(_left(len(side), rules)) for side in ids]
