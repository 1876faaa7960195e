"""The constructions of the corpus, from statements to relative clauses."""

from __future__ import annotations

from collections.abc import Callable

from grammar import (
    COMMA,
    MODALS,
    RELATIVE,
    Clause,
    Part,
    Phrase,
    ending,
    link,
    noun_phrase,
    part,
    preposition,
    pronoun,
    words,
)
from lexicon import (
    ALL_ADJECTIVES,
    ALL_VERBS,
    NAMES_F,
    NAMES_M,
    NUMBERS,
    Noun,
    Verb,
    expand,
)
from sampler import (
    ASKING,
    BE,
    BY_CLASS,
    COST,
    FUNCTION,
    HAVE,
    LAST,
    LIKE,
    PERSON,
    RAIN,
    SAYING,
    STATES,
    STATIVE,
    TIMELESS,
    TRYING,
    Pair,
    Sampler,
)

# Each construction takes a sampler and returns a sentence pair, or None if the dice
# led to nothing sensible.


def statement(s: Sampler) -> Pair | None:
    """Make a main clause, perhaps with its time in front and the verb second."""
    made = s.clause(time=0.6, places=0.4)
    front = made.fronts[0] if made.fronts and s.chance(0.45) else None
    return Pair("fronted" if front else "statement", made.clause.english(front), made.clause.german(front))


def yes_no(s: Sampler) -> Pair | None:
    """Make a question without a question word."""
    clause = s.clause(negatable=False, time=0.35).clause
    return Pair("yes-no question", clause.english_question(), clause.german_question(), "?")


def wh_adverb(s: Sampler) -> Pair | None:
    """Make a question with when, why, where or how."""
    en, de = s.rng.choice([("when", "wann"), ("why", "warum"), ("where", "wo")])

    def choose(v: Verb) -> bool:
        return en != "where" or not v.frame or (v.frame[0].startswith("acc") and bool(v.places))

    made = s.clause(
        negatable=False,
        time=0.0,
        choose=choose,
        places=0 if en == "where" else 0.35,
        tense=s.rng.choice(["present", "past", "future", "modal"]),
    )
    n = link()
    front = Part(words(en, n), words(de, n), 0, 0)
    made.clause.parts.append(front)
    return Pair("wh question", made.clause.english_question(front), made.clause.german(front), "?")


def wh_subject(s: Sampler) -> Pair | None:
    """Make a question for the subject: who, which."""
    if s.chance(0.5):
        n = link()
        subject = Phrase(lambda c: words("who", n), lambda c: words("wer", n))
    else:
        noun = s.noun(expand("man woman child"))
        subject = noun_phrase(noun, "which", s.adjectives(noun, 0.4), s.chance(0.3))
    clause = s.clause(subject, negatable=False, choose=lambda v: v.subject >= PERSON and v.en != "be").clause
    return Pair("wh question", clause.english(), clause.german(), "?")


def wh_object(s: Sampler) -> Pair | None:
    """Make a question for the object: what, whom (wen, wem), how many."""
    made = s.clause(
        negatable=False,
        time=0.3,
        plain=True,
        tense=s.tense(),
        choose=lambda v: (
            len(v.frame) == 1 and v.frame[0].startswith(("acc", "dat")) and not v.particle and bool(v.subject & PERSON)
        ),
    )
    noun, clause = made.noun, made.clause
    if noun is None:
        return None
    case = clause.verb.frame[0][:3]
    old = next(p for p in clause.parts if p.en_slot == 2)
    clause.parts.remove(old)
    n, m = link(), link()
    kind = s.rng.random()
    if noun.cls in PERSON and kind < 0.6:
        front = Part(words("whom", n), words("wen" if case == "acc" else "wem", n), 0, 0)
    elif kind < 0.5 and case == "acc" and noun.cls not in PERSON:
        front = Part(words("what", n), words("was", n), 0, 0)
    elif kind < 0.75 and case == "acc" and not noun.mass:
        p = link()
        front = Part(
            words("how", n) + words("many", m) + words(noun.en_plural, p),
            words("wie", n) + words("viele", m) + words(noun.de_plural, p),
            0,
            0,
        )
    elif noun.cls in PERSON | {"animal"} and (made.plural or noun.gender != "m"):
        return None  # welche Frau could be the subject as well
    else:
        phrase = noun_phrase(noun, "which", s.adjectives(noun, 0.4), made.plural)
        front = Part(phrase.english("obj"), phrase.german(case), 0, 0)
    clause.parts.append(front)
    return Pair("wh question", clause.english_question(front), clause.german(front), "?")


