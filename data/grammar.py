"""A synchronous English-German grammar: phrases and clauses with word links.

Every word carries the numbers of the meanings that it expresses; an English
and a German word are aligned where they share one. A clause holds its parts
once and spells them out in the word order of either language.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lexicon import Adjective, Noun, Verb, german_stem, inflected_stem, needs_e


class Word(NamedTuple):
    """A word and the numbers of the meanings that link it to the other language."""

    text: str
    links: frozenset[int]


Words = list[Word]
COMMA = Word(",", frozenset())
_counter = itertools.count()


def words(text: str, *links: int) -> Words:
    """Make the words of a text, all with the same links."""
    return [Word(t, frozenset(links)) for t in text.split()]


def link() -> int:
    """Return a fresh link number."""
    return next(_counter)


# Endings by gender (p: plural) in the order nominative, accusative, dative, genitive.
CASES = ("nom", "acc", "dat", "gen")
DEFINITE = {
    "m": "der den dem des", "f": "die die der der", "n": "das das dem des", "p": "die die den der",
}  # fmt: skip
DIESER = {"m": "er en em es", "f": "e e er er", "n": "es es em es", "p": "e e en er"}
EIN = {"m": "- en em es", "f": "e e er er", "n": "- - em es", "p": "e e en er"}
WEAK = {"m": "e en en en", "f": "e e en en", "n": "e e en en", "p": "en en en en"}
MIXED = {"m": "er en en en", "f": "e e en en", "n": "es es en en", "p": "en en en en"}
STRONG = {"m": "er en em en", "f": "e e er er", "n": "es es em en", "p": "e e en er"}
RELATIVE = {
    "m": "der den dem dessen", "f": "die die der deren", "n": "das das dem dessen",
    "p": "die die denen deren",
}  # fmt: skip
CONTRACTIONS = {
    "in dem": "im", "in das": "ins", "an dem": "am", "an das": "ans", "zu dem": "zum",
    "zu der": "zur", "von dem": "vom", "bei dem": "beim",
}  # fmt: skip

# English subject, object; German nominative, accusative, dative; person; plural.
PRONOUNS = {
    "I": ("I", "me", "ich", "mich", "mir", 1, False),
    "you": ("you", "you", "du", "dich", "dir", 2, False),
    "he": ("he", "him", "er", "ihn", "ihm", 3, False),
    "she": ("she", "her", "sie", "sie", "ihr", 3, False),
    "we": ("we", "us", "wir", "uns", "uns", 1, True),
    "they": ("they", "them", "sie", "sie", "ihnen", 3, True),
    "they:it": ("they", "them", "sie", "sie", "ihnen", 3, True),
    "it:m": ("it", "it", "er", "ihn", "ihm", 3, False),
    "it:f": ("it", "it", "sie", "sie", "ihr", 3, False),
    "it:n": ("it", "it", "es", "es", "ihm", 3, False),
}
POSSESSIVES = {
    "I": ("my", "mein"), "you": ("your", "dein"), "he": ("his", "sein"), "she": ("her", "ihr"),
    "we": ("our", "unser"), "they": ("their", "ihr"),
}  # fmt: skip
# English | German | German endings of the determiner | endings of the adjective
DETERMINERS = {
    "the": ("the", "", DEFINITE, WEAK),
    "a": ("a", "ein", EIN, MIXED),
    "no": ("no", "kein", EIN, MIXED),
    "this": ("this", "dies", DIESER, WEAK),
    "every": ("every", "jed", DIESER, WEAK),
    "which": ("which", "welch", DIESER, WEAK),
    "many": ("many", "viel", STRONG, STRONG),
    "some": ("some", "einig", STRONG, STRONG),
}


def ending(table: dict[str, str], gender: str, case: str) -> str:
    """Look an ending up."""
    return table[gender].split()[CASES.index(case)].replace("-", "")


def german_noun(noun: Noun, plural: bool, case: str) -> str:
    """Inflect a German noun."""
    if plural:
        form = noun.de_plural
        return form + "n" if case == "dat" and form[-1] not in "ns" else form
    if noun.weak and case != "nom":
        return noun.de + ("n" if noun.de[-1] == "e" or noun.de == "Bauer" or noun.de == "Nachbar"
                          else "en")  # fmt: skip
    if case == "gen" and noun.gender != "f":
        monosyllable = sum(c in "aeiouäöü" for c in noun.de.lower()) == 1
        if noun.de.endswith("us"):
            return noun.de + ("ses" if noun.de == "Bus" else "es" if noun.de[-3] == "a" else "")
        return noun.de + ("es" if monosyllable or noun.de[-1] in "sßzx" else "s")
    return noun.de


@dataclass
class Phrase:
    """A noun phrase: its English and German words by case, and its agreement features."""

    english: Callable[[str], Words]
    german: Callable[[str], Words]
    person: int = 3
    plural: bool = False
    pronoun: str = ""  # the key in PRONOUNS that takes it up
    gender: str = "m"
    is_pronoun: bool = False
    definite: bool = True

    @property
    def inanimate(self) -> bool:
        """Tell whether the phrase names no person."""
        return ":" in self.pronoun


def pronoun(key: str) -> Phrase:
    """Make a personal pronoun."""
    en_nom, en_obj, nom, acc, dat, person, plural = PRONOUNS[key]
    n = link()
    forms = {"nom": nom, "acc": acc, "dat": dat}
    gender = {"she": "f", "it:f": "f", "it:n": "n"}.get(key, "m")
    return Phrase(
        lambda case: words(en_nom if case == "nom" else en_obj, n),
        lambda case: words(forms[case], n),
        person, plural, key, gender, True,
    )  # fmt: skip


def name(text: str, key: str) -> Phrase:
    """Make a person's name."""
    n = link()
    return Phrase(lambda c: words(text, n), lambda c: words(text, n), 3, False, key,
                  "m" if key == "he" else "f")  # fmt: skip


