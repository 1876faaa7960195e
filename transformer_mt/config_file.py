"""The configuration's file: YAML and ``--set`` in, one checked tree out; every mistake is told with its line."""

import difflib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from transformer_mt.config import KINDS, MODELS, Config, Section, Source
from transformer_mt.errors import ConfigError, missing, unreadable
from transformer_mt.strict_yaml import KeyPath, parse_yaml


def _apply(tree: dict[str, Any], assignment: str, lines: dict[KeyPath, int]) -> KeyPath:
    """Carry out one ``--set KEY=VALUE``; the value is YAML and replaces what stands there, and its ``lines``."""
    if (shown := _shown(assignment)) != assignment:
        raise ConfigError(f"--set {shown}: not UTF-8; write key and value in UTF-8")
    key, equals, text = assignment.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {assignment}: not an assignment; expected KEY=VALUE, such as training.max_steps=100")
    if not text.strip():
        raise ConfigError(f"--set {assignment}: the value is missing; for none, write {key}=null")
    value, _ = parse_yaml(text, f"--set {key}")
    node = tree
    replaced = path
    for depth, part in enumerate(path[:-1], start=1):
        child = node.get(part)
        if part == "model" and isinstance(child, str):
            child = {_short(child): child}
        if not isinstance(child, dict):
            child, replaced = {}, min(replaced, path[:depth], key=len)
        node[part] = child
        node = child
    node[path[-1]] = value
    for stale in [line for line in lines if line[: len(replaced)] == replaced]:
        del lines[stale]
    return path


def _short(model: str) -> str:
    """The key that ``model: NAME`` stands for."""
    return "kind" if model in MODELS else "size"


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds, or holds a list, mapping or option of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, getattr(annotation, "__args__", ()))), None)


def _section_at(path: KeyPath) -> type[Section] | None:
    """The section that stands at ``path``; None for a plain value."""
    section: type[Section] | None = Config
    for part in path:
        if section is Source:  # the number or the name of one of several
            continue
        if section in MODELS.values() and part in MODELS:
            section = MODELS[str(part)]
            continue
        field = None if section is None else section.model_fields.get(str(part))
        section = None if field is None else _section_in(field.annotation)
    return section


def _sections(path: KeyPath) -> list[str]:
    """The keys that the configuration knows at ``path``'s parent."""
    section = _section_at(path[:-1])
    return [] if section is None else [field.alias or name for name, field in section.model_fields.items()]


def _nearest(path: KeyPath) -> str:
    """What an unknown key may have been meant to be: one of its place, one of another section, or what is known."""
    key, known = str(path[-1]), _sections(path)
    for kind in MODELS:
        if path[0] == "model" and path[1] != kind and key in _sections(("model", kind, "")):
            return f"it goes with kind: {kind}"
    elsewhere = {
        field: f"{section}.{field}"
        for section in Config.model_fields
        for field in _sections((section, ""))
        if section != "data"
    }
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [name for name in known if _initials(name) == key]
    if key in elsewhere:
        return f"did you mean '{near[0]}', or '{elsewhere[key]}'?" if near else f"did you mean '{elsewhere[key]}'?"
    if near:
        return f"did you mean '{near[0]}'?"
    if key.isdecimal():  # {dropout: 0,1}
        return "write decimals with a point, such as 0.1"
    return f"known here: {', '.join(known) or 'nothing'}"


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_"))


_GIVE = {
    "languages": "give both codes, such as languages: {source: de, target: en}",
    "data": "give text, such as data: {train: {source: FILE, target: FILE}}",
    "data.train": "give text, such as train: {source: FILE, target: FILE}",
    "run_dir": "give a folder for all that the run makes, such as run_dir: runs/NAME",
}


def _keys(path: KeyPath) -> KeyPath:
    """The keys of a path of pydantic's, which also names the branch of a union that it took."""
    if path[:1] == ("model",) and path[1:2] and path[1] in MODELS:
        path = ("model", *path[2:])
    return tuple(part for part in path if part not in ("str", "int", "list[str]"))


def _complaint(error: Any) -> str:
    """One pydantic error in our words."""
    path, kind = tuple(error["loc"]), error["type"]
    key = ".".join(map(str, _keys(path)))
    if kind == "union_tag_invalid":
        return f"{key}.kind: got '{error['ctx']['tag']}'; expected {' or '.join(MODELS)}"
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(path)}"
    if kind == "missing":
        return f"{key}: missing; {_GIVE.get(key, 'it must be given')}"
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    return f"{key}: got {_value(error['input'])}; {_expected(error)}"