def imperative(s: Sampler) -> Pair | None:
    """Make a request to one person, as in Öffne das Fenster."""
    made = s.clause(
        pronoun("you"),
        tense="present",
        time=0.0,
        choose=lambda v: bool(v.frame) and v.en not in STATIVE and v.en != "fall",
    )
    clause = made.clause
    if s.chance(0.35) and not clause.negated:
        time = s.rng.choice([("today", "heute"), ("tomorrow", "morgen")])
        t = link()
        clause.parts.append(part("time", words(time[0], t), words(time[1], t)))
    n = link()
    please = not clause.negated and s.chance(0.3)
    en, de = (words("please", n), words("bitte", n)) if please else ([], [])
    return Pair("imperative", en + clause.english_imperative(), de + clause.german_imperative(), "!")


CONJUNCTIONS = {
    "because": "weil",
    "although": "obwohl",
    "before": "bevor",
    "while": "während",
    "if": "wenn",
    "as soon as": "sobald",
}


def subordinate(s: Sampler) -> Pair | None:
    """Make a main clause with an adverbial clause after or before it."""
    en, de = s.rng.choice([*CONJUNCTIONS.items(), ("when", "als")])
    past = en == "when" or (en in ("because", "although", "before", "while") and s.chance(0.45))
    tense = "past" if past else "present"
    main = s.clause(
        tense="future"
        if en in ("if", "as soon as") and s.chance(0.4)
        else "modal"
        if not past and s.chance(0.2)
        else tense,
        time=0.15,
        negatable=en not in ("before", "while"),
    )
    if main.clause.modal and main.clause.modal.past:
        return None
    subject = s.again(main.clause.subject) if s.chance(0.6) else s.subject(PERSON)
    if subject is None or subject.inanimate:
        return None
    if not subject.is_pronoun and subject.pronoun == main.clause.subject.pronoun and s.chance(0.5):
        return None
    tiring = en in ("because", "although", "if")
    if tiring and s.chance(0.25):
        adj = s.rng.choice([a for a in ALL_ADJECTIVES if a.en in STATES])
        second = s.be(subject, adj, tense, s.chance(0.15))
    elif s.chance(0.12) and en != "before":
        second = raining(tense)
    else:
        second = s.clause(
            subject,
            tense,
            negatable=en in ("because", "although", "if"),
            time=0.15 if tiring else 0.0,
            places=0.2,
        ).clause
        if second.tense != tense or second.verb == main.clause.verb:
            return None
        if not tiring and second.verb.en in TIMELESS:
            return None
    if main.clause.tense not in (tense, "future"):
        return None
    n = link()
    if s.chance(0.35) and not subject.is_pronoun:
        front = Part(
            words(en, n) + second.english() + [COMMA],
            [*words(de, n), *second.german_final(), COMMA],
            0,
            0,
        )
        return Pair("subordinate first", main.clause.english(front), main.clause.german(front))
    return Pair(
        "subordinate",
        main.clause.english() + words(en, n) + second.english(),
        [*main.clause.german(), COMMA, *words(de, n), *second.german_final()],
    )


def raining(tense: str) -> Clause:
    """Say that it rains."""
    n = link()
    return Clause(Phrase(lambda c: words("it", n), lambda c: words("es", n)), RAIN, [], tense)