def noun_phrase(
    noun: Noun,
    determiner: str = "the",
    adjectives: tuple[Adjective, ...] = (),
    plural: bool = False,
    number: tuple[str, str] | None = None,
    tail: tuple[Words, Words] | None = None,
    compare: bool = False,
    negation: int | None = None,
) -> Phrase:
    """Build a noun phrase; a determiner is a key, "of:<possessor pronoun>" or "".

    With the link of a clause's negation, German says kein for English not (a).
    """
    if plural and determiner == "a":
        determiner = "some"
    d, m, n = link(), link(), link()
    adjective_links = [link() for _ in adjectives]
    row = "p" if plural else noun.gender
    en_det, de_det, det_endings, adj_endings = "", "", DIESER, STRONG
    if determiner.startswith("of:"):
        en_det, de_det = POSSESSIVES[determiner[3:]]
        det_endings, adj_endings = EIN, MIXED
    elif determiner:
        en_det, de_det, det_endings, adj_endings = DETERMINERS[determiner]
    if determiner == "this" and plural:
        en_det = "these"

    def english(case: str) -> Words:
        rest: Words = words(number[0], m) if number else []
        for adj, a in zip(adjectives, adjective_links, strict=True):
            rest += words(adj.en_comparative if compare else adj.en, a)
        rest += words(noun.en_plural if plural else noun.en, n)
        det = en_det
        if det == "a" and rest[0].text[0] in "aeiou" and not rest[0].text.startswith("use"):
            det = "an"
        return words(det, d) + rest + (tail[0] if tail else [])

    def german(case: str) -> Words:
        out: Words = []
        if negation is not None:
            out += words("kein" + ending(EIN, row, case), d, negation)
        elif determiner:
            out += words(de_det + ending(det_endings, row, case), d)
        if number:
            out += words(number[1], m)
        for adj, a in zip(adjectives, adjective_links, strict=True):
            stem = adj.de_comparative if compare else inflected_stem(adj.de).removesuffix("e")
            endings = MIXED if negation is not None else adj_endings
            out += words(stem + ending(endings, row, case), a)
        out += words(german_noun(noun, plural, case), n)
        return out + (tail[1] if tail else [])

    many = "they:it" if noun.pronoun == "it" else "they"
    key = many if plural else f"it:{noun.gender}" if noun.pronoun == "it" else noun.pronoun
    return Phrase(english, german, 3, plural, key, noun.gender,
                  definite=determiner not in ("a", "", "no", "many", "some"))  # fmt: skip


def join(first: Phrase, second: Phrase) -> Phrase:
    """Coordinate two phrases with and."""
    n = link()
    return Phrase(
        lambda c: first.english(c) + words("and", n) + second.english(c),
        lambda c: first.german(c) + words("und", n) + second.german(c),
        3, True, "they",
    )  # fmt: skip


