"""YAML with its traps closed: ``1e-4`` is a number, ``no`` is text, ``010`` is ten, a key given twice is an error."""

import re
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
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported", problem_mark=event.start_mark)
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


def _value(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """Turn a YAML node into plain values, noting the line of each key."""
    lines.setdefault(path, node.start_mark.line + 1)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        raise yaml.MarkedYAMLError(problem=f"tag {node.tag!r} is not supported", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in mapping:
                raise yaml.MarkedYAMLError(
                    problem=f"{'.'.join(map(str, (*path, key)))}: the key is given twice",
                    problem_mark=key_node.start_mark,
                )
            lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _value(value_node, (*path, key), lines)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), lines) for i, item in enumerate(node.value)]
    return _scalar(node)


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
    raise yaml.MarkedYAMLError(problem=f"tag {node.tag!r} is not supported", problem_mark=node.start_mark)


_ADVICE = {
    "'\\t'": "YAML is indented with spaces, not tabs",
    "<block end>": "check the indentation",
    "mapping values are not allowed": "is this a YAML file, and the indentation right?",
}


def parse_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parse YAML into plain values and the line of every key; ``name`` is what errors call the text.

    Raises ConfigError naming the line.
    """
    lines: dict[KeyPath, int] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else _value(node, (), lines)), lines
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem or error.context or ""
        for sign, advice in _ADVICE.items():
            if sign in problem:
                problem += f"; {advice}"
        raise ConfigError(f"{name}{line}: {problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{name}: not readable as YAML: {reason}; see configs/ for examples") from error


def dump_yaml(tree: Any) -> str:
    """Write plain values so that :func:`parse_yaml` reads the same again."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