def takes_up(s: Sampler) -> Pair | None:
    """Make a clause about a thing that a pronoun takes up: it is er, sie or es."""
    made = s.clause(
        tense=s.rng.choice(["present", "past"]),
        time=0.2,
        places=0.15,
        negatable=False,
        choose=lambda v: len(v.frame) == 1 and v.frame[0].startswith("acc:") and bool(v.subject & PERSON),
    )
    noun = made.noun
    if noun is None or not noun.pronoun or noun.cls in PERSON:
        return None
    key = "they" if made.plural else f"it:{noun.gender}"
    it = pronoun(key)
    n = link()
    tense = made.clause.tense
    subject = s.again(made.clause.subject)
    en, de = s.rng.choice([("because", "weil"), ("although", "obwohl"), ("but", "aber")])
    adj = s.adjective(noun)
    if s.chance(0.6) and adj:
        second = s.be(it, adj, tense, s.chance(0.2))
    elif subject and subject.pronoun != key:
        v = s.rng.choice(
            [
                v
                for v in ALL_VERBS
                if v.en in ("need", "use", "love", "sell", "find")
                and noun.cls in expand(v.frame[0][4:])
                and v != made.clause.verb
            ]
            or [NEED]
        )
        obj = part("acc", it.english("obj"), it.german("acc"), "pron")
        second = Clause(subject, v, [obj], tense, negated=en != "because")
    else:
        return None
    first = made.clause
    if en == "but":
        return Pair(
            "pronoun",
            [*first.english(), COMMA, *words(en, n), *second.english()],
            [*first.german(), COMMA, *words(de, n), *second.german()],
        )
    return Pair(
        "pronoun",
        first.english() + words(en, n) + second.english(),
        [*first.german(), COMMA, *words(de, n), *second.german_final()],
    )


NEED = next(v for v in ALL_VERBS if v.en == "need")


def still(s: Sampler) -> Pair | None:
    """Make a thing is so, but it is so too: the antecedent is the subject."""
    noun = s.noun(expand("thing house animal room public plant"))
    plural = s.chance(0.25)
    one, two = s.adjective(noun), s.adjective(noun)
    if one is None or two is None or one == two:
        return None
    subject = s.phrase(
        noun,
        plural=plural,
        determiners="the the this of:I of:you of:we"
        if noun.cls not in ("room", "public", "animal", "plant")
        else "the the this",
    )
    tense = s.rng.choice(["present", "past"])
    first = s.be(subject, one, tense)
    it = pronoun("they" if plural else f"it:{noun.gender}")
    n = link()
    negated = s.chance(0.5)
    if noun.cls == "device" and s.chance(0.6):
        a = link()
        second = Clause(it, FUNCTION, [part("adverb", words("still", a), words("immer noch", a))], "present")
    else:
        second = s.be(it, two, tense, negated)
    if not negated and second.verb is BE:
        return Pair(
            "pronoun",
            [*first.english(), COMMA, *words("and", n), *second.english()],
            [*first.german(), *words("und", n), *second.german()],
        )
    return Pair(
        "pronoun",
        [*first.english(), COMMA, *words("but", n), *second.english()],
        [*first.german(), COMMA, *words("aber", n), *second.german()],
    )


def reports(s: Sampler) -> Pair | None:
    """Make a dass, ob or indirect wh clause."""
    inner = s.clause(time=0.25, places=0.2).clause
    n = link()
    asking = s.chance(0.45)
    v = s.pick(ASKING if asking else SAYING, lambda v: v.de + "+")
    subject = s.subject(PERSON)
    outer = Clause(subject, v, [], s.rng.choice(["present", "past"]))
    if asking and v.en == "know":
        if subject.english("nom")[0].text in ("no", "every"):
            return None
        outer = Clause(subject, v, [], outer.tense, negated=True)
    en, de = "that", "dass"
    if asking:
        en, de = s.rng.choice([("whether", "ob"), ("whether", "ob"), ("why", "warum"), ("when", "wann")])
        if en != "whether" and inner.negated:
            return None
    return Pair(
        "indirect question" if asking else "that clause",
        outer.english() + words(en, n) + inner.english(),
        [*outer.german(), COMMA, *words(de, n), *inner.german_final()],
    )


