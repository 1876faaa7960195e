"""What parallel text is like, and what about it is suspicious: pure functions of the lines.

All of it is looked at, but what is *learnt* from the text (which words go together, what letters a language is made of)
is learnt from at most 50,000 pairs from all over it. Time is linear: 200,000 pairs of long lines take some ten seconds.
Memory is some 300 MB and 500 bytes a pair, beside the text itself.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import ne
from typing import Literal

import numpy as np

from transformer_mt.config import Languages
from transformer_mt.data.doctor import misalignment, strays
from transformer_mt.data.doctor.letters import CHUNK, Array, classify, code_points, distinct
from transformer_mt.terminal import percent

Lines = Sequence[str]
Severity = Literal["problem", "note"]

_EXAMPLES = 5
_WIDTH = 100  # characters of an example
_FEWEST = 20  # pairs; of fewer nothing is said of languages and scripts
_UNRELATED = 1_000, 50  # pairs, and words that recur: of less text it is not said that its lines are unrelated
_LEAKED_PAIRS = 3, 0.0025  # normalised pairs of an evaluation set that are in training: so many, and such a share
_LEAKED_SOURCES = 5, 0.0065
_SHORT = 12, 18  # letters and digits, and bytes (six kanji): "Thank you." may be in training and test set by right
_SWAPPED = 5, 0.003
_SWAPPED_NATS = 2.0, 6.0  # that each side, and both together, must look like the other language
_UNTRANSLATED, _UNTRANSLATED_NATS = (5, 0.001), 5.0
_STRANGE = 5, 0.005  # lines in a script that is not that of their side
_AT_HOME = 0.2  # share of lines that make a script one of those that a side is written in
_DUPLICATES = 0.05


@dataclass(frozen=True)
class Finding:
    """Something suspicious. A ``problem`` makes training or its score worse; a ``note`` may be as it should be.

    ``lines`` are those that it means, counted from 1, where it means single lines.
    """

    kind: str
    severity: Severity
    message: str
    examples: list[str]
    lines: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Histogram:
    """Lines by length: ``edges`` [b + 1], and counts [b] of lines with edges[i] <= length < edges[i + 1]."""

    edges: list[int]
    source: list[int]
    target: list[int]


@dataclass(frozen=True)
class Leak:
    """How many pairs of an evaluation set are in the training text.

    ``pairs`` and ``sources`` are exact; the normalised ones are without regard to case, width, punctuation and spaces.
    Short ones, which may be in both by right, are left out. ``lines`` are those of the set whose normalised source is
    found, alone or in its pair; ``training`` is the first training line of each. Lines count from 1.
    """

    size: int
    pairs: int
    sources: int
    normalised_pairs: int
    normalised_sources: int
    normalised_targets: int
    lines: list[int]
    training: list[int]


@dataclass(frozen=True)
class Examination:
    """What was found out about training text. ``dataclasses.asdict`` makes JSON of it."""

    pairs: int
    characters: Histogram
    words: Histogram
    median: dict[str, int]  # characters of a line, by side
    longest: dict[str, tuple[int, int]]  # line and characters
    empty: dict[str, int]
    copies: int  # pairs with the same text on both sides
    duplicates: dict[str, int]  # pairs, sources, targets that were there before
    ambiguous: dict[str, int]  # different pairs of which the source, or the target, was there before
    leaks: dict[str, Leak]
    fit: float | None  # mean nats that speak for lines of a pair belonging together; None: too few
    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        """The findings that need something done."""
        return [finding for finding in self.findings if finding.severity == "problem"]


def examine(
    sources: Lines,
    targets: Lines,
    languages: Languages,
    evaluation: Mapping[str, tuple[Lines, Lines]],
    names: tuple[str, str] = ("source", "target"),
) -> Examination:
    """Look at training text: line i of ``targets`` is the translation of line i of ``sources``.

    ``evaluation`` holds the validation and test sets by name, ``names`` is what to call the sides, such as their files.
    """
    text = _Text(sources, targets, (languages.source, languages.target), names)
    sides = dict(zip(("source", "target"), (sources, targets), strict=True))
    hashes = [_hashes(side) for side in (sources, targets)]
    pairs = len(distinct(_join(*hashes)))
    different = {side: len(distinct(h)) for side, h in zip(sides, hashes, strict=True)}
    lengths = [np.fromiter(map(len, side), np.int64, text.size) for side in (sources, targets)]
    leaks = _leaks(hashes, sources, targets, evaluation) if evaluation else {}
    duplicates = {"pairs": text.size - pairs, **{side: text.size - count for side, count in different.items()}}
    fit, misaligned = _misaligned(text)
    findings = [
        *misaligned,
        *_strays(text),
        *(finding for name, leak in leaks.items() for finding in _leakage(text, name, leak, evaluation[name])),
        *_duplicates(text, duplicates["pairs"]),
    ]
    return Examination(
        pairs=text.size,
        characters=_histogram(*lengths),
        words=_histogram(
            *(np.fromiter((len(line.split()) for line in side), np.int64, text.size) for side in sides.values())
        ),
        median={side: int(np.median(n)) if text.size else 0 for side, n in zip(sides, lengths, strict=True)},
        longest={
            side: (int(n.argmax()) + 1, int(n.max())) if text.size else (0, 0)
            for side, n in zip(sides, lengths, strict=True)
        },
        empty={side: sum(not line.strip() for line in lines) for side, lines in sides.items()},
        copies=sum(s == t != "" for s, t in zip(sources, targets, strict=True)),
        duplicates=duplicates,
        ambiguous={side: pairs - count for side, count in different.items()},
        leaks=leaks,
        fit=fit,
        findings=sorted(findings, key=lambda finding: finding.severity == "note"),
    )


@dataclass(frozen=True)
class _Text:
    sources: Lines
    targets: Lines
    codes: tuple[str, str]
    names: tuple[str, str]

    @property
    def size(self) -> int:
        return len(self.sources)

    def finding(self, kind: str, severity: Severity, message: str, rows: Array) -> Finding:
        """A finding that means the pairs of ``rows``."""
        return Finding(kind, severity, message, self.examples(rows), (rows + 1).tolist())

    def examples(self, rows: Array) -> list[str]:
        """A few of the pairs, evenly chosen."""
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _EXAMPLES).astype(int))] if len(rows) else rows
        return [f"line {row + 1}: {_cut(self.sources[row])} | {_cut(self.targets[row])}" for row in chosen.tolist()]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH // 2 else line[: _WIDTH // 2 - 1] + "…"


def _enough(count: int, size: int, limit: tuple[int, float]) -> bool:
    return count >= max(limit[0], limit[1] * size)


# -- Lengths and copies


def _histogram(source: Array, target: Array) -> Histogram:
    edges = [0, 1, *(round(2 ** (half / 2)) for half in range(2, 25))]  # 0, 1, 2, 3, 4, 6, 8, 11, … 4096
    counts = [np.histogram(np.minimum(side, edges[-1] - 1), edges)[0].tolist() for side in (source, target)]
    return Histogram(edges, *counts)


def _hashes(lines: Lines) -> Array:
    """64-bit hashes, equal for equal lines of one process."""
    return np.fromiter(map(hash, lines), np.int64, len(lines))


def _join(source: Array, target: Array) -> Array:
    """Hashes of pairs."""
    joined: Array = source * np.int64(0x2545F4914F6CDD1D) + (target ^ (target >> 31))
    return joined


def _duplicates(text: _Text, count: int) -> list[Finding]:
    if not text.size or count < _DUPLICATES * text.size:
        return []
    share = percent(count, text.size)
    message = (
        f"{text.names[0]}: {count:,} pairs ({share}) are there more than once; drop the copies to train on each once"
    )
    return [Finding("duplicates", "note", message, [])]


# -- Training text that is in an evaluation set


def normalise(lines: Lines) -> list[str]:
    """Lines without what tells a copy from its original: case, width (NFKC), punctuation, spaces and symbols."""
    result: list[str] = []
    for start in range(0, len(lines), CHUNK):
        codes, _ = code_points(lines[start : start + CHUNK])
        kept = classify(codes, lambda character: character == "\n" or unicodedata.category(character)[0] in "LMN") != 0
        result += codes[kept].tobytes().decode("utf-32-le", "surrogatepass").split("\n")[:-1]
    return result


def _leaks(
    hashes: list[Array], sources: Lines, targets: Lines, evaluation: Mapping[str, tuple[Lines, Lines]]
) -> dict[str, Leak]:
    normalised = [_hashes(normalise(side)) for side in (sources, targets)]
    train = {"pairs": _join(*hashes), "sources": hashes[0], "normalised_pairs": _join(*normalised)}
    train |= {"normalised_sources": normalised[0], "normalised_targets": normalised[1]}
    firsts = {key: np.unique(values, return_index=True) for key, values in train.items()}
    leaks = {}
    for name, given in evaluation.items():
        exact = [_hashes(side) for side in given]
        plain = [normalise(side) for side in given]
        bare = [_hashes(side) for side in plain]
        keys = (_join(*exact), exact[0], _join(*bare), bare[0], bare[1])
        long = [np.fromiter(map(_is_long, side), bool, len(side)) for side in plain]
        counted = (long[0] | long[1], long[0], long[0] | long[1], long[0], long[1])
        found = {
            key: np.where(count, _find(firsts[key], values), -1)
            for key, values, count in zip(train, keys, counted, strict=True)
        }
        pairs, alike = found["normalised_pairs"], found["normalised_sources"]
        training = np.where(pairs >= 0, pairs, alike)
        rows = np.flatnonzero(training >= 0)
        counts = {key: int((values >= 0).sum()) for key, values in found.items()}
        leaks[name] = Leak(
            size=len(exact[0]), **counts, lines=(rows + 1).tolist(), training=(training[rows] + 1).tolist()
        )
    return leaks


def _is_long(line: str) -> bool:
    return len(line) >= _SHORT[0] or len(line.encode("utf-8", "surrogatepass")) >= _SHORT[1]


def _find(firsts: tuple[Array, Array], keys: Array) -> Array:
    """The row where each key was first seen; -1 for one that never was."""
    values, rows = firsts
    if not len(values):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(values, keys), len(values) - 1)
    return np.where(values[at] == keys, rows[at], -1)


def _leakage(text: _Text, name: str, leak: Leak, given: tuple[Lines, Lines]) -> list[Finding]:
    if not leak.lines:  # the same target of another source says nothing
        return []
    problem = _enough(leak.normalised_pairs, leak.size, _LEAKED_PAIRS) or _enough(
        leak.normalised_sources, leak.size, _LEAKED_SOURCES
    )
    near = "" if leak.normalised_pairs == leak.pairs else f" ({leak.pairs:,} to the letter)"
    message = (
        f"{name}: of {leak.size:,} pairs {leak.normalised_pairs:,} are in {text.names[0]}{near}, "
        f"{leak.normalised_sources:,} with their source, {leak.normalised_targets:,} with their target; "
        + ("remove them from the training text, or the score is too good" if problem else "so few change no score")
    )
    examples = [
        f"{name} line {line}, training line {training}: {_cut(given[0][line - 1])} | {_cut(given[1][line - 1])}"
        for line, training in list(zip(leak.lines, leak.training, strict=True))[:_EXAMPLES]
    ]
    return [Finding("leakage", "problem" if problem else "note", message, examples, leak.training)]


# -- Lines beside their translation


def _misaligned(text: _Text) -> tuple[float | None, list[Finding]]:
    if text.size < misalignment.SMALLEST:
        return None, []
    aligner = misalignment.Aligner(text.sources, text.targets)
    source, target = text.names
    if aligner.information < misalignment.UNRELATED:
        if text.size < _UNRELATED[0] or aligner.vocabulary < _UNRELATED[1]:
            return aligner.information, []
        message = (
            f"{target}: its lines do not seem to be translations of those of {source} (by length and words any two "
            "lines go together as well); check that the files belong together and are in the same order"
        )
        return aligner.information, [Finding("unrelated", "problem", message, text.examples(np.arange(text.size)))]
    findings = []
    for shift in misalignment.shifts(aligner):
        first, last, count = shift.first + 1, shift.last + 1, shift.last - shift.first + 1
        lines = f"{abs(shift.offset)} line{'s' * (abs(shift.offset) > 1)} {'later' if shift.offset > 0 else 'earlier'}"
        surplus, short = (target, source) if shift.offset > 0 else (source, target)
        message = (
            f"{target}:{first}-{last}: {count:,} lines of {source} fit better with the target {lines} "
            f"({shift.shifted_fit:.1f} against {shift.fit:.1f} nats a line); near line {first} {surplus} has too many, "
            f"or {short} too few: mend that there, and the opposite near line {last}"
        )
        findings.append(text.finding("shifted", "problem", message, np.arange(shift.first, shift.last + 1)))
    return aligner.information, findings


# -- Lines in the wrong language or script


def _strays(text: _Text) -> list[Finding]:
    if text.size < _FEWEST:
        return []
    source, target = strays.belonging(text.sources, text.targets)
    each, both = _SWAPPED_NATS
    different = np.fromiter(map(ne, text.sources, text.targets), bool, text.size)
    swapped = (source < -each) & (target < -each) & (source + target < -both) & different
    findings = []
    if _enough(count := int(swapped.sum()), text.size, _SWAPPED):
        message = (
            f"{text.names[0]}: {count:,} pairs ({percent(count, text.size)}) seem to be swapped: what stands here "
            f"belongs into {text.names[1]}, and the other way round; exchange the sides of these lines, or drop them"
        )
        findings.append(text.finding("swapped", "problem", message, np.flatnonzero(swapped)))
    for side, (own, other) in enumerate(((source, target), (target, source))):
        untranslated = (own < -_UNTRANSLATED_NATS) & (other > 0)
        if _enough(count := int(untranslated.sum()), text.size, _UNTRANSLATED):
            message = (
                f"{text.names[side]}: {count:,} lines ({percent(count, text.size)}) seem to be in the language of "
                f"{text.names[1 - side]}; drop those that are not translated"
            )
            findings.append(text.finding("untranslated", "note", message, np.flatnonzero(untranslated)))
        findings += _strange(text, side, (source >= 0) | (target >= 0))
    return findings


def _strange(text: _Text, side: int, among: Array) -> list[Finding]:
    """Lines in a script in which few lines of their side are."""
    home, names, script = strays.scripts_of_lines((text.sources, text.targets)[side], text.codes[side], _AT_HOME)
    strange = among & (script >= 0) & ~np.isin(script, [names.index(name) for name in home if name in names])
    count = int(strange.sum())
    if not count:
        return []
    found = np.bincount(script[strange], minlength=len(names))
    listed = ", ".join(f"{names[i].title()} {found[i]:,}" for i in np.argsort(-found) if found[i])
    message = (
        f"{text.names[side]}: {count:,} lines ({percent(count, text.size)}) are in another script than "
        f"{', '.join(name.title() for name in home)} ({listed}); drop them, or look for the file that they come from"
    )
    severity: Severity = "problem" if _enough(count, text.size, _STRANGE) else "note"
    return [text.finding("script", severity, message, np.flatnonzero(strange))]
