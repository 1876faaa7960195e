"""How well a tokenizer knows a text: pieces a word, characters that it has to write in bytes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

_SAMPLE = 100_000  # lines that are looked at
_SHOWN = 20  # characters


@dataclass(frozen=True)
class Coverage:
    """Counts over a sample of lines."""

    lines: int
    words: int  # between spaces
    pieces: int
    byte_pieces: int  # byte fallback: one a byte of a character that has no piece
    unknown: dict[str, int]  # the most frequent characters that are written in bytes

    @property
    def byte_rate(self) -> float:
        """The share of pieces that are single bytes."""
        return self.byte_pieces / max(1, self.pieces)

    @property
    def shown(self) -> str:
        """The first ten unknown characters, by their number where they cannot be seen."""
        return " ".join(
            c if c.isprintable() and not c.isspace() else f"U+{ord(c):04X}" for c in list(self.unknown)[:10]
        )


def coverage(encode: Any, processor: Any, lines: Iterable[str]) -> Coverage:
    """Count over the first lines; ``encode`` turns lines into ids of the SentencePiece ``processor``."""
    some = list(islice(lines, _SAMPLE))
    ids: Counter[int] = Counter()
    for encoded in encode(some):
        ids.update(encoded)
    characters: Counter[str] = Counter()
    for line in some:
        characters.update(line)
    known = list(characters)
    in_bytes = {c for c, pieces in zip(known, encode(known), strict=True) if any(map(processor.is_byte, pieces))}
    unknown = [(c, count) for c, count in characters.most_common() if c in in_bytes]
    return Coverage(
        lines=len(some),
        words=sum(len(line.split()) for line in some),
        pieces=ids.total(),
        byte_pieces=sum(count for piece, count in ids.items() if processor.is_byte(piece)),
        unknown=dict(unknown[:_SHOWN]),
    )
