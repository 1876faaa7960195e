"""What is known of languages and how they are written: scripts, codes, and signs by which a text is told."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path

_SAMPLE = 2_000  # lines that a guess looks at

# Codes of ISO 639-1, and of 639-3 where it has none, by the scripts (as Unicode names them) that the language uses.
_LATIN = """
    af ak an ast az ban br bs ca ceb co cs cy da de ee en eo es et eu ff fi fil fj fo fr fy ga gd gl gn gv ha haw hr
    ht hu ia id ig is it jv kl kw la lb lg li ln lt lv mg mi ms mt nb nl nn no nso nv ny oc om pl pt qu rm rn ro rw
    sc se sg sk sl sm sn so sq ss st su sv sw tk tl tn to tr ts tw ty vi wa wo xh yo zu
"""
_OTHERS = {
    "CYRILLIC": "ab av ba be bg ce cv kv ky mk os ru sah tg tt udm uk",
    "CYRILLIC LATIN": "bs kk sr uz",
    "CYRILLIC MONGOLIAN": "mn",
    "GREEK": "el",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "HEBREW": "he yi",
    "ARABIC": "ar arz ckb fa ps ug ur",
    "ARABIC LATIN": "ku",
    "ARABIC DEVANAGARI": "ks sd",
    "SYRIAC": "syr",
    "THAANA": "dv",
    "ETHIOPIC": "am ti",
    "DEVANAGARI": "bho hi mai mr ne sa",
    "BENGALI": "as bn",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "LAO": "lo",
    "TIBETAN": "bo dz",
    "MYANMAR": "my",
    "KHMER": "km",
    "HANGUL CJK": "ko",
    "CJK BOPOMOFO": "yue zh",
    "CJK HIRAGANA KATAKANA": "ja",
}
_SCRIPTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_LATIN.split(), frozenset({"LATIN"})),
    **{code: frozenset(names.split()) for names, codes in _OTHERS.items() for code in codes.split()},
}

_LONG_CODES = dict(
    pair.split(":")
    for pair in """
    afr:af ara:ar arb:ar asm:as aze:az bel:be ben:bn bul:bg cat:ca ces:cs cze:cs cmn:zh cym:cy dan:da deu:de ger:de
    ell:el gre:el eng:en epo:eo est:et eus:eu baq:eu fas:fa pes:fa per:fa fin:fi fra:fr fre:fr gle:ga glg:gl guj:gu
    hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy arm:hy ibo:ig ind:id isl:is ice:is ita:it iw:he jpn:ja kan:kn kat:ka
    geo:ka kaz:kk khm:km kor:ko lao:lo lat:la lav:lv lvs:lv lit:lt mal:ml mar:mr mkd:mk mac:mk mlt:mt mon:mn khk:mn
    msa:ms zsm:ms mya:my bur:my nep:ne npi:ne nld:nl dut:nl nno:nn nob:nb nor:no ori:or ory:or pan:pa pol:pl por:pt
    pus:ps ron:ro rum:ro rus:ru sin:si slk:sk slo:sk slv:sl som:so spa:es sqi:sq alb:sq srp:sr swa:sw swh:sw swe:sv
    tam:ta tel:te tgl:tl tha:th tir:ti amh:am tur:tr ukr:uk urd:ur uzb:uz vie:vi xho:xh yid:yi yor:yo zho:zh chi:zh
    zul:zu
    """.split()
)

_SUBTAGS = {"latn": "LATIN", "cyrl": "CYRILLIC", "arab": "ARABIC", "deva": "DEVANAGARI", "hebr": "HEBREW"}

_ONE_LANGUAGE = {
    script: codes.split()[0] for script, codes in _OTHERS.items() if len(codes.split()) == 1 and " " not in script
} | {"HANGUL": "ko", "CJK": "zh"}

# The most frequent words that tell a language from those which look like it.
_WORDS = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to in is a that for with on are was you it",
        "de": "der die und das ist nicht ein eine zu den mit ich auf sie im",
        "fr": "le la les et des est une un dans que pour pas du je en de",
        "es": "el la los y en que es una un por con no se del de",
        "it": "il di che la è un una e non per in sono della con i",
        "pt": "o que não um uma os para com é do da em ao de se e a",
        "ca": "i el la de que no els per amb una un és a en les",
        "nl": "het een van en is de niet ik dat op met zijn in te",
        "sv": "och att det är en som på inte av jag för med ett i",
        "da": "og at det er en på ikke af jeg til med der som et i",
        "no": "og å det er en på ikke av jeg til med som et har i",
        "fi": "ja on ei se että oli hän mutta kun ovat myös ole olen",
        "et": "ja on ei see et ta oli mis kui aga ka ma olen",
        "lv": "un ir ka no ar uz par bet kas tas nav es viņš",
        "lt": "ir į kad su iš yra tai bet kaip ne aš buvo jis",
        "pl": "w i na nie się z do to że jest jak jestem po",
        "cs": "a se na v je že to s z do jsem ale jako nebo by",
        "sk": "a sa na v je že to s z do som ale ako alebo by",
        "sl": "in je se na da za v so ne ki sem pa bi z",
        "hr": "je i u da se na su za ne što sam bi od",
        "hu": "a az és hogy nem egy is ez meg csak volt van",
        "ro": "și în de la nu a cu pe este o să care din un",
        "tr": "ve bir bu da de için çok ne ile ben var değil",
        "vi": "là của và có không một được người cho trong này tôi",
        "id": "yang dan di itu dengan tidak ini dari untuk saya ada ke",
        "ru": "и в не на что я с он это как но а у",
        "uk": "і в не на що я з у це та як до є",
        "be": "і ў не на што я з у гэта як да ён",
        "bg": "и в не на да е се за от с ще че това",
        "mk": "и на во да се не од за е што со ќе",
        "sr": "и у је да се на не за су што сам од",
        "ar": "في من على أن إلى هذا لا ما هو عن كان التي",
        "fa": "در به از که این را با است و برای آن من",
        "ur": "کے میں کی ہے سے کا کو اور نے یہ پر",
        "ps": "د په او چې له کې دی سره دا",
        "he": "של את על לא הוא זה עם אני גם כי היא",
        "yi": "און די איז פון דער אין צו נישט דאס א",
        "hi": "है के में की और से का को नहीं यह हैं पर",
        "mr": "आहे आणि या तो नाही हे मी ते व आहेत",
        "ne": "छ र यो हो छन् पनि तर थियो भने म",
        "bn": "এই এবং করে না থেকে একটি জন্য আমি আছে",
        "as": "আৰু কৰি পৰা হৈছে এটা মই নাই কৰা",
        "am": "ነው እና ላይ ነበር ይህ ውስጥ ግን",
        "ti": "እዩ ናይ ኣብ ድማ እቲ ግን ከም",
    }.items()
}
_ALIKE = ({"hr", "sr", "bs"}, {"id", "ms"}, {"no", "nb", "nn"}, {"zh", "yue"}, {"fa", "ckb"})  # one guess for several

_FORMS = {"KATAKANA-HIRAGANA": "KATAKANA", "IDEOGRAPHIC": "CJK", "FEMININE": "LATIN", "MASCULINE": "LATIN"}
_SYMBOLS = frozenset(
    """
    MODIFIER MICRO MATHEMATICAL SUPERSCRIPT SUBSCRIPT SCRIPT DOUBLE-STRUCK BLACK-LETTER OHM KELVIN ANGSTROM EULER
    INFORMATION TURNED ALEF BET GIMEL DALET MASU VERTICAL
    """.split()
)


@cache
def script(character: str) -> str | None:
    """The script of a letter: LATIN, CYRILLIC, CJK, HIRAGANA, …; None for what is no letter, and for symbols (µ, ℓ)."""
    if not character.isalpha():  # categories L*
        return None
    words = unicodedata.name(character, "").removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ").split()
    if not words or words[0] in _SYMBOLS:
        return None
    return _FORMS.get(words[0], words[0])


def scripts(text: str) -> Counter[str]:
    """Count the letters of a text by their script."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        name = script(character)
        if name is not None:
            counts[name] += count
    return counts


