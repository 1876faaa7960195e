"""`mt init`: look at two text files and write a configuration to start from, each value with its reason."""

import glob
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from transformer_mt.config import Languages, Source
from transformer_mt.data.advice import Advice, advise
from transformer_mt.data.corpus import read_pairs
from transformer_mt.data.writing import expected_scripts, guess_language, language_of_name, other_language
from transformer_mt.device import choose_device
from transformer_mt.errors import ConfigError, DataError, system_fault
from transformer_mt.strict_yaml import parse_yaml
from transformer_mt.terminal import bar, say, warn

_SETS = {"valid": ("valid", "val", "dev", "validation"), "test": ("test", "tst", "devtest")}  # what files are called
_PURPOSE = {"valid": "chooses the best checkpoint", "test": "what `mt eval` scores"}
_SAMPLE = 2_000  # lines of which the language is told
_UNKNOWN = Languages(source="und", target="und")

Files = tuple[Path, Path]  # source and target


@dataclass(frozen=True)
class Text:
    """What two parallel files hold."""

    pairs: int
    target_characters: float  # of a line, on average
    first: tuple[list[str], list[str]]  # lines of source and target


def init(
    files: Files, output: Path | None, languages: str | None, minutes: int | None = None, *, overwrite: bool
) -> None:
    """Write the configuration to ``output``, by default ``SOURCE-TARGET.yaml`` here, and say what was found.

    Raises DataError when the text is at fault, ConfigError when a language is not clear or ``output`` exists.
    """
    chosen = None if languages is None else _parse(languages)
    if files[0].exists() and files[1].exists() and files[0].samefile(files[1]):
        raise ConfigError(f"{files[0]}: is given as source and as target; give the file of each language")
    text = survey(files)
    chosen = chosen or find_languages(files, text)
    _doubt(files, text, chosen)
    output = output or Path(f"{chosen.source}-{chosen.target}.yaml")
    if output.exists():
        if any(path.exists() and output.samefile(path) for path in files):
            raise ConfigError(f"--output {output}: is one of the texts; choose another name")
        if not overwrite:
            raise ConfigError(f"{output}: exists already; choose another --output, or replace it with --overwrite")
    for path, language in zip(files, (chosen.source, chosen.target), strict=True):
        say(f"{path}: {text.pairs:,} lines, language {language}")
    sets = {split: beside(files, split) for split in _SETS}
    for split, found in sets.items():
        if found is None:
            looked = ", ".join(_SETS[split])
            say(f"{split}: none found beside them (called {looked}); 1 % of the pairs will be held out")
        else:
            say(f"{split}: {found[0]} and {found[1]}")
    if strangers := _strangers(files, sets):
        say(f"there are also {strangers}; if one is your validation or test set, write it into {output}")
    gpu = choose_device("auto").type == "cuda"
    advice = advise(text.pairs, _target_tokens(text, chosen), gpu=gpu, minutes=minutes)
    try:
        output.write_text(render(files, text.pairs, chosen, sets, advice, output), encoding="utf-8", newline="\n")
    except OSError as error:
        error.filename = str(output)
        raise system_fault(error) from error
    limit = f"{advice.max_minutes} minutes" if advice.max_minutes is not None else f"{advice.max_steps:,} steps"
    say(f"wrote {output}: model {advice.size}, {limit} at most; the file says why")
    name = shlex.quote(str(output))
    say(f"next: mt check {name}, then mt train {name}")


def _parse(languages: str) -> Languages:
    match = re.fullmatch(r"([A-Za-z]{2,3}(?:_\w+)?)-([A-Za-z]{2,3}(?:_\w+)?)", languages)
    if match is None:
        raise ConfigError(f"--languages {languages}: not two language codes; write them as in --languages de-en")
    return Languages(source=match[1], target=match[2])


