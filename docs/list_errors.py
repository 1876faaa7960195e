"""Write docs/errors.md: every message of the package's errors and warnings, read from its source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
SECTIONS = {
    "ConfigError": ("2", "The command line or the configuration is wrong"),
    "DataError": ("3", "The text is at fault"),
    "ArtefactError": ("4", "A file of a run is damaged, or does not fit"),
    "NumericsError": ("5", "The numbers are not finite"),
    "SystemFault": ("6", "The system refuses"),
    "Interrupted": ("129, 130 or 143", "Stopped by a signal, after saving"),
    "warn": ("none", "Warnings: work goes on"),
}
INTRODUCTION = """# Errors and warnings

What `mt` says when something is wrong, what it means and what to do. An error is one line on standard error that starts
with `error:`; the exit code tells its kind. Capitals stand for what the line names: a file, a key, a number.
Every message has the form *where: what is wrong; what to do*. `--debug` adds the traceback.

This page is made from the source by `make docs`, and a test keeps it true.

**Exit code 1** is a bug: `error: bug: …`. Please report it with what `--debug` shows. **Exit code 2** is also that of a
command line that cannot be read (an unknown option, a missing argument); the line then names the help to ask for.
"""


def placeholder(node: ast.expr) -> str:
    """What stands in a message for a value: the last name of the expression, in capitals."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").upper()
        case ast.Call(func=ast.Name(id="len" | "max" | "min" | "sum" | "sorted" | "str" | "repr"), args=[first, *_]):
            return placeholder(first)
        case ast.Call(func=ast.Attribute(value=ast.Constant()), args=[first, *_]):  # ', '.join(names)
            return placeholder(first)
        case ast.Call(func=ast.Attribute(value=value, attr="rpartition" | "lower")) | ast.BoolOp(values=[value, *_]):
            return placeholder(value)
        case ast.Call(func=function):
            return placeholder(function)
        case ast.Subscript(value=value) | ast.Starred(value=value) | ast.GeneratorExp(elt=value):
            return placeholder(value)
        case ast.BinOp(left=left) if not isinstance(left, ast.Constant):
            return placeholder(left)
    return "…"


@cache
def definitions(tree: ast.Module) -> tuple[dict[str, ast.FunctionDef], dict[str, ast.expr]]:
    """The functions and the constants of a module, by name."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return functions, constants


_MAKE_TEXT = ast.IfExp | ast.Constant | ast.Name | ast.Subscript | ast.Call


class Messages:
    """The texts that an expression of a module may have; functions of the package that make texts are followed."""

    def __init__(self, trees: list[ast.Module], module: ast.Module) -> None:
        self.functions: dict[str, ast.FunctionDef] = {}
        self.constants: dict[str, ast.expr] = {}
        for tree in (*trees, module):  # its own last, before others of the same name
            functions, constants = definitions(tree)
            self.functions |= functions
            self.constants |= constants

    def of(self, node: ast.expr, variables: dict[str, list[ast.expr]]) -> list[str]:
        """Every text that ``node`` can be, with placeholders."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.Constant(value=None):
                return []
            case ast.JoinedStr(values=values):
                return self._product(values, variables)
            case ast.FormattedValue(value=value):
                return self._inside(value, variables)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._product([left, right], variables)
            case ast.IfExp(body=body, orelse=orelse):
                return [*self.of(body, variables), *self.of(orelse, variables)]
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)) if (
                name in self.functions
            ):
                return self._returned(self.functions[name])
            case ast.Name(id=name) if name in variables:
                return [text for value in variables.pop(name) for text in self.of(value, variables)]
            case ast.Name(id=name) if isinstance(self.constants.get(name), ast.Constant):
                return self.of(self.constants[name], variables)
            case ast.Subscript(value=ast.Name(id=name)) if name in self.constants:
                return self._values(self.constants[name])
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[_, other]) if (
                name in self.constants
            ):
                return [*self._values(self.constants[name]), *self.of(other, variables)]
        return [placeholder(node)]

    def _inside(self, node: ast.expr, variables: dict[str, list[ast.expr]]) -> list[str]:
        texts = self.of(node, dict(variables)) if isinstance(node, _MAKE_TEXT) else []
        return texts if texts and any(" " in text for text in texts) else [placeholder(node)]

    def _values(self, node: ast.expr) -> list[str]:
        """The texts in a mapping; none of anything else."""
        return [text for value in node.values for text in self.of(value, {})] if isinstance(node, ast.Dict) else []

    def _product(self, nodes: list[ast.expr], variables: dict[str, list[ast.expr]]) -> list[str]:
        texts = [""]
        for node in nodes:
            match node:
                case ast.FormattedValue(value=ast.Call() as call) if not any("; " in text for text in texts):
                    ways = [placeholder(call)]  # what a function says is followed where it tells what to do
                case _:
                    ways = self.of(node, variables)
            texts = [text + way for text in texts for way in ways]
        return texts

    def _returned(self, function: ast.FunctionDef) -> list[str]:
        variables = assigned(function)
        returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
        return [text for value in returned for text in self.of(value, dict(variables))]