def preposition(en: str, de: str, phrase: Phrase, case: str) -> tuple[Words, Words]:
    """Put a preposition before a phrase, contracting in dem to im."""
    p = link()
    german = phrase.german(case)
    short = CONTRACTIONS.get(f"{de} {german[0].text}")
    if short:
        german = [Word(short, german[0].links | {p}), *german[1:]]
    else:
        german = words(de, p) + german
    return words(en, p) + phrase.english("obj"), german


class Part(NamedTuple):
    """A complement or adverbial with its places in the two word orders."""

    en: Words
    de: Words
    en_slot: int
    de_slot: int


# German middle field: pronouns, time, dative, accusative, manner, nicht, place, predicate.
SLOTS = {"pron": 0, "time": 1, "adverb": 2, "dat": 3, "acc": 4, "manner": 6, "not": 5, "place": 7,
         "pred": 8}  # fmt: skip
# English after the verb: indirect and direct object, predicate, manner, place, time.
EN_SLOTS = {"adverb": -1, "particle": 0, "dat": 1, "acc": 2, "pred": 3, "place": 5, "manner": 4,
            "time": 6}  # fmt: skip


def part(role: str, en: Words, de: Words, german_role: str = "") -> Part:
    """Make a part by the name of its role."""
    return Part(en, de, EN_SLOTS[role], SLOTS[german_role or role])


@dataclass(frozen=True)
class Modal:
    """A modal verb in the present or past."""

    en: tuple[str, str, str]  # third person, other, base form under do-support or ""
    de: tuple[str, str, str, str]  # ich, du, er, wir/sie
    past: bool = False


MODALS = {
    "can": Modal(("can", "can", ""), ("kann", "kannst", "kann", "können")),
    "must": Modal(("must", "must", ""), ("muss", "musst", "muss", "müssen")),
    "want": Modal(("wants to", "want to", "want to"), ("will", "willst", "will", "wollen")),
    "may": Modal(("may", "may", ""), ("darf", "darfst", "darf", "dürfen")),
    "should": Modal(("should", "should", ""), ("sollte", "solltest", "sollte", "sollten")),
    "could": Modal(("could", "could", ""), ("konnte", "konntest", "konnte", "konnten"), True),
    "had": Modal(("had to", "had to", "have to"), ("musste", "musstest", "musste", "mussten"), True),
    "wanted": Modal(("wanted to", "wanted to", "want to"), ("wollte", "wolltest", "wollte", "wollten"), True),
    "would": Modal(("would like to", "would like to", ""), ("möchte", "möchtest", "möchte", "möchten")),
}
BE = {"present": ("am", "are", "is"), "past": ("was", "were", "was")}
SEIN = {
    "present": ("bin", "bist", "ist", "sind"),
    "past": ("war", "warst", "war", "waren"),
}
HABEN = {
    "present": ("habe", "hast", "hat", "haben"),
    "past": ("hatte", "hattest", "hatte", "hatten"),
}
WERDEN = {
    "present": ("werde", "wirst", "wird", "werden"),
    "past": ("wurde", "wurdest", "wurde", "wurden"),
}


def german_cell(forms: tuple[str, str, str, str], subject: Phrase) -> str:
    """Choose the form that agrees with the subject."""
    return forms[3] if subject.plural else forms[subject.person - 1]


def german_present(verb: Verb, subject: Phrase) -> str:
    """Conjugate a German verb in the present, without its separable prefix."""
    stem = german_stem(verb.de)
    if verb.de in ("sein", "haben"):
        return german_cell({"sein": SEIN, "haben": HABEN}[verb.de]["present"], subject)
    if verb.de == "wissen":
        return german_cell(("weiß", "weißt", "weiß", "wissen"), subject)
    if subject.plural:
        return verb.de
    if subject.person == 1:
        return stem + "e"
    if subject.person == 3:
        return verb.third
    if verb.third.endswith("et") and needs_e(stem):
        return verb.third[:-1] + "st"
    special = {"lädt": "lädst", "hält": "hältst", "tritt": "trittst", "isst": "isst"}
    if verb.third in special:
        return special[verb.third]
    bare = verb.third[:-1]
    return bare + ("t" if bare[-1] in "sßzx" else "st")


def german_imperative(verb: Verb) -> str:
    """Form the German singular imperative, without its separable prefix."""
    stem = german_stem(verb.de)
    changed = verb.third[:-1]
    if needs_e(stem) or stem.endswith("er"):
        return stem + "e"
    if changed != stem and "e" in stem and "ä" not in changed:
        return changed
    return stem


