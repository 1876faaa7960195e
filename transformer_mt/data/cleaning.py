"""The rules by which a training pair is dropped: the first that applies. Validation and test sets are left whole.

Of the text, before tokenization; those in quotes are chosen by ``data.drop``:

- empty: a side has no visible text.
- too long: a side has more characters than ``max_length`` pieces can hold.
- "control": a side has a control character that is no white space, or U+FFFD, the sign of a broken encoding.
- "copies": the target is the source, but for case and white space. What has no letter, such as a number, and what is
  only addresses of the web is kept: there a copy is the translation. Khayrallah and Koehn (2018) found that
  untranslated sentences hurt a model most.
- "script": half of the letters of a side, and four of them, are of scripts that its language is not written in.
  Names and terms in Latin letters are at home in all languages, so there only a side that is wholly Latin, with twenty
  letters, is foreign. A language whose code is unknown is taken to be written as nearly all of its first lines are.
- "leaks": the pair is one of a validation or test set.
- "duplicates": the same pair again, to the letter; the first is kept.

Of the pieces, after tokenization: empty; too long, a side of more than ``max_length`` pieces; length ratio, a side that
has more than ``max_ratio`` times the pieces of the other.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_mt.config import Data, Languages
from transformer_mt.data.store import Array
from transformer_mt.data.tokenizer import LONGEST_PIECE
from transformer_mt.data.writing import expected_scripts, main_scripts, script, scripts

FIRST_LINES = 10_000  # that show how a language of unknown code is written
EXAMPLES = 3  # kept of the pairs that a rule drops,
_SHOWN = 200  #   and characters of each side

_FOREIGN = 4  # letters of other scripts that make a line foreign,
_FOREIGN_LATIN = 20  #   and of Latin ones where Latin is not the language's script: the length of a sentence
_ADDRESS = ("//", "www.", "@")
_LATIN = frozenset({"LATIN"})


def pair_hash(source: str, target: str) -> int:
    """A hash of a pair, 64 bits, that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{source}\n{target}".encode(), digest_size=8).digest(), "big")


class Cleaner:
    """Says of each pair of a corpus which rule drops it, of those that look at a pair alone."""

    def __init__(self, data: Data, languages: Languages, first: Iterable[tuple[str, str]] = ()) -> None:
        """``first`` are pairs of the corpus, read only for a language of unknown code."""
        self._rules = frozenset(data.drop)
        self._max_length, self._max_ratio = data.max_length, data.max_ratio
        # A line of more characters has more pieces (but for runs of spaces, which tokenizers collapse).
        self._max_characters = data.max_length * LONGEST_PIECE
        expected = [expected_scripts(language) for language in (languages.source, languages.target)]
        if None in expected:
            sides = list(zip(*islice(first, FIRST_LINES), strict=True)) or [(), ()]
            both = zip(expected, sides, strict=True)
            expected = [main_scripts(lines) if known is None else known for known, lines in both]
        self._source, self._target = (_Side(names or frozenset()) for names in expected)

    def text_rule(self, source: str, target: str) -> str | None:
        """The rule that drops a pair by its text, None when it stays."""
        if not source.strip() or not target.strip():
            return "empty"
        if max(len(source), len(target)) > self._max_characters:
            return "too long"
        rules = self._rules
        odd_source, odd_target = self._source.odd(source), self._target.odd(target)
        if (odd_source or odd_target) and "control" in rules and any(map(_is_control, odd_source | odd_target)):
            return "control"
        if "copies" in rules and _is_copy(source, target):
            return "copies"
        if "script" in rules and (
            (odd_source and self._source.is_foreign(source)) or (odd_target and self._target.is_foreign(target))
        ):
            return "script"
        return None

    def length_rules(self, source: Array, target: Array) -> dict[int, str]:
        """The rules that drop pairs by their numbers of pieces, without end tokens: by the place in the arrays [N]."""
        short, long = np.minimum(source, target), np.maximum(source, target)
        broken = [short == 0, long > self._max_length, long > self._max_ratio * short]
        rules = np.select(broken, ["empty", "too long", "length ratio"], "")
        return {row: str(rules[row]) for row in np.flatnonzero(rules).tolist()}


