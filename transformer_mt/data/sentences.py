"""Sentences: where a line of several ends one and begins the next, by rules over Unicode punctuation."""

import re
from collections.abc import Iterable

from transformer_mt.data.writing import language_code

_OPENERS = "\"'“”„‟‘’‚«»‹›([「『（【〈《〔¿¡–—- \u00a0\u202f"
_FULL_WIDTH = "。！？｡"  # no space follows them
_CLOSERS = r"""["'”’»›)\]」』）】〉》〕]"""  # and, where no opening quote can follow, “ as in German
_ENDS = re.compile(
    rf"(?P<mark>[.!?…‽؟۔।॥։።။]+|[{_FULL_WIDTH}]+)"
    rf"(?P<closers>(?<=[{_FULL_WIDTH}]){_CLOSERS}*|(?:{_CLOSERS}|[“‘«‹])*(?:[ \u00a0\u202f][»›](?=\s|$))?)"
    r"(?P<space>\s*)"
)
_NEAR = 24  # characters on either side of a mark that are looked at
_NO_SPACES = frozenset({"zh", "ja", "th"})
_WRITE_ORDINALS = "bs cs da de et fi fo hr hu is lb lv nb nn no pl sk sl sr tr"  # 3. for third
_SHORT = """
mr mrs ms messrs dr prof st sr jr rev hon gen capt lt sgt vs etc approx dept inc ltd
hr fr usw bzw ca evtl ggf vgl sog geb inkl zzgl bspw str tel dipl ing
mme mmes mlle mlles mm sra srta srs dra ud uds pág dott sig sigg ecc
dhr mevr bijv enz hrn frk osv dvs mgr np itd tzn tzv např ул тыс млн млрд
"""
_SHORT_BEFORE_NUMBERS = """
no nos nr núm vol fig figs art pp ch sec eq cap kap abb abs bd tab
jan feb mar apr jun jul aug sep sept oct okt nov dec dez
"""
_ORDINALS, _ABBREVIATIONS, _BEFORE_NUMBERS = (
    frozenset(words.split()) for words in (_WRITE_ORDINALS, _SHORT, _SHORT_BEFORE_NUMBERS)
)


def split_sentences(line: str, language: str = "und") -> list[str]:
    """The sentences of a line, without the white space between them; none of a blank line.

    A sentence ends at a full stop, an exclamation or question mark or an ellipsis, with the quotes and brackets that
    close behind it, where white space and something that can begin a sentence follow. Where in doubt, as after an
    abbreviation, it goes on: half a sentence is harder to translate than two.
    """
    ordinals = language_code(language) in _ORDINALS
    line, start = line.strip(), 0
    sentences = []
    for end in _ENDS.finditer(line):
        if _ends(line, start, end, ordinals=ordinals):
            sentences.append(line[start : end.start("space")])
            start = end.end()
    return [*sentences, line[start:]] if line[start:] else sentences


def join_sentences(sentences: Iterable[str], language: str) -> str:
    """Sentences on one line again, as ``language`` writes them: with spaces between, or without."""
    return ("" if language_code(language) in _NO_SPACES else " ").join(filter(None, sentences))


def _ends(line: str, start: int, end: re.Match[str], *, ordinals: bool) -> bool:
    """Whether the sentence that begins at ``start`` ends at the mark."""
    following = line[end.end() : end.end() + _NEAR].lstrip(_OPENERS)[:1]
    if end["mark"][0] in _FULL_WIDTH:
        # A quotation goes on with a particle: 「…。」と
        return not ("\u3041" <= following <= "\u309f" and end["closers"] and not end["space"])
    # Lower case has another title case; digits and letters of scripts without case are their own.
    if not end["space"] or not following.isalnum() or following.title() != following:
        return False
    before = line[max(start, end.start() - _NEAR) : end.start()]
    if end["mark"] != ".":
        return end["mark"][0] not in ".…" or not before[-1:].isspace()  # an ellipsis may stand for words
    word = re.split(r"[\s(\[\"'“„«»‚‘’/–—-]", before)[-1]
    if word.isdecimal():  # the number of a list; the third of October, but not 1990
        return before.strip() != word and not (ordinals and len(word) <= 2)
    initial = len(word) == 1 and word.upper() != word.lower()
    abbreviation = word.lower() in _ABBREVIATIONS or re.fullmatch(r"(\w\.)+\w", word)
    return not (initial or abbreviation or (word.lower() in _BEFORE_NUMBERS and following.isdecimal()))