def assigned(function: ast.AST) -> dict[str, list[ast.expr]]:
    """The values that names are given inside a function."""
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.NamedExpr):
            values.setdefault(node.target.id, []).append(node.value)
    return values


def called(tree: ast.Module) -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """Every place that makes an error or a warning: its kind, its text, and the function around it."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.Call(func=ast.Name(id=name), args=[text, *_]) if name in SECTIONS:
                        yield name, text, function
                    case ast.Raise(exc=ast.Call(func=ast.Name(id="ValueError"), args=[text])):
                        yield "ValueError", text, function
                    case ast.keyword(arg="problem", value=text):  # found while YAML is read
                        yield "problem", text, function


def collect() -> dict[str, set[str]]:
    """The messages of the package by kind of error."""
    paths = sorted((ROOT / "transformer_mt").rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    found: dict[str, set[str]] = {kind: set() for kind in SECTIONS}
    for path, tree in trees.items():
        messages = Messages(list(trees.values()), tree)
        for kind, text, function in called(tree):
            if isinstance(text, ast.Call) and ast.unparse(text.func) == "_explain":
                continue  # puts file and line before what `_complaint` says
            for message in messages.of(text, assigned(function)):
                line = " ".join(message.split())
                if kind in found:
                    found[kind].add(line)
                elif kind == "problem":
                    found["ConfigError"].add(f"FILE:LINE: {line}")
                elif path.name == "config.py":
                    found["ConfigError"].add(f"FILE:LINE: KEY: {line}")
    loader = Messages(list(trees.values()), trees[ROOT / "transformer_mt" / "config_file.py"])
    complaints = loader.of(ast.parse("_complaint()", mode="eval").body, {})
    found["ConfigError"] |= {f"FILE:LINE: {text}" for text in complaints}
    return {kind: {line for line in lines if says_something(line)} for kind, lines in found.items()}


def says_something(line: str) -> bool:
    """Not so what hands on the message of another error, such as ``data.train: ERROR``, or a reason without a place."""
    if line.endswith(": ERROR") or re.match(r"[A-Z]+; ", line):
        return False
    return re.search(r"[a-z]{2}", re.sub(r"\bdata\.\w+", "", line)) is not None


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for kind, messages in collect().items():
        code, title = SECTIONS[kind]
        parts += [f"\n## {title}\n\nExit code: {code}.\n\n| what it says | what to do |\n|---|---|\n"]
        for message in sorted(messages, key=str.lower):
            said, _, remedy = message.rpartition("; ")
            cells = (re.sub(r"([|\\])", r"\\\1", cell) for cell in (said, remedy))
            parts.append("| " + " | ".join(f"`{cell}`" if n == 0 else cell for n, cell in enumerate(cells)) + " |\n")
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