def relative_phrase(s: Sampler, noun: Noun, determiners: str = "the the this") -> Phrase | None:
    """Make a noun phrase with a relative clause on subject, object, dative or place."""
    plural = s.chance(0.25)
    row = "p" if plural else noun.gender
    r = link()
    person = noun.cls in PERSON
    kind = s.rng.choice(["subject", "subject", "object", "dative"]) if person else "object"
    tense = s.rng.choice(["present", "present", "past", "past", "modal"])
    if kind == "subject":
        n_subject = Phrase(lambda c: [], lambda c: [], 3, plural, "they" if plural else noun.pronoun)
        clause = s.clause(
            n_subject,
            tense,
            time=0.12,
            places=0.25,
            negatable=False,
            choose=lambda v: noun.cls in v.subject,
        )
        en = words("who", r) + clause.clause.english_relative()
        de = words(ending(RELATIVE, row, "nom"), r) + clause.clause.german_relative()
    else:
        case = "dat" if kind == "dative" else "acc"
        fitting = [
            v
            for v in ALL_VERBS
            if len(v.frame) == 1
            and v.frame[0].startswith(case + ":")
            and noun.cls in expand(v.frame[0][4:])
            and v.subject & PERSON
        ]
        if not fitting:
            return None
        v = s.pick(fitting, lambda v: v.prefix + v.de)
        subject = s.subject(v.subject)
        third = not subject.plural and subject.person == 3
        if v.en == v.en_past and not third:
            return None
        ambiguous = subject.german("nom") == subject.german("acc") and subject.plural == plural
        if person and case == "acc" and row != "m" and ambiguous:
            return None  # die Frau, die Anna besucht: who visits or whom Anna visits
        modal = MODALS[s.rng.choice(["can", "must", "want", "could", "had"])] if tense == "modal" else None
        inner = Clause(subject, v, [], "present" if modal else tense, modal)
        en = words("whom" if person else "that", r) + inner.english()
        de = words(ending(RELATIVE, row, case), r) + inner.german_final()
    return noun_phrase(
        noun,
        s.rng.choice(determiners.split()),
        s.adjectives(noun, 0.25),
        plural,
        tail=(en, [COMMA, *de, COMMA]),
    )


def relative_subject(s: Sampler) -> Pair | None:
    """Make a relative clause on the subject."""
    if s.chance(0.45):
        noun = s.noun(expand("thing house song animal"))
        phrase, adj = relative_phrase(s, noun), s.adjective(noun)
        if phrase is None or adj is None:
            return None
        clause = s.be(phrase, adj, s.rng.choice(["present", "past"]), s.chance(0.15))
    else:
        noun = s.noun(expand("man woman child"))
        phrase = relative_phrase(s, noun)
        if phrase is None:
            return None
        clause = s.clause(phrase, time=0.25, places=0.25).clause
    return Pair("relative", clause.english(), clause.german())


def relative_object(s: Sampler) -> Pair | None:
    """Make a relative clause on the object of a present-tense verb."""
    v = s.pick(
        [
            v
            for v in ALL_VERBS
            if len(v.frame) == 1 and v.frame[0].startswith(("acc:", "dat:")) and not v.prefix and v.subject & PERSON
        ],
        lambda v: v.de,
    )
    case, _, classes = v.frame[0].partition(":")
    noun = s.noun(expand(classes))
    if noun.mass:
        return None
    phrase = relative_phrase(s, noun, "the the this a")
    if phrase is None:
        return None
    subject = s.subject(v.subject)
    obj = part("acc", phrase.english("obj"), phrase.german(case))
    clause = Clause(subject, v, [obj])
    return Pair("relative", clause.english(), clause.german())