class Repeats:
    """Says which pairs of a corpus the rules "leaks" and "duplicates" drop."""

    def __init__(self, data: Data, evaluation: Array) -> None:
        """``evaluation`` holds the :func:`pair_hash` of each pair of the validation and test sets, in order."""
        self._rules, self._evaluation, self._seen = frozenset(data.drop), evaluation, _Seen()

    def rules(self, hashes: Array, rows: Array) -> dict[int, str]:
        """The rules that drop ``rows`` of some pairs, by row; to be asked of all pairs in their order."""
        found = dict[int, str]()
        if "leaks" in self._rules:
            leaks = are_among(hashes[rows], self._evaluation)
            found |= dict.fromkeys(rows[leaks].tolist(), "leaks")
            rows = rows[~leaks]
        if "duplicates" in self._rules:
            found |= dict.fromkeys(rows[~self._seen.add(hashes[rows])].tolist(), "duplicates")
        return found


def are_among(hashes: Array, known: Array) -> npt.NDArray[np.bool_]:
    """Which of some hashes [N] are among others that are in order."""
    if len(known) == 0:
        return np.zeros(len(hashes), bool)
    return np.equal(known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)], hashes)


class _Seen:
    """A set of hashes in sorted arrays, each more than twice as long as the next: 8 bytes a hash where a set has 90."""

    def __init__(self) -> None:
        self._runs: list[Array] = []

    def add(self, hashes: Array) -> npt.NDArray[np.bool_]:
        """Add hashes [N]; return which of them are new."""
        added, first = np.unique(hashes, return_index=True)  # sorted; of equal ones the first
        for run in self._runs:
            absent = ~are_among(added, run)
            added, first = added[absent], first[absent]
        while self._runs and len(self._runs[-1]) <= 2 * len(added):
            added = np.sort(np.concatenate([self._runs.pop(), added]), kind="stable")  # which merges what is sorted
        if len(added):
            self._runs.append(added)
        new = np.zeros(len(hashes), bool)
        new[first] = True
        return new


class _Side:
    """One language: the characters that may make a line foreign or broken, and whether they do."""

    def __init__(self, expected: frozenset[str]) -> None:
        self._expected, self._latin = expected, "LATIN" in expected
        self._plain = set[str]()  # characters met that cannot: most lines have no others, and are done with quickly

    def odd(self, text: str) -> set[str]:
        """The control characters of a line and its letters of other scripts."""
        if (self._latin and text.isascii() and text.isprintable()) or self._plain.issuperset(text):
            return set()
        characters = set(text) - self._plain
        for character in list(characters):
            if not _is_control(character) and script(character) in (None, *self._expected):
                self._plain.add(character)
                characters.remove(character)
        return characters

    def is_foreign(self, text: str) -> bool:
        """Whether a line is in another script."""
        if not self._expected:
            return False
        counts = scripts(" ".join(word for word in text.split() if not _is_address(word)))
        letters = counts.total()
        if "LATIN" not in self._expected and counts["LATIN"] == letters >= _FOREIGN_LATIN:
            return True
        foreign = letters - sum(counts[name] for name in self._expected | _LATIN)
        return foreign >= _FOREIGN and 2 * foreign >= letters


def _is_control(character: str) -> bool:
    return character == "\ufffd" or (unicodedata.category(character) == "Cc" and not character.isspace())


def _is_address(word: str) -> bool:
    return any(sign in word for sign in _ADDRESS)


def _is_copy(source: str, target: str) -> bool:
    if source.split(None, 1)[0].casefold() != target.split(None, 1)[0].casefold():  # most are done with quickly
        return False
    if source.casefold().split() != target.casefold().split():
        return False
    return any(not _is_address(word) and any(map(str.isalpha, word)) for word in source.split())


@dataclass(frozen=True)
class Example:
    """A pair that was dropped, cut to what can be shown, and its place, such as ``train.de:17``."""

    place: str
    source: str
    target: str


def shown(example: dict[str, str]) -> str:
    """An example, as :meth:`Dropped.to_json` gives it, on a part of a line."""
    source, target = (shorten(example[side], 40, placeholder="…") for side in ("source", "target"))
    return f"{example['place']}: {source!r} = {target!r}"


@dataclass
class Dropped:
    """How many pairs each rule dropped, and the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, rule: str, place: str, source: str, target: str) -> None:
        """Count a pair that ``rule`` drops."""
        self.counts[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(Example(place, source[:_SHOWN], target[:_SHOWN]))

    def to_json(self) -> dict[str, Any]:
        """As plain values, the most frequent rule first: ``{"copies": {"pairs": 7, "examples": [{"place": …}]}}``."""
        return {
            rule: {"pairs": count, "examples": [asdict(example) for example in self.examples[rule]]}
            for rule, count in self.counts.most_common()
        }

    def __str__(self) -> str:
        """``7 copies, 2 script``; empty when nothing was dropped."""
        return ", ".join(f"{count:,} {rule}" for rule, count in self.counts.most_common())