def survey(files: Files) -> Text:
    """Read both files. Raises DataError when they are at fault."""
    pairs = characters = 0
    first: tuple[list[str], list[str]] = ([], [])
    with bar("reading", None, "pairs") as progress:
        for source, (target, *_) in read_pairs(_source(files), _UNKNOWN):
            if pairs < _SAMPLE:
                first[0].append(source)
                first[1].append(target)
            pairs, characters = pairs + 1, characters + len(target)
            progress.advance()
    if pairs == 0:
        raise DataError(f"{files[0]}: is empty; give a file of text, one sentence a line")
    return Text(pairs, characters / pairs, first)


def _source(files: Files) -> Source:
    return Source(source=str(files[0]), target=str(files[1]))


def find_languages(files: Files, text: Text) -> Languages:
    """The languages by the names of the files, or else by the text. Raises ConfigError where neither tells."""
    named = [language_of_name(path) for path in files]
    if named[0] == named[1]:  # by a folder that they share
        named = [None, None]
    codes = []
    for path, name, lines in zip(files, named, text.first, strict=True):
        code = name or guess_language(lines)
        if code is None:
            raise ConfigError(
                f"{path}: neither its name nor its text tells the language; give both with --languages, such as de-en"
            )
        codes.append(code)
    if codes[0] == codes[1]:
        raise ConfigError(
            f"{files[1]}: looks like {codes[1]}, and so does {files[0]}; if they are not the same language, give both "
            "with --languages, such as de-en"
        )
    return Languages(source=codes[0], target=codes[1])


def _doubt(files: Files, text: Text, languages: Languages) -> None:
    """Warn where a text is not in the language that it is taken for."""
    codes = (languages.source, languages.target)
    others = tuple(other_language(code, lines) for code, lines in zip(codes, text.first, strict=True))
    if others == codes[::-1]:
        warn(f"{files[0]} looks like {codes[1]}, and {files[1]} like {codes[0]}; are they swapped?")
        return
    for path, code, other in zip(files, codes, others, strict=True):
        if other is not None:
            warn(f"{path}: taken for {code}, but the text looks like {other}; check the file, or give --languages")


def beside(files: Files, split: str) -> Files | None:
    """Validation or test files that lie beside training files: named alike, such as ``dev.de`` for ``train.de``."""
    slots = [_slot(path, other) for path, other in (files, files[::-1])]
    if None in slots:
        return None
    (head, tail), (other_head, other_tail) = (slot for slot in slots if slot is not None)
    for word in _SETS[split]:
        start = Path(head + word)
        pattern = f"{glob.escape(start.name)}[0-9._-]*{glob.escape(tail)}"  # test_2016.de
        for path in [f"{head}{word}{tail}", *sorted(map(str, start.parent.glob(pattern)))]:
            middle = path[len(head) : len(path) - len(tail)]
            found = (Path(path), Path(f"{other_head}{middle}{other_tail}"))
            if found[0].is_file() and found[1].is_file() and not set(found) & set(files):
                try:
                    if sum(1 for _ in read_pairs(_source(found), _UNKNOWN)):
                        return found
                except DataError as error:
                    warn(f"{split}: not used: {error}")
    return None


def _strangers(files: Files, sets: dict[str, Files | None]) -> str:
    """Other pairs of files beside, that have the ends of the training files' names: ``web.de and web.en``."""
    ends = [path.name[len(path.name.split(".")[0]) :] for path in files]
    if ends[0] == ends[1] or "" in ends:
        return ""
    known = {path.resolve() for found in (files, *sets.values()) if found is not None for path in found}
    pairs = [
        (path, files[1].parent / (path.name.removesuffix(ends[0]) + ends[1]))
        for path in sorted(files[0].parent.glob(f"*{glob.escape(ends[0])}"))
    ]
    found = [pair for pair in pairs if pair[1].is_file() and not known & {path.resolve() for path in pair}]
    return ", ".join(f"{source.name} and {target.name}" for source, target in found[:3])