def infinitive(s: Sampler) -> Pair | None:
    """Make a zu-infinitive after a verb or adjective, or um ... zu."""
    subject = s.subject(PERSON)
    inner = s.clause(
        subject,
        "present",
        negatable=False,
        time=0.0,
        places=0.3,
        choose=lambda v: v.en not in STATIVE and v.subject >= PERSON,
    ).clause
    kind = s.rng.random()
    if kind < 0.4:
        v = s.pick(TRYING, lambda v: v.de + "+")
        outer = Clause(subject, v, [], s.rng.choice(["present", "past", "past"]))
        if not v.prefix and s.chance(0.35):
            outer.parts.append(s.time(outer.tense))
        if v.en == "begin" and outer.tense != "past" and not outer.parts and s.chance(0.5):
            return None
        if outer.parts and outer.parts[0].en_slot >= 0:
            front = outer.parts[0]
            return Pair(
                "zu infinitive",
                outer.english(front) + inner.english_infinitive(),
                [*outer.german(front), COMMA, *inner.german_infinitive()],
            )
        return Pair(
            "zu infinitive",
            outer.english() + inner.english_infinitive(),
            [*outer.german(), COMMA, *inner.german_infinitive()],
        )
    if kind < 0.6:
        inner = s.clause(
            pronoun("we"),
            "present",
            negatable=False,
            time=0.0,
            choose=lambda v: v.en not in STATIVE and v.subject >= PERSON,
        ).clause
        en, de = s.rng.choice(
            [
                ("important", "wichtig"),
                ("easy", "einfach"),
                ("difficult", "schwierig"),
                ("dangerous", "gefährlich"),
            ]
        )
        n, a = link(), link()
        it = Phrase(lambda c: words("it", n), lambda c: words("es", n))
        be = Clause(
            it,
            BE,
            [part("pred", words(en, a), words(de, a))],
            s.rng.choice(["present", "past"]),
            negated=s.chance(0.25),
        )
        return Pair(
            "zu infinitive",
            be.english() + inner.english_infinitive(),
            [*be.german(), COMMA, *inner.german_infinitive()],
        )
    outer = s.clause(
        subject,
        s.rng.choice(["present", "past", "modal"]),
        negatable=False,
        time=0.3,
        places=0.2,
        choose=lambda v: (
            (v.frame and v.frame[0] in ("dir", "from"))
            or v.en in ("buy", "call", "invite", "need", "open", "use", "stay", "borrow", "sell")
        ),
    ).clause
    if outer.verb == inner.verb:
        return None
    n = link()
    return Pair(
        "um zu",
        outer.english() + words("in order", n) + inner.english_infinitive(),
        [*outer.german(), COMMA, *words("um", n), *inner.german_infinitive()],
    )


def comparison(s: Sampler) -> Pair | None:
    """Make a comparative or an as ... as comparison."""
    one = s.noun(expand("thing house person animal fruit plant room event"))
    adj = s.adjective(one, graded=True)
    if adj is None:
        return None
    two = s.pick([n for n in BY_CLASS[one.cls] if n != one], lambda n: n.de)
    person = one.cls in ("man", "kin", "woman", "kinf", "child")
    first = (
        s.person_name()
        if person and s.chance(0.3)
        else s.phrase(one, determiners="the the this of:I of:you of:we", adjectives=0.3)
    )
    second = s.phrase(two, plural=first.plural, determiners="the the of:I of:we", adjectives=0.3)
    a, t, b = link(), link(), link()
    tense = s.rng.choice(["present", "present", "past"])
    if s.chance(0.65):
        en = words(adj.en_comparative, a) + words("than", t)
        de = words(adj.de_comparative, a) + words("als", t)
        negated = False
    else:
        negated = s.chance(0.6)
        en = words("as", b) + words(adj.en, a) + words("as", t)
        de = words("so", b) + words(adj.de, a) + words("wie", t)
        if not negated:
            de = words("genauso", b) + de[1:]
            en = words("just as", b) + en[1:]
    clause = Clause(
        first,
        BE,
        [part("pred", en + second.english("obj"), de + second.german("nom"))],
        tense,
        negated=negated,
    )
    return Pair("comparison", clause.english(), clause.german())


def coordination(s: Sampler) -> Pair | None:
    """Join two main clauses with and or but."""
    tense = s.rng.choice(["present", "past", "past", "future"])
    one = s.clause(tense=tense, time=0.35, places=0.2, choose=lambda v: bool(v.subject & PERSON))
    subject = s.again(one.clause.subject) if s.chance(0.5) else s.subject(PERSON)
    if subject is None or subject.inanimate:
        return None
    two = s.clause(subject, tense, time=0.15, places=0.2)
    if one.clause.verb == two.clause.verb or one.clause.tense != two.clause.tense:
        return None
    but = s.chance(0.4)
    n = link()
    front = one.fronts[0] if one.fronts and s.chance(0.4) else None
    en = words("but" if but else "and", n)
    de = [COMMA, *words("aber", n)] if but else words("und", n)
    return Pair(
        "coordination",
        [*one.clause.english(front), COMMA, *en, *two.clause.english()],
        [*one.clause.german(front), *de, *two.clause.german()],
    )