def language_code(language: str) -> str | None:
    """The ISO 639-1 code of ``pt-BR``, ``zh_Hans``, ``deu`` and the like (639-3 where that has none); None: unknown."""
    code = re.split("[-_]", language.lower())[0]
    code = _LONG_CODES.get(code, code)
    return code if code in _SCRIPTS else None


def expected_scripts(language: str) -> frozenset[str] | None:
    """The scripts that a language is written in; None for an unknown code. ``sr-Latn`` and ``uz_Cyrl`` have one."""
    for subtag in re.split("[-_]", language.lower())[1:]:
        if subtag in _SUBTAGS:
            return frozenset({_SUBTAGS[subtag]})
    code = language_code(language)
    return None if code is None else _SCRIPTS[code]


def main_scripts(lines: Iterable[str]) -> frozenset[str]:
    """The most frequent scripts that 99 % of the letters of some lines are in."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts += scripts(line)
    found, left = set(), counts.total() / 100
    for name, count in reversed(counts.most_common()):
        left -= count
        if left < 0:
            found.add(name)
    return frozenset(found)


def guess_language(lines: Iterable[str]) -> str | None:
    """The language of a text, by its script and its most frequent words; None unless that is clear."""
    sample = list(islice(lines, _SAMPLE))
    counts = sum((scripts(line) for line in sample), Counter[str]())
    letters = counts.total()
    if letters < 20:
        return None
    kana = counts["HIRAGANA"] + counts["KATAKANA"]
    if kana >= letters / 20 and kana + counts["CJK"] > letters / 2:
        return "ja"
    name, count = counts.most_common(1)[0]
    if count <= letters / 2:
        return None
    return _ONE_LANGUAGE.get(name) or _guess_by_words(sample)


def _guess_by_words(lines: list[str]) -> str | None:
    """The language whose words are a twentieth of the text, and clearly more than those of any other."""
    punctuation = " \t.,;:!?…()[]{}\"'«»„“”‘’¿¡-–—،؛؟।॥፣።"
    words = Counter(word.strip(punctuation) for line in lines for word in line.casefold().split())
    hits = {code: sum(words[word] for word in known) for code, known in _WORDS.items()}
    best = max(hits, key=lambda code: hits[code])
    if hits[best] < max(5, words.total() / 20):
        return None
    for other, known in _WORDS.items():  # words that both have tell nothing
        ours = sum(words[word] for word in _WORDS[best] - known)
        theirs = sum(words[word] for word in known - _WORDS[best])
        if other != best and ours < 2 * theirs:
            return None
    return best


def other_language(language: str, lines: Iterable[str]) -> str | None:
    """The language that a text seems to be in instead of ``language``; None when it may well be that one.

    A language whose words are not known (Galician, Afrikaans) is only told by its script.
    """
    code, guess = language_code(language), guess_language(lines)
    if code is None or guess is None or code == guess or any({code, guess} <= group for group in _ALIKE):
        return None
    same_script = bool(_SCRIPTS[code] & _SCRIPTS[guess])
    return None if same_script and code not in _WORDS and code not in _ONE_LANGUAGE.values() else guess


_ENDING = re.compile(r"\.(?:gz|xz|bz2|zst|txt|text|raw|tok|clean|tsv|csv|sgm|utf-?8)$", re.IGNORECASE)
_CODE_AT_END = re.compile(r"(?:^|[._-])([A-Za-z]{2,3})(?:[-_](?:[A-Z]{2}|[A-Z][a-z]{3}))?$")


def language_of_name(path: str | Path) -> str | None:
    """The language that the name of a file tells, or else of its folder: ``train.de``, ``news_de.txt.gz``, ``de/a``.

    None when it tells no known code, or two: ``train.txt``, ``my.src``, ``corpus.de-en``.
    """
    path = Path(path)
    stem = path.name
    while (shorter := _ENDING.sub("", stem)) != stem:
        stem = shorter
    parts = stem.rsplit(".", 1)[-1].split("-")
    if len(parts) == 2 and all(part.islower() and language_code(part) for part in parts):
        return None  # ``de-en`` names a pair
    match = _CODE_AT_END.search(stem)
    code = language_code(match[1]) if match else None
    return code or (language_code(path.parent.name) if re.fullmatch("[a-z]{2,3}", path.parent.name) else None)