def _value(given: Any) -> str:
    return "nothing" if given is None else "a mapping" if isinstance(given, dict) else _plain(given)


def _plain(given: Any) -> str:
    text = str(given).lower() if isinstance(given, bool) else repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_SHOWN = 60  # characters of a value that is not as expected
_WORDS = {  # of pydantic
    "Input should be ": "",
    "a valid i": "an i",
    "a valid ": "a ",
    "a boolean": "true or false",
    "String should have at least 1 character": "some text",
    "a string, unable to parse raw data as a unicode string": "text in UTF-8",
    "Tuple should have": "a list of",
    " after validation": "",
    "greater": "a number greater",
    "less than": "a number less than",
}


def _expected(error: Any) -> str:
    path, kind, given = tuple(error["loc"]), error["type"], error["input"]
    if kind in ("model_type", "model_attributes_type", "dict_type", "list_type", "too_short"):
        if _section_at(path) is Source:
            return f"expected one of {', '.join(KINDS)}"
        if keys := _sections((*path, "")):
            return f"expected a mapping of {', '.join(keys)}"
    wanted = str(error["msg"])
    for theirs, ours in _WORDS.items():
        wanted = wanted.replace(theirs, ours)
    number = kind in ("int_type", "float_type", "bool_type")
    quoted = number and isinstance(given, str) and given.replace(".", "", 1).isdigit()
    return f"expected {wanted} (without quotes)" if quoted else f"expected {wanted}"


def _explain(error: ValidationError, name: str, lines: dict[KeyPath, int], given: set[KeyPath]) -> str:
    """The first error, with file and line or the ``--set`` that it came from, and how many more there are."""
    # A misspelt key is told before the missing one that it was meant to be.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    more = error.error_count() - 1
    path = _keys(first["loc"])
    if path[:1] == ("data",) and path[:3] not in lines:
        path = first["loc"] = path[:2] + path[3:]  # the only corpus of a list, the only set of a split
    inside = next((g for g in sorted(given, key=len) if path and g[: len(path)] == path), None)
    while path and path not in lines and path not in given:
        path = path[:-1]
    if not path and inside is not None:
        path = inside  # the section was made by ``--set``
    complaint = _complaint(first)
    if path in given:
        dotted = ".".join(map(str, path))
        complaint = complaint if complaint.startswith(dotted) else f"{dotted}: {complaint}"
        where = "--set"
    else:
        where = f"{name}:{lines[path]}:" if path in lines else f"{name}:"
    return f"{where} {complaint}" + (f" (and {more} more)" if more else "")


def _here(path: str) -> str:
    """An absolute path, without ``..``; a file that is a link keeps its name, and a URL stays to be complained of.

    Raises ConfigError for what can be no path, or none that a configuration can hold.
    """
    if "\0" in path:
        raise ConfigError(f"{path!r}: a NUL character in a path; remove it")
    if "://" in path:
        return path
    given = Path(path)
    with suppress(RuntimeError):  # a name that starts with ~ and is nobody's home
        given = given.expanduser()
    absolute = str(Path(os.path.realpath(given.parent)) / given.name)  # a link that leads to itself is told later
    if (shown := _shown(absolute)) != absolute:
        raise ConfigError(f"{shown}: the name of the folder is not UTF-8; rename it")
    return absolute


