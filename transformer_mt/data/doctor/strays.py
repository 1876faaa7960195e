"""Lines that are in the wrong file or in the wrong script, told by letters alone."""

from collections.abc import Sequence

import numpy as np

from transformer_mt.data.doctor.letters import CHUNK, Array, classify, code_points, trigrams
from transformer_mt.data.writing import expected_scripts, script

_CHARACTERS = 64  # of a line tell its language and script
_BITS = 20
_LEARN = 50_000  # lines of each side to learn from
_SMOOTH = 0.5
_LETTERS = 5  # of a line tell its script
_CAP = 3.0  # nats for a trigram

_FAMILY = dict.fromkeys(("HIRAGANA", "KATAKANA", "BOPOMOFO"), "CJK")


def belonging(sources: Sequence[str], targets: Sequence[str]) -> tuple[Array, Array]:
    """How many nats speak for each source line being in the language of the source side, and each target of its own.

    Naive Bayes over character trigrams, learnt from both sides as they are; what a line itself adds to the counts is
    left out.
    """
    count = len(sources)
    step = max(1, count // _LEARN)
    tables = np.zeros((2, 1 << _BITS), np.float64)
    for side, lines in enumerate((sources, targets)):
        sample = lines[::step]
        for start in range(0, len(sample), CHUNK):
            _, grams = trigrams(sample[start : start + CHUNK], _CHARACTERS, _BITS)
            tables[side] += np.bincount(grams, minlength=1 << _BITS)
    totals = np.log(tables.sum(1) + _SMOOTH * (1 << _BITS))
    logs = np.log(tables + _SMOOTH)
    results = []
    for own, lines in enumerate((sources, targets)):
        other = 1 - own
        normal = logs[own] - totals[own] - logs[other] + totals[other]
        left_out = np.log(np.maximum(tables[own] - 1, 0) + _SMOOTH) - totals[own] - logs[other] + totals[other]
        score = np.zeros(count)
        for start in range(0, count, CHUNK):
            part = lines[start : start + CHUNK]
            line, grams = trigrams(part, _CHARACTERS, _BITS)
            learnt = (line + start) % step == 0
            nats = np.where(learnt, left_out[grams], normal[grams])
            score[start : start + CHUNK] = np.bincount(line, np.clip(nats, -_CAP, _CAP), minlength=len(part))
        results.append(score)
    return results[0], results[1]


def scripts_of_lines(lines: Sequence[str], language: str, share: float) -> tuple[list[str], list[str], Array]:
    """The scripts that lines are in: those at home, all by name, and for each line a number of these, [n].

    A line is in the script of two thirds of its letters, or in none (-1): they are too few or too mixed. A script is at
    home when ``share`` of those lines are in it, or when the language is written in it. Kana count as Chinese
    characters.
    """
    names: list[str] = []

    def number(character: str) -> int:
        name = script(character)
        name = _FAMILY.get(name, name) if name else None
        if name and name not in names and len(names) < 100:
            names.append(name)
        return names.index(name) if name in names else -1

    numbers = []
    for start in range(0, len(lines), CHUNK):
        part = lines[start : start + CHUNK]
        codes, line = code_points(text[:_CHARACTERS] for text in part)
        kind = classify(codes, number)
        letters, width = kind >= 0, max(len(names), 1)
        counts = np.bincount(line[letters] * width + kind[letters], minlength=width * len(part)).reshape(-1, width)
        most, total = counts.max(1), counts.sum(1)
        numbers.append(np.where((total >= _LETTERS) & (3 * most >= 2 * total), counts.argmax(1), -1))
    found = np.concatenate(numbers)
    counts = np.bincount(found[found >= 0], minlength=len(names))
    written = {_FAMILY.get(name, name) for name in expected_scripts(language) or ()}
    home = [name for name, count in zip(names, counts, strict=True) if count >= share * counts.sum() or name in written]
    return home, names, found