def possession(s: Sampler) -> Pair | None:
    """Make a genitive: the car of the teacher, Annas Auto; or have."""
    r = s.rng.random()
    if r < 0.35:
        subject = s.subject(PERSON)
        tense = s.rng.choice(["present", "past"])
        kein = link() if s.chance(0.3) and subject.english("nom")[0].text not in ("no", "every") else None
        noun = s.noun(expand("goods kinship animal idea"))
        if noun.cls in ("kin", "kinf") and noun.en not in ("brother", "sister", "son", "daughter"):
            return None
        obj = noun_phrase(noun, "a", s.adjectives(noun, 0.5)) if kein is None else s.phrase(noun, negation=kein)
        clause = Clause(
            subject,
            HAVE,
            [part("acc", obj.english("obj"), obj.german("acc"))],
            tense,
            negated=kein is not None,
            kein=kein,
        )
        return Pair("possession", clause.english(), clause.german())
    if r < 0.7:
        person = s.rng.choice(["man", "woman", "child"])
        noun = s.noun(expand("vehicle furniture clothes container instrument house device text"))
        owner = s.phrase(s.noun(frozenset({person})), determiners="the the this of:I of:we", adjectives=0.3)
        n = link()
        german = owner.german("gen")
        german = [german[0]._replace(links=german[0].links | {n}), *german[1:]]
        tail = (words("of", n) + owner.english("obj"), german)
        phrase = noun_phrase(noun, "the", s.adjectives(noun, 0.25), s.chance(0.25), tail=tail)
    else:
        noun = s.noun(expand("vehicle furniture clothes container instrument house device kinship"))
        owner_name = s.pick([*NAMES_M.split(), *NAMES_F.split()])
        if owner_name.endswith("s"):
            return None
        o, n = link(), link()
        adj = s.adjectives(noun, 0.3)
        plural = s.chance(0.2)
        bare = noun_phrase(noun, "", adj, plural)
        phrase = Phrase(
            lambda c: words(f"{owner_name}'s", o) + bare.english(c),
            lambda c: words(f"{owner_name}s", o) + bare.german(c),
            3,
            plural,
            bare.pronoun,
            noun.gender,
        )
    fitting = [
        v
        for v in ALL_VERBS
        if len(v.frame) == 1
        and v.frame[0].startswith("acc:")
        and noun.cls in expand(v.frame[0][4:])
        and v.subject & PERSON
    ]
    predicate = s.adjective(noun)
    if fitting and s.chance(0.6):
        v = s.pick(fitting, lambda v: v.prefix + v.de)
        subject = s.subject(v.subject)
        tense = s.rng.choice(["present", "past", "future"])
        if v.en == v.en_past and tense == "past":
            return None
        clause = Clause(subject, v, [part("acc", phrase.english("obj"), phrase.german("acc"))], tense)
    elif predicate:
        clause = s.be(phrase, predicate, s.rng.choice(["present", "past"]), s.chance(0.2))
    else:
        return None
    return Pair("possession", clause.english(), clause.german())


def figures(s: Sampler) -> Pair | None:
    """Tell prices, ages and durations."""
    r = s.rng.random()
    n, u = link(), link()
    if r < 0.45:
        noun = s.noun(expand("goods food"))
        food = noun.cls in expand("food")
        euros = s.rng.randrange(2, 10) if food else s.rng.randrange(2, 20) * 10
        cents = s.rng.choice(["", ".50", ".20", ".90"]) if food else ""
        amount = f"{euros}{cents}"
        subject = s.phrase(noun, determiners="the the this of:I of:you", plural=False)
        parts = [
            part(
                "pred",
                words(amount, n) + words("euros", u),
                words(amount.replace(".", ","), n) + words("Euro", u),
            )
        ]
        clause = Clause(subject, COST, parts, s.rng.choice(["present", "present", "future"]))
    elif r < 0.7:
        years = s.rng.randrange(18, 80)
        a = link()
        subject = s.subject(expand("person"))
        texts = {word.text for word in subject.english("nom")}
        if texts & {"no", "every", "boy", "boys", "girl", "girls", "child", "children"}:
            return None
        parts = [
            part(
                "pred",
                words(str(years), n) + words("years", u) + words("old", a),
                words(str(years), n) + words("Jahre", u) + words("alt", a),
            )
        ]
        clause = Clause(subject, BE, parts, s.rng.choice(["present", "past"]))
    else:
        number = s.pick(NUMBERS, lambda x: x[1])
        en, de = s.rng.choice([("hours", "Stunden"), ("days", "Tage"), ("minutes", "Minuten"), ("weeks", "Wochen")])
        event = s.phrase(s.noun(frozenset({"event"})), determiners="the the this", plural=False)
        parts = [part("pred", words(number[0], n) + words(en, u), words(number[1], n) + words(de, u))]
        clause = Clause(event, LAST, parts, s.rng.choice(["present", "past", "future"]))
    return Pair("figures", clause.english(), clause.german())


