"""docs/errors.md is what the source says, and every message says what to do."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def lister() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_errors", DOCS / "list_errors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def messages(lister: ModuleType) -> list[str]:
    return sorted({message for kind in lister.collect().values() for message in kind})


def test_the_page_is_what_the_source_says(lister: ModuleType) -> None:
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == lister.page(), "make docs writes it anew"


def test_every_kind_of_error_has_messages(lister: ModuleType) -> None:
    assert all(lister.collect().values())


def test_every_row_of_the_page_has_both_cells() -> None:
    rows = [line for line in (DOCS / "errors.md").read_text(encoding="utf-8").split("\n") if line.startswith("| `")]
    assert len(rows) > 100
    for row in rows:
        assert re.fullmatch(r"\| `[^`].*` \| [^|\s].*\S \|", row), row


def test_every_message_says_what_is_wrong_and_what_to_do(messages: list[str]) -> None:
    for message in messages:
        wrong, _, remedy = message.rpartition("; ")
        assert re.search(r"[a-z]{2}|[A-Z]: [A-Z]", wrong), message
        assert re.search(r"[a-z]{2}", remedy), message  # more than a placeholder


INTERNALS = r"""
    Traceback|codec|None\b|True\b|False\b|NoneType|\bdict\b|\bstr\b|\bint\b|\bfloat\b|\btuple\b|[a-z]Error\b|Exception|
    Input\ should|pydantic|stream\ end|block\ mapping|unicode\ string|object\ at\ 0x|__|\bself\b|\blambda\b
"""


def test_no_message_speaks_of_python(messages: list[str]) -> None:
    for message in messages:
        assert not re.search(INTERNALS, message, re.VERBOSE), message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise DataError(f"{path}:{line}: not text; convert it")', {"PATH:LINE: not text; convert it"}),
        ('raise DataError("a" + ("b" if x else "c") + "; d")', {"ab; d", "ac; d"}),
        ('raise DataError(f"{len(lines)} of {self.most}; {_OTHER}")', {"LINES of MOST; give other text"}),
        ('raise DataError(f"{x} is bad; {_ADVICE[x]}")', {"X is bad; do this", "X is bad; do that"}),
        ('raise DataError(f"{x}: bad; {_advise(x)}")', {"X: bad; do it", "X: bad; leave X out"}),
    ],
)
def test_messages_are_found_with_placeholders(lister: ModuleType, source: str, expected: set[str]) -> None:
    module = lister.ast.parse(
        '_OTHER = "give other text"\n_ADVICE = {1: "do this", 2: "do that"}\n'
        'def _advise(x):\n    return "do it" if x else f"leave {x} out"\n'
        f"def work():\n    {source}\n"
    )
    [(kind, text, function)] = lister.called(module)
    assert kind == "DataError"
    assert set(lister.Messages([], module).of(text, lister.assigned(function))) == expected