def third_person(base: str) -> str:
    """Form the English third person singular."""
    if base == "have":
        return "has"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("s", "sh", "ch", "x", "go", "do")) else "s")


def english_cell(forms: tuple[str, str, str], subject: Phrase) -> str:
    """Choose the form of be that agrees with the subject."""
    return forms[1] if subject.plural or subject.person == 2 else forms[subject.person - 1]


@dataclass
class Clause:
    """A clause: a verb with its subject and parts.

    The tense is "present", "past" (German perfect), "future", "perfect" (with
    already, schon), "progressive" (with gerade) or "passive". A clause whose
    German subject differs (like, gefallen) names it in german_subject.
    """

    subject: Phrase
    verb: Verb
    parts: list[Part] = field(default_factory=list)
    tense: str = "present"
    modal: Modal | None = None
    negated: bool = False
    german_subject: Phrase | None = None
    kein: int | None = None  # the link of a negation that German puts on the object

    def __post_init__(self) -> None:
        self.v, self.x, self.z = link(), link(), link()
        self.n = link() if self.kein is None else self.kein
        if self.verb.particle:
            self.parts.append(Part(words(self.verb.particle, self.v), [], 0, 0))
        if self.tense == "perfect":
            a = link()
            self.parts.append(part("adverb", words("already", a), words("schon", a)))
        if self.tense == "progressive":
            a = link()
            self.parts.append(part("time", words("now", a), words("gerade", a), "adverb"))
        if self.negated and self.kein is None:
            self.parts.append(Part([], words("nicht", self.n), 0, SLOTS["not"]))

    def _english_verb(self, question: bool) -> tuple[Words, Words]:
        """Return the English auxiliary (fronted in questions) and the rest."""
        v, x, verb, subject = self.v, self.x, self.verb, self.subject
        not_ = words("not", self.n) if self.negated else []
        third = not subject.plural and subject.person == 3
        if self.modal:
            support = (question or self.negated) and self.modal.en[2]
            if support:
                do = "did" if self.modal.past else "does" if third else "do"
                return words(do, x), not_ + words(f"{self.modal.en[2]}", x) + words(verb.en, v)
            first, *rest = self.modal.en[0 if third else 1].split()
            if first == "can" and self.negated:
                return words("cannot", x, self.n), words(verb.en, v)
            return words(first, x), not_ + words(" ".join(rest), x) + words(verb.en, v)
        if verb.de == "sein" and self.tense != "future":
            return words(english_cell(BE[self.tense], subject), v), not_
        if self.tense == "future":
            return words("will", x), not_ + words(verb.en, v)
        if self.tense == "perfect":
            return words("has" if third else "have", x), not_ + words(verb.en_participle, v)
        if self.tense == "progressive":
            return words(english_cell(BE["present"], subject), v), not_ + words(ing(verb.en), v)
        if self.tense == "passive":
            be = words(english_cell(BE["past"], subject), x)
            return be, not_ + words(verb.en_participle, v)
        past = self.tense == "past"
        if question or self.negated:
            do = "did" if past else "does" if third else "do"
            return words(do, x if past else v), not_ + words(verb.en, v)
        form = verb.en_past if past else third_person(verb.en) if third else verb.en
        return [], words(form, v, x) if past else words(form, v)

    def _english_parts(self, skip: Part | None = None) -> tuple[Words, Words]:
        """Return the adverbs before the main verb and the parts after it."""
        ordered = sorted((p for p in self.parts if p is not skip), key=lambda p: p.en_slot)
        before = [w for p in ordered if p.en_slot < 0 for w in p.en]
        return before, [w for p in ordered if p.en_slot >= 0 for w in p.en]

    def english(self, front: Part | None = None, comma: bool = False) -> Words:
        """Spell out a statement or a subordinate clause in English."""
        aux, rest = self._english_verb(False)
        before, after = self._english_parts(front)
        start = [*front.en, COMMA] if front and comma else front.en if front else []
        return start + self.subject.english("nom") + aux + before + rest + after

    def english_question(self, front: Part | None = None) -> Words:
        """Spell out a question, with its question word in front if there is one."""
        aux, rest = self._english_verb(True)
        before, after = self._english_parts(front)
        start = front.en if front else []
        return start + aux + self.subject.english("nom") + before + rest + after

    def english_infinitive(self) -> Words:
        """Spell out the clause without its subject: to open the door."""
        return words("to", self.z) + words(self.verb.en, self.v) + self._english_parts()[1]

    def english_imperative(self) -> Words:
        """Spell out an English imperative."""
        not_ = words("do", self.v) + words("not", self.n) if self.negated else []
        return not_ + words(self.verb.en, self.v) + self._english_parts()[1]

    def _german_verb(self) -> tuple[Words, Words]:
        """Return the finite verb and the right bracket of a German main clause."""
        v, x, verb = self.v, self.x, self.verb
        subject = self.german_subject or self.subject
        infinitive = words(verb.prefix + verb.de, v)
        participle = words(verb.prefix + verb.participle, v)
        if self.modal:
            return words(german_cell(self.modal.de, subject), x), infinitive
        if verb.de in ("sein", "haben") and self.tense == "past":
            table = SEIN if verb.de == "sein" else HABEN
            return words(german_cell(table["past"], subject), v, x), []
        if self.tense == "future":
            return words(german_cell(WERDEN["present"], subject), x), infinitive
        if self.tense in ("past", "perfect"):
            table = SEIN if verb.aux == "sein" else HABEN
            return words(german_cell(table["present"], subject), x), participle
        if self.tense == "passive":
            return words(german_cell(WERDEN["past"], subject), x), participle
        return words(german_present(verb, subject), v), words(verb.prefix, v)

    def _middle(self, skip: Part | None = None) -> Words:
        ordered = sorted((p for p in self.parts if p is not skip), key=lambda p: p.de_slot)
        return [w for p in ordered for w in p.de]

    def _german_subject(self) -> Words:
        return (self.german_subject or self.subject).german("nom")

    def german(self, front: Part | None = None) -> Words:
        """Spell out a German main clause with the verb second."""
        finite, bracket = self._german_verb()
        middle = self._middle(front)
        subject = self._german_subject()
        if front:
            return front.de + finite + subject + middle + bracket
        return subject + finite + middle + bracket

    def german_question(self) -> Words:
        """Spell out a German yes/no question with the verb first."""
        finite, bracket = self._german_verb()
        return finite + self._german_subject() + self._middle() + bracket

    def german_final(self, front: Part | None = None) -> Words:
        """Spell out a German subordinate clause with the verb at the end."""
        finite, bracket = self._german_verb()
        start = (front.de if front else []) + self._german_subject() + self._middle(front)
        return start + self._final_verb(finite, bracket)

    def _final_verb(self, finite: Words, bracket: Words) -> Words:
        if bracket and bracket[0].text == self.verb.prefix:
            return words(self.verb.prefix + finite[0].text, self.v)
        return bracket + finite

    def german_infinitive(self) -> Words:
        """Spell out the German zu-infinitive without its subject."""
        verb = self.verb
        if verb.prefix:
            return self._middle() + words(f"{verb.prefix}zu{verb.de}", self.v, self.z)
        return self._middle() + words("zu", self.z) + words(verb.de, self.v)

    def german_imperative(self) -> Words:
        """Spell out a German singular imperative."""
        form = words(german_imperative(self.verb), self.v)
        return form + self._middle() + words(self.verb.prefix, self.v)

    def english_relative(self) -> Words:
        """Spell out what follows an English subject relative pronoun."""
        aux, rest = self._english_verb(False)
        before, after = self._english_parts()
        return aux + before + rest + after

    def german_relative(self) -> Words:
        """Spell out what follows a German subject relative pronoun."""
        return self._middle() + self._final_verb(*self._german_verb())


def ing(base: str) -> str:
    """Form the English present participle."""
    doubled = ("sit", "run", "put", "travel", "stop", "get", "swim", "cut", "forget", "begin")
    if base in doubled:
        return base + base[-1] + "ing"
    if base == "lie":
        return "lying"
    return (base[:-1] if base.endswith("e") and base != "see" else base) + "ing"


def spell(tokens: Words, end: str) -> Words:
    """Attach commas and the final mark and capitalise the first word."""
    out: Words = []
    for word in tokens:
        if word.text != ",":
            out.append(word)
        elif out and not out[-1].text.endswith(","):
            out[-1] = Word(out[-1].text + ",", out[-1].links)
    first, last = out[0], out[-1]
    out[0] = Word(first.text[0].upper() + first.text[1:], first.links)
    out[-1] = Word(out[-1].text.rstrip(",") + end, last.links)
    return out


def alignment(english: Words, german: Words) -> str:
    """Write the word alignment in Pharaoh format."""
    return " ".join(f"{i}-{j}" for i, e in enumerate(english) for j, g in enumerate(german) if e.links & g.links)
