"""YAML with its traps closed: ``1e-4`` is a number, ``no`` is text, ``010`` is ten, a key given twice is an error."""

import re
from bisect import bisect_left
from typing import Any, ClassVar

import yaml

from transformer_mt.errors import ConfigError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's plain scalars and neither aliases nor own tags."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported; write it out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes text that either version of YAML takes for something else: 12e3, no."""


_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    "float": (
        re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
        list("-+0123456789."),
    ),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def _value(node: yaml.Node, path: KeyPath, places: dict[KeyPath, int]) -> Any:
    """Turn a YAML node into plain values, noting where in the text each key is."""
    places.setdefault(path, node.start_mark.index)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        raise yaml.MarkedYAMLError(
            problem=f"tag {node.tag!r} is not supported; leave it out", problem_mark=node.start_mark
        )
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a list or a mapping for a key; write KEY: VALUE", problem_mark=key_node.start_mark
                )
            key = str(key_node.value)
            if key in mapping:
                where = ".".join(map(str, (*path, key)))
                raise yaml.MarkedYAMLError(
                    problem=f"{where}: the key is given twice; keep one", problem_mark=key_node.start_mark
                )
            places[(*path, key)] = key_node.start_mark.index
            mapping[key] = _value(value_node, (*path, key), places)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), places) for i, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except ValueError as error:
        raise yaml.MarkedYAMLError(
            problem="not a number, or of too many digits; write a smaller one", problem_mark=node.start_mark
        ) from error


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
    raise yaml.MarkedYAMLError(problem=f"tag {node.tag!r} is not supported; leave it out", problem_mark=node.start_mark)


_PROBLEMS = {  # by a sign in PyYAML's words
    "'\\t'": "a tab; YAML is indented with spaces",
    "<block end>": "does not fit what is above it; check the indentation",
    "mapping values are not allowed": "a second colon; put the text in quotes, or check the indentation",
    "expected ':'": "not KEY: VALUE; write a space after the colon",
    "expected ',' or": "a bracket is not closed; close it",
    "expected the node content": "a bracket is not closed; close it",
    "end of stream": "a quotation mark is not closed; close it",
    "escape": "a backslash between double quotes; take single quotes",
}
_OPENED = ("expected ':'", "expected ',' or", "end of stream")  # told by the line where it began


def _told(problem: str) -> str:
    """What is wrong in our words, and what to do; what we found ourselves says so already."""
    if "; " in problem:
        return problem
    sign = next((sign for sign in _PROBLEMS if sign in problem), None)
    return f"{problem}; see configs/ for examples" if sign is None else _PROBLEMS[sign]


def parse_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parse YAML into plain values and the line of every key; ``name`` is what errors call the text.

    Raises ConfigError naming the line.
    """
    ends = [end.start() for end in re.finditer("\n", text)]  # PyYAML's own lines end at U+0085 and U+2028, too
    places: dict[KeyPath, int] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else _value(node, (), places)
        return value, {path: bisect_left(ends, place) + 1 for path, place in places.items()}
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or ""
        mark = error.problem_mark
        if error.context_mark is not None and any(sign in problem for sign in _OPENED):
            mark = error.context_mark
        where = f"{name}:{bisect_left(ends, mark.index) + 1}" if mark else name
        raise ConfigError(f"{where}: " + _told(problem)) from error
    except yaml.reader.ReaderError as error:
        number = bisect_left(ends, error.position) + 1
        raise ConfigError(f"{name}:{number}: a control character (U+{error.character:04X}); remove it") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}: not readable as YAML; see configs/ for examples") from error


def dump_yaml(tree: Any) -> str:
    """Write plain values so that :func:`parse_yaml` reads the same again."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
