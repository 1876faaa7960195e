"""Words chosen by meaning and put into the phrases and clauses of the grammar."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from grammar import (
    MODALS,
    Clause,
    Part,
    Phrase,
    Words,
    join,
    link,
    name,
    noun_phrase,
    part,
    preposition,
    pronoun,
    words,
)
from lexicon import (
    ALL_ADJECTIVES,
    ALL_NOUNS,
    ALL_VERBS,
    CITIES,
    DAYS,
    MONTHS,
    NAMES_F,
    NAMES_M,
    NUMBERS,
    Adjective,
    Noun,
    Verb,
    expand,
    verb,
)

T = TypeVar("T")


def vocabulary(text: str) -> frozenset[str]:
    """Split a list of words."""
    return frozenset(text.split())


BY_CLASS: dict[str, list[Noun]] = {}
for _noun in ALL_NOUNS:
    BY_CLASS.setdefault(_noun.cls, []).append(_noun)
PERSON = expand("person")
STATIVE = vocabulary(
    "know love need understand belong see hear forget trust live begin end find lose meet "
    "invite stay take depart arrive wake"
)
REPEATABLE = vocabulary(
    "read write buy sell eat drink cook bake find wash clean draw repair visit open close "
    "pack pay order prepare solve check sign translate feed pick plant"
)
MANNER = {
    ("slowly", "langsam"): "read write eat drink pack draw open close play run",
    ("quickly", "schnell"): "read write eat run pack clean wash sign solve repair",
    ("carefully", "vorsichtig"): "carry open close wash clean repair place put use fill",
    ("quietly", "leise"): "sing talk cry play dance",
    ("loudly", "laut"): "sing laugh cry",
}
POSITIONS = [
    ("on", "auf"),
    ("on", "auf"),
    ("under", "unter"),
    ("next to", "neben"),
    ("behind", "hinter"),
    ("in front of", "vor"),
]
NOT_GRADED = vocabulary("ill broken empty black white brown grey red blue green yellow wild tired hungry fresh")
HOURS = [("one", "eins"), *NUMBERS]
COLOURS = vocabulary("black white brown grey red blue green yellow wild")
TIMELESS = vocabulary("know love belong need trust understand live")
OWNED = vocabulary(
    "teacher doctor neighbour colleague guest customer gardener mechanic driver lawyer "
    "nurse student dog cat horse rabbit donkey goat cow duck"
)
STATES = vocabulary("tired ill happy hungry nervous sad")
BE = verb("be was been|sein ist gewesen*")
HAVE = verb("have had had|haben hat gehabt")
COST = verb("cost cost cost|kosten kostet gekostet")
LAST = verb("last lasted lasted|dauern dauert gedauert")
RAIN = verb("rain rained rained|regnen regnet geregnet")
LIKE = verb("like liked liked|gefallen gefällt gefallen")
FUNCTION = verb("work worked worked|funktionieren funktioniert funktioniert")
SAYING = [
    verb("know knew known|wissen weiß gewusst"),
    verb("say said said|sagen sagt gesagt"),
    verb("believe believed believed|glauben glaubt geglaubt"),
    verb("hope hoped hoped|hoffen hofft gehofft"),
    verb("hear heard heard|hören hört gehört"),
    verb("write wrote written|schreiben schreibt geschrieben"),
    verb("notice noticed noticed|merken merkt gemerkt"),
]
ASKING = [
    verb("ask asked asked|fragen fragt gefragt"),
    verb("know knew known|wissen weiß gewusst"),
]
TRYING = [
    verb("try tried tried|versuchen versucht versucht"),
    verb("hope hoped hoped|hoffen hofft gehofft"),
    verb("decide decided decided|beschließen beschließt beschlossen"),
    verb("promise promised promised|versprechen verspricht versprochen"),
    verb("plan planned planned|planen plant geplant"),
    verb("forget forgot forgotten|vergessen vergisst vergessen"),
    verb("begin began begun|beginnen beginnt begonnen"),
]


class Pair(NamedTuple):
    """A sentence in both languages, before spelling, with the name of its construction."""

    kind: str
    en: Words
    de: Words
    mark: str = "."


@dataclass
class Made:
    """A clause with what later clauses may refer to."""

    clause: Clause
    fronts: list[Part] = field(default_factory=list)
    noun: Noun | None = None  # of the direct object
    plural: bool = False


class Sampler:
    """Chooses words by class, evenly, with a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.used: Counter[str] = Counter()

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.rng.random() < probability

    def pick(self, items: Sequence[T], key: Callable[[T], str] = str) -> T:
        """Choose the less used of two random items."""
        a, b = self.rng.choice(items), self.rng.choice(items)
        chosen = a if self.used[key(a)] <= self.used[key(b)] else b
        self.used[key(chosen)] += 1
        return chosen

    def noun(self, classes: frozenset[str]) -> Noun:
        """Choose a noun of one of the classes."""
        nouns = [n for c in sorted(classes) for n in BY_CLASS[c]]
        return self.pick(nouns, lambda n: n.de)

    def adjectives(self, noun: Noun, share: float) -> tuple[Adjective, ...]:
        """Choose no, one or rarely two adjectives that suit the noun."""
        fitting = [a for a in ALL_ADJECTIVES if noun.cls in a.classes]
        if not fitting or not self.chance(share):
            return ()
        return (self.pick(fitting, lambda a: a.de),)

    def adjective(self, noun: Noun, graded: bool = False) -> Adjective | None:
        """Choose a predicate adjective for the noun."""
        banned = COLOURS | NOT_GRADED if graded else COLOURS
        fitting = [a for a in ALL_ADJECTIVES if noun.cls in a.classes and a.en not in banned]
        return self.pick(fitting, lambda a: a.de) if fitting else None

    def phrase(
        self,
        noun: Noun,
        owner: str = "",
        plural: bool | None = None,
        determiners: str = "",
        adjectives: float = 0.45,
        negation: int | None = None,
    ) -> Phrase:
        """Build a noun phrase with a fitting determiner."""
        if plural is None:
            plural = not noun.mass and self.chance(0.25)
        adj = self.adjectives(noun, adjectives)
        if negation is not None:
            determiner = "" if plural or noun.mass else "a"
            return noun_phrase(noun, determiner, adj, plural, negation=negation)
        own = [f"of:{owner}"] * 3 if owner in ("he", "she", "they", "I", "you", "we") else []
        own += ["of:I", "of:you", "of:we"]
        if determiners:
            return noun_phrase(noun, self.rng.choice(determiners.split()), adj, plural)
        if noun.mass:
            return noun_phrase(noun, self.rng.choice(["", "the", "the", "this"]), adj)
        if noun.cls in ("kin", "kinf"):
            parents = plural and noun.en in ("father", "mother")
            return noun_phrase(noun, "the" if parents else self.rng.choice([*own, "the"]), adj, plural)
        unowned = noun.cls in ("man", "woman", "animal") and noun.en not in OWNED
        if unowned or noun.cls in ("room", "outdoor", "at", "on", "event", "public"):
            own = []
        kinds = ["the"] * 10 + own + ["this"] * 2
        kinds += ["many", "some", "number", "number", ""] if plural else ["a"] * 5
        determiner = self.rng.choice(kinds)
        if determiner == "number":
            n = self.pick(NUMBERS, lambda n: n[1])
            if self.chance(0.15):
                digits = str(self.rng.randrange(15, 100, 5))
                n = (digits, digits)
            return noun_phrase(noun, self.rng.choice(["", "", "the"]), adj, True, number=n)
        return noun_phrase(noun, determiner, adj, plural)

    def person_name(self) -> Phrase:
        """Choose a person's name."""
        key = self.rng.choice(["he", "she"])
        return name(self.pick((NAMES_M if key == "he" else NAMES_F).split()), key)

    def subject(self, classes: frozenset[str], plain: bool = False) -> Phrase:
        """Choose a subject: a name, a pronoun, two of them, or a noun phrase."""
        if classes & PERSON and not plain:
            r = self.rng.random()
            if r < 0.22:
                return self.person_name()
            if r < 0.46:
                keys = ["I", "I", "you", "you", "he", "she", "we", "they"]
                return pronoun(self.rng.choice(keys))
            if r < 0.50:
                first = self.pick(NAMES_M.split())
                return join(name(first, "he"), name(self.pick(NAMES_F.split()), "she"))
            if r < 0.53:
                one, two = self.noun(frozenset({"man"})), self.noun(frozenset({"woman"}))
                return join(noun_phrase(one), noun_phrase(two))
        noun = self.noun(classes)
        if self.chance(0.05) and noun.cls not in ("kin", "kinf"):
            return noun_phrase(noun, self.rng.choice(["no", "every"]), self.adjectives(noun, 0.2))
        return self.phrase(noun)

    # Adverbials

    def time(self, tense: str) -> Part:
        """Choose a time adverbial that suits the tense."""
        rng = self.rng
        n = link()

        def simple(en: str, de: str) -> Part:
            return part("time", words(en, n), words(de, n))

        r = rng.random()
        if r < 0.14:
            day = self.pick(DAYS, str)
            d = link()
            return part("time", words("on", n) + words(day[0], d), words("am", n) + words(day[1], d))
        if r < 0.22:
            month, d, m = self.pick(MONTHS, str), link(), link()
            date = rng.randint(1, 31 if month[0] in ("January", "May", "July", "August") else 28)
            return part(
                "time",
                words("on", n) + words(str(date), d) + words(month[0], m),
                words("am", n) + words(f"{date}.", d) + words(month[1], m),
            )
        if r < 0.28:
            month, m = self.pick(MONTHS, str), link()
            return part("time", words("in", n) + words(month[0], m), words("im", n) + words(month[1], m))
        if r < 0.36:
            hour = rng.randint(2, 12)
            u, h = link(), link()
            if self.chance(0.4):
                return part(
                    "time",
                    words("at", n) + words("half past", h) + words(HOURS[hour - 2][0], u),
                    words("um", n) + words("halb", h) + words(HOURS[hour - 1][1], u),
                )
            return part(
                "time",
                words("at", n) + words(NUMBERS[hour - 2][0], u) + words("o'clock", h),
                words("um", n) + words(NUMBERS[hour - 2][1], u) + words("Uhr", h),
            )
        if r < 0.44:
            en, de = rng.choice([("morning", "Morgen"), ("afternoon", "Nachmittag"), ("evening", "Abend")])
            m = link()
            return part("time", words("in the", n) + words(en, m), words("am", n) + words(de, m))
        if r < 0.50:
            en, de = rng.choice(
                [
                    ("summer", "Sommer"),
                    ("winter", "Winter"),
                    ("spring", "Frühling"),
                    ("autumn", "Herbst"),
                ]
            )
            m = link()
            return part("time", words("in the", n) + words(en, m), words("im", n) + words(de, m))
        if r < 0.60:
            en, de, case = rng.choice(
                [("before", "vor", "dat"), ("after", "nach", "dat"), ("during", "während", "gen")]
            )
            event = self.phrase(
                self.noun(frozenset({"event"})),
                plural=False,
                determiners="the the this",
                adjectives=0.3,
            )
            return part("time", *preposition(en, de, event, case))
        if tense == "past":
            if self.chance(0.35):
                length = rng.choice(
                    [
                        ("days", "Tagen"),
                        ("weeks", "Wochen"),
                        ("months", "Monaten"),
                        ("years", "Jahren"),
                    ]
                )
                number, u, a = self.pick(NUMBERS, lambda x: x[1]), link(), link()
                return part(
                    "time",
                    words(number[0], n) + words(length[0], u) + words("ago", a),
                    words("vor", a) + words(number[1], n) + words(length[1], u),
                )
            if self.chance(0.25):
                year, y = str(rng.randrange(1988, 2024)), link()
                return part("time", words("in", n) + words(year, y), words("im Jahr", n) + words(year, y))
            return simple(
                *rng.choice(
                    [
                        ("yesterday", "gestern"),
                        ("last week", "letzte Woche"),
                        ("last year", "letztes Jahr"),
                        ("today", "heute"),
                        ("last month", "letzten Monat"),
                    ]
                )
            )
        if tense == "future":
            if self.chance(0.35):
                length = rng.choice(
                    [
                        ("days", "Tagen"),
                        ("weeks", "Wochen"),
                        ("months", "Monaten"),
                        ("years", "Jahren"),
                    ]
                )
                u = link()
                number = self.pick(NUMBERS, lambda x: x[1])
                d = link()
                return part(
                    "time",
                    words("in", n) + words(number[0], d) + words(length[0], u),
                    words("in", n) + words(number[1], d) + words(length[1], u),
                )
            return simple(
                *rng.choice(
                    [
                        ("tomorrow", "morgen"),
                        ("next week", "nächste Woche"),
                        ("next year", "nächstes Jahr"),
                        ("soon", "bald"),
                        ("next month", "nächsten Monat"),
                        ("today", "heute"),
                    ]
                )
            )
        if self.chance(0.3):
            en, de = rng.choice(
                [
                    ("often", "oft"),
                    ("always", "immer"),
                    ("sometimes", "manchmal"),
                    ("never", "nie"),
                    ("usually", "meistens"),
                ]
            )
            return part("adverb", words(en, n), words(de, n))
        return simple(
            *rng.choice(
                [
                    ("today", "heute"),
                    ("every day", "jeden Tag"),
                    ("every week", "jede Woche"),
                    ("every evening", "jeden Abend"),
                    ("every year", "jedes Jahr"),
                ]
            )
        )

    def place(self, groups: Sequence[str], use: str = "loc") -> Part:
        """Choose a place: where (loc), where to (dir) or where from (from)."""
        group = self.rng.choice(groups)
        if group == "city":
            p, c = link(), link()
            city = self.pick(CITIES, lambda x: x[1])
            en, de = {"loc": ("in", "in"), "dir": ("to", "nach"), "from": ("from", "aus")}[use]
            return part("place", words(en, p) + words(city[0], c), words(de, p) + words(city[1], c))
        noun = self.noun(frozenset({group}))
        phrase = self.phrase(
            noun,
            plural=self.chance(0.08),
            adjectives=0.35,
            determiners="the the the this a of:we" if group == "room" else "the the the this",
        )
        kind = group if group in ("at", "on") else "in"
        en, de, case = {
            ("in", "loc"): ("in", "in", "dat"),
            ("in", "dir"): ("into", "in", "acc"),
            ("in", "from"): ("from", "aus", "dat"),
            ("at", "loc"): ("at", "an", "dat"),
            ("at", "dir"): ("to", "zu", "dat"),
            ("at", "from"): ("from", "von", "dat"),
            ("on", "loc"): ("on", "auf", "dat"),
            ("on", "dir"): ("onto", "auf", "acc"),
        }[kind, use]
        return part("place", *preposition(en, de, phrase, case))

    # Clauses

    def object(self, made: Made, classes: str, owner: str, kein: int | None, plain: bool) -> Phrase:
        """Choose an object and remember its noun."""
        noun = self.noun(expand(classes))
        definite = "the the this" if made.clause.negated and kein is None else ""
        if noun.cls in PERSON and not plain and kein is None and self.chance(0.2):
            key = self.rng.choice(["I", "you", "we"])
            if not (key == owner or {key, owner} == {"I", "we"}):
                return pronoun(key)
        if noun.cls in PERSON and kein is None and self.chance(0.2):
            return self.person_name()
        made.noun, made.plural = noun, not noun.mass and self.chance(0.27)
        return self.phrase(noun, owner, made.plural, definite, negation=kein)

    def fill(self, made: Made, kein: int | None, plain: bool = False, places: float = 0.3) -> None:
        """Add the complements of the verb and perhaps a place."""
        clause = made.clause
        verb, owner = clause.verb, clause.subject.pronoun
        groups = verb.places
        if clause.subject.inanimate and "animal" in verb.subject:
            groups = tuple(g for g in groups if g == "outdoor")
        placed = False
        for slot in verb.frame:
            role, _, classes = slot.partition(":")
            if role in ("loc", "dir", "from"):
                clause.parts.append(self.place(groups or ("outdoor",), role))
                placed = True
                continue
            if role in ("on", "onto"):
                noun = self.noun(expand(classes))
                phrase = self.phrase(noun, owner, False, "the the this a", 0.35)
                en, de = self.rng.choice(POSITIONS)
                if verb.en == "jump":
                    en, de = "onto", "auf"
                elif verb.en == "sit" or noun.de in ("Teppich", "Schrank", "Spiegel"):
                    en, de = ("next to", "neben") if noun.de == "Spiegel" else ("on", "auf")
                case = "dat" if role == "on" else "acc"
                clause.parts.append(part("place", *preposition(en, de, phrase, case)))
                placed = True
                continue
            negation = kein if role == "acc" else None
            receiver = Made(clause) if role in ("dat", "to") and len(verb.frame) > 1 else made
            phrase = self.object(receiver, classes, owner, negation, plain)
            slot_de = "pron" if phrase.is_pronoun else role
            if role == "acc":
                clause.parts.append(part("acc", phrase.english("obj"), phrase.german("acc"), slot_de))
            elif role == "dat":
                alone = len(verb.frame) == 1
                clause.parts.append(
                    part(
                        "acc" if alone else "dat",
                        phrase.english("obj"),
                        phrase.german("dat"),
                        slot_de,
                    )
                )
            elif role == "to":
                n = link()
                german = phrase.german("dat")
                german = [german[0]._replace(links=german[0].links | {n}), *german[1:]]
                clause.parts.append(
                    part(
                        "place",
                        words("to", n) + phrase.english("obj"),
                        german,
                        "pron" if phrase.is_pronoun else "dat",
                    )
                )
            else:
                de, case = role.split("+")
                _, german = preposition(verb.particle, de, phrase, case)
                german = [german[0]._replace(links=german[0].links | {clause.v}), *german[1:]]
                clause.parts.append(part("acc", phrase.english("obj"), german, "place"))
        manners = [m for m, verbs in MANNER.items() if verb.en in verbs.split()]
        if manners and not clause.negated and not clause.verb.particle and self.chance(0.25):
            (en, de), n = self.rng.choice(manners), link()
            clause.parts.append(part("manner", words(en, n), words(de, n)))
        elif verb.en in ("travel", "drive") and self.chance(0.35):
            kind = "transit" if verb.en == "travel" else "vehicle"
            fitting = [n for n in BY_CLASS[kind] if n.en not in ("boat", "tram")]
            noun = self.pick(fitting, lambda n: n.de)
            n, m = link(), link()
            article = "der" if noun.gender == "f" else "dem"
            clause.parts.append(
                Part(
                    words("by", n) + words(noun.en, m),
                    words("mit", n) + words(article + " " + noun.de, m),
                    6,
                    6,
                )
            )
        elif (
            verb.en in ("dance", "play", "go", "work", "eat", "sing", "travel", "live")
            and clause.subject.person == 3
            and owner in ("he", "she", "they")
            and self.chance(0.2)
        ):
            other = self.phrase(self.noun(expand("kinship")), determiners=f"of:{owner}", adjectives=0.3)
            en, de, case = self.rng.choice([("with", "mit", "dat"), ("without", "ohne", "acc")])
            clause.parts.append(part("manner", *preposition(en, de, other, case)))
        if groups and not placed and self.chance(places):
            clause.parts.append(self.place(groups))

    def clause(
        self,
        subject: Phrase | None = None,
        tense: str = "",
        negatable: bool = True,
        time: float = 0.45,
        plain: bool = False,
        choose: Callable[[Verb], bool] = lambda v: True,
        places: float = 0.3,
    ) -> Made:
        """Build a clause around a random verb."""
        fitting = [v for v in ALL_VERBS if choose(v)]
        if subject is not None:
            fitting = [v for v in fitting if v.subject & {"man"} and v.subject & {"woman"}]
        verb = self.pick(fitting, lambda v: v.prefix + v.de)
        subject = subject or self.subject(verb.subject, plain)
        tense = tense or self.tense()
        modal = None
        if tense == "modal" and verb.en in TIMELESS | {"lose", "forget"}:
            tense = "present"
        if tense == "modal":
            modal = MODALS[self.rng.choice(list(MODALS))]
            if subject.inanimate or not verb.subject & PERSON:
                modal = MODALS[self.rng.choice(["must", "can", "could", "had"])]
                if verb.subject & {"event", "print"}:
                    modal, tense = None, "future"
        elif tense == "progressive" and (verb.en in STATIVE or verb.en == "belong"):
            tense = "present"
        elif tense == "perfect" and verb.en not in REPEATABLE:
            tense = "past"
        third = not subject.plural and subject.person == 3
        if tense == "past" and verb.en == verb.en_past and not third:
            tense = "future"
        negated = (
            negatable
            and tense not in ("perfect", "progressive")
            and modal is not MODALS["must"]
            and subject.english("nom")[0].text not in ("no", "every")
            and self.chance(0.13)
        )
        kein = link() if negated and self.chance(0.5) and any(s.startswith("acc:") for s in verb.frame) else None
        tense_name = "present" if tense == "modal" else tense
        clause = Clause(subject, verb, [], tense_name, modal, negated, kein=kein)
        made = Made(clause)
        self.fill(made, kein, plain, places)
        when = "past" if tense == "past" or (modal and modal.past) else tense_name
        timed = tense not in ("perfect", "progressive") and verb.en not in TIMELESS
        if timed and self.chance(time):
            part_ = self.time(when)
            adverb = part_.en_slot < 0
            if not adverb or not (negated or modal):
                clause.parts.append(part_)
                if not adverb:
                    made.fronts.append(part_)
        return made

    def tense(self) -> str:
        """Choose a tense."""
        return self.rng.choices(
            ["present", "past", "future", "modal", "perfect", "progressive"],
            [36, 28, 9, 16, 5, 6],
        )[0]

    def again(self, subject: Phrase) -> Phrase | None:
        """Take a subject up with its pronoun, if it has one."""
        return pronoun(subject.pronoun) if subject.pronoun else None

    def be(
        self,
        subject: Phrase,
        adj: Adjective,
        tense: str = "present",
        negated: bool = False,
    ) -> Clause:
        """Say that the subject is so."""
        n = link()
        return Clause(subject, BE, [part("pred", words(adj.en, n), words(adj.de, n))], tense, negated=negated)