def _shown(text: str) -> str:
    r"""Text of the command line as it can be printed: a byte that is not UTF-8 becomes ``\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode()


def _absolute(config: Config) -> Config:
    """Make paths absolute: a run directory must not depend on where it was started from."""

    def source(given: Source) -> Source:
        kinds = ("source", "alignment", "tsv", "jsonl", "parquet")
        update: dict[str, Any] = {k: _here(path) for k in kinds if (path := getattr(given, k)) is not None}
        if isinstance(given.target, str):
            update["target"] = _here(given.target)
        elif given.target is not None:
            update["target"] = [_here(target) for target in given.target]
        if given.hub is not None and Path(_here(given.hub)).is_dir():
            update["hub"] = _here(given.hub)
        return given.model_copy(update=update)

    def run(path: str | None) -> str | None:
        return None if path is None else _here(path)

    data = config.data
    corpora: dict[str, Any] = {"train": [source(given) for given in data.train]}
    for split in ("valid", "test"):
        sets = getattr(data, split)
        corpora[split] = None if sets is None else {name: source(given) for name, given in sets.items()}
    sections = {
        "data": data.model_copy(update=corpora),
        "tokenizer": config.tokenizer.model_copy(update={"from_": run(config.tokenizer.from_)}),
        "training": config.training.model_copy(update={"start_from": run(config.training.start_from)}),
    }
    return config.model_copy(update={**sections, "run_dir": _here(config.run_dir)})


def _origin(run: str, tree: dict[str, Any], where: str, chain: tuple[Path, ...]) -> tuple[str, Config]:
    """The directory of a run that ``tree`` builds upon, and its configuration. Raises ConfigError.

    One that is gone is no longer needed when training has begun: the run that ``tree`` describes has what it took.
    """
    own, there = Path(_here(str(tree.get("run_dir")))), Path(_here(run))
    if not there.exists() and (own / "config.yaml").is_file():
        base = load_config(own)
        if str(there) in (base.training.start_from, base.tokenizer.from_):
            return run, base
    try:
        base = load_config(there, chain=chain)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return base.run_dir, base


def _extends(model: dict[str, Any], base: Config) -> bool:
    """Whether a model is that of another run, but for what it says itself."""
    return "size" not in model and model.get("kind", base.model.kind) == base.model.kind


def _inherit(tree: dict[str, Any], name: str, chain: tuple[Path, ...]) -> None:
    """Fill ``model`` and ``tokenizer`` with those of the run that training starts from.

    Raises ConfigError when a tokenizer that is taken from a run is given other settings.
    """
    training, tokenizer = tree.get("training"), tree.get("tokenizer")
    start = training.get("start_from") if isinstance(training, dict) else None
    if isinstance(training, dict) and isinstance(start, str):
        start, base = _origin(start, tree, f"{name}: training.start_from", chain)
        tree["training"] = {**training, "start_from": start}
        if isinstance(model := tree.get("model", {}), dict) and _extends(model, base):
            tree["model"] = {**base.model.model_dump(), **model}
        if tokenizer is None:
            tree["tokenizer"] = tokenizer = {"from": start}
    if isinstance(tokenizer, dict) and isinstance(origin := tokenizer.get("from"), str):
        run, base = _origin(origin, tree, f"{name}: tokenizer.from", chain)
        theirs = base.tokenizer.model_dump(by_alias=True, exclude={"from_"})
        for key, value in tokenizer.items():
            if key in theirs and value != theirs[key]:
                raise ConfigError(
                    f"{name}: tokenizer.{key}: a tokenizer taken from {origin} has {theirs[key]}; leave it out"
                )
        tree["tokenizer"] = {**theirs, **tokenizer, "from": run}


def config_file(argument: Path) -> Path:
    """The YAML file that CONFIG or RUN means: itself, or the one in a run directory. Raises ConfigError."""
    if argument.is_dir():
        inner = argument / "config.yaml"
        if not inner.is_file():
            raise ConfigError(f"{argument}: a folder without config.yaml; give a YAML file or a run directory")
        return inner
    if not argument.exists():
        raise ConfigError(missing(argument))
    return argument


def load_config(argument: Path, overrides: Sequence[str] = (), *, chain: tuple[Path, ...] = ()) -> Config:
    """Read a configuration file, or that of a run directory, and apply ``--set`` overrides.

    ``chain`` are the files that build upon this one, which must not build upon one of them.

    Raises ConfigError naming file, line and key, what was expected, and the nearest known key.
    """
    path = config_file(argument)
    if path.resolve() in chain:
        raise ConfigError(f"{path}: starts from itself; give another run")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(unreadable(path, error)) from error
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise ConfigError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02X}); give a YAML file, saved as UTF-8") from error
    tree, lines = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: not a configuration; expected a mapping of {', '.join(Config.model_fields)} (mt init writes one)"
        )
    given = {_apply(tree, assignment, lines) for assignment in overrides}
    if argument.is_dir() and ("run_dir",) not in given:
        tree["run_dir"] = _here(str(argument))  # wherever it was moved to
    if isinstance(tree.get("model"), str):
        tree["model"] = {_short(tree["model"]): tree["model"]}
    if not argument.is_dir():  # the configuration of a run is whole already
        _inherit(tree, str(path), (*chain, path.resolve()))
    try:
        return _absolute(Config.model_validate(tree))
    except ValidationError as error:
        raise ConfigError(_explain(error, str(path), lines, given)) from error