def _slot(path: Path, other: Path) -> tuple[str, str] | None:
    """A path before and after what names the set: the word ``train``, or else all that two names have in common."""
    train = re.compile(r"(?<![A-Za-z])(?:train(?:ing)?|trn)(?![A-Za-z])")
    text, folder = str(path), str(path)[: len(str(path)) - len(path.name)]
    if match := train.search(path.name):
        return folder + path.name[: match.start()], path.name[match.end() :]
    if train.fullmatch(path.parent.name):
        start = len(folder) - len(path.parent.name) - 1
        return text[:start], text[start + len(path.parent.name) :]
    common = 0
    for number, (ours, theirs) in enumerate(zip(path.name, other.name, strict=False)):
        if ours != theirs:
            break
        if ours in "._-":
            common = number
    return (folder, path.name[common:]) if common else None


def _target_tokens(text: Text, languages: Languages) -> float:
    """About how many pieces a target line has: one for four letters, or for one and a half where words are short."""
    dense = (expected_scripts(languages.target) or frozenset()) & {"CJK", "HANGUL"}
    return text.target_characters / (1.6 if dense else 4.2) + 1


def render(
    files: Files, pairs: int, languages: Languages, sets: dict[str, Files | None], advice: Advice, output: Path
) -> str:
    """The configuration as text."""
    name = shlex.quote(str(output))
    why, held_out = advice.why, "without it, 1 % of train is held out, 2,000 pairs at most"
    lines = [
        f"# {languages.source} to {languages.target}, {pairs:,} pairs: a start, to be changed as you like. Next:",
        f"#   mt check {name}    looks at the text, and foretells time and memory",
        f"#   mt train {name}    trains; Ctrl-C stops it, and --resume goes on",
        f"languages: {{source: {languages.source}, target: {languages.target}}}",
        "data:",
        f"  train: {_mapping(files)}",
    ]
    for split, found in sets.items():
        shown = "{source: FILE, target: FILE}" if found is None else _mapping(found)
        lines.append(f"  {'# ' * (found is None)}{split}: {shown} # {held_out if found is None else _PURPOSE[split]}")
    few = pairs < 20_000  # whose text may not have that many subwords: left out, it is what the text has
    limit = "max_minutes" if advice.max_minutes is not None else "max_steps"
    lines += [
        "  drop: [copies, duplicates, script, control] # training pairs that harm: untranslated, repeated, in a wrong",
        "  # script, with broken characters; also: leaks, what validation or test has, too",
        f"{'# ' * few}tokenizer: {{vocab_size: {advice.vocab_size}}} # {why['tokenizer.vocab_size']}",
        "model:",
        f"  size: {advice.size} # tiny, small, base or big; {why['model.size']}",
        f"  dropout: {advice.dropout} # {why['model.dropout']}",
        "training:",
        f"  {limit}: {getattr(advice, limit)} # {why[f'training.{limit}']}",
        f"  batch_tokens: {advice.batch_tokens} # {why['training.batch_tokens']}",
    ]
    if advice.batch_tokens > 4096:
        lines.append(f"  device_tokens: {advice.batch_tokens} # held at once; less, if memory runs out")
    lines += [
        f"  warmup_steps: {advice.warmup_steps} # {why['training.warmup_steps']}",
        f"  learning_rate: {f'{advice.learning_rate:.0e}'.replace('e-0', 'e-')} # {why['training.learning_rate']}",
        f"  validate_every: {advice.validate_every} # steps; ten validations without a better BLEU end the run, too",
    ]
    if advice.validate_every < 500:
        lines.append(f"  save_every: {advice.validate_every}")
    if advice.max_minutes is not None:
        lines.append("  # precision: bfloat16 # faster on recent processors of AMD and Intel")
    return "\n".join([*lines, f"run_dir: {_scalar(f'runs/{output.stem}')} # for everything that the run makes", ""])


def _mapping(files: Files) -> str:
    return f"{{source: {_scalar(str(files[0]))}, target: {_scalar(str(files[1]))}}}"


def _scalar(text: str) -> str:
    """Text as a value of YAML, in quotes where it would be taken for something else."""
    plain = re.fullmatch(r"[\w./~+][\w./~+-]*", text) and parse_yaml(text, "")[0] == text
    return text if plain else json.dumps(text, ensure_ascii=False)