def liking(s: Sampler) -> Pair | None:
    """Turn English likes into German gefällt: subject and object change places."""
    who = s.subject(PERSON)
    noun = s.noun(expand("goods text song building plant idea"))
    what = s.phrase(noun, who.pronoun, determiners="the the this of:you of:I")
    if who.english("nom")[0].text in ("no", "every"):
        return None
    role = "pron" if who.is_pronoun else "dat"
    tense = s.rng.choice(["present", "past", "future"])
    negated = s.chance(0.25)
    parts = [
        Part(what.english("obj"), [], 2, 9),
        Part([], who.german("dat"), 9, {"pron": 0, "dat": 3}[role]),
    ]
    clause = Clause(who, LIKE, parts, tense, negated=negated, german_subject=what)
    return Pair("liking", clause.english(), clause.german())


def passive(s: Sampler) -> Pair | None:
    """Make a passive in the past, with or without its agent."""
    v = s.pick(
        [
            v
            for v in ALL_VERBS
            if len(v.frame) == 1
            and v.frame[0].startswith("acc:")
            and v.subject & PERSON
            and v.en not in STATIVE | {"put"}
        ],
        lambda v: v.prefix + v.de,
    )
    noun = s.noun(expand(v.frame[0][4:]))
    parts: list[Part] = []
    if s.chance(0.6):
        agent = s.subject(v.subject & PERSON, plain=s.chance(0.7))
        if agent.is_pronoun or agent.english("nom")[0].text in ("no", "every", "many"):
            return None
        en, de = preposition("by", "von", agent, "dat")
        parts.append(part("manner", en, de))
    if s.chance(0.5):
        parts.append(s.time("past"))
    front = parts[-1] if parts and parts[-1].de_slot == 1 and s.chance(0.5) else None
    clause = Clause(s.phrase(noun), v, parts, "passive")
    return Pair("passive", clause.english(front), clause.german(front))


# Each construction with its weight.
CONSTRUCTIONS: list[tuple[Callable[[Sampler], Pair | None], float]] = [
    (statement, 25),
    (yes_no, 5),
    (wh_adverb, 3),
    (wh_subject, 2.5),
    (wh_object, 3.5),
    (imperative, 4),
    (subordinate, 16),
    (takes_up, 7),
    (still, 5),
    (reports, 9),
    (relative_subject, 7),
    (relative_object, 5),
    (infinitive, 8),
    (comparison, 4.5),
    (coordination, 6),
    (possession, 5),
    (figures, 4),
    (liking, 3),
    (passive, 6),
]
_BUILDERS = [c for c, _ in CONSTRUCTIONS]
_WEIGHTS = [w for _, w in CONSTRUCTIONS]


def sample(sampler: Sampler) -> Pair:
    """Draw a sentence pair."""
    build = sampler.rng.choices(_BUILDERS, _WEIGHTS)[0]
    while True:
        pair = build(sampler)
        if pair is not None and not clumsy(pair):
            return pair


def clumsy(pair: Pair) -> bool:
    """Tell whether a sentence repeats a content word or is too long."""
    content = [w.text for w in pair.de if w.text in CONTENT or w.text[0].isupper()]
    too_short = min(len(pair.en), len(pair.de)) < 3
    return too_short or len(pair.en) > 25 or len(content) != len(set(content))


CONTENT = {a.de + end for a in ALL_ADJECTIVES for end in ("", "e", "en", "er", "es", "em")}
