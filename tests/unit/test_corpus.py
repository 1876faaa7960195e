"""Raw text: where lines end and nowhere else, what is refused and by which name, and rows of data sets as pairs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.config import Languages, Source
from transformer_mt.data.corpus import Pair, one_line, read_lines, read_pairs
from transformer_mt.errors import DataError

LANGUAGES = Languages(source="de", target="en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "text.de"


def lines_of(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return list(read_lines(path))


def pairs_of(**source: Any) -> list[Pair]:
    return list(read_pairs(Source(**source), LANGUAGES))


# --- lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n", ["a"]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\n\nb\n\n", ["a", "", "b", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\n\r\n", ["a", ""]),
        (b"a\rb\nc\r", ["a\rb", "c\r"]),
        (b"a\r\r\n", ["a\r"]),
        (b"a\x0bb\x0cc\x1cd\x1de\x1ef\n", ["a\x0bb\x0cc\x1cd\x1de\x1ef"]),
        ("a\x85b\u2028c\u2029d\n".encode(), ["a\x85b\u2028c\u2029d"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"  a \t\n", ["  a \t"]),
        ("grün 漢字 🦊\n".encode(), ["grün 漢字 🦊"]),
        ("e\u0301 \ufb01 \u2460\n".encode(), ["e\u0301 \ufb01 \u2460"]),
    ],
)
def test_lines_end_at_line_feeds_and_nowhere_else(file: Path, content: bytes, lines: list[str]) -> None:
    assert lines_of(file, content) == lines


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"))))
def test_any_lines_survive_a_file(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """All but a carriage return at the end of a line and a byte order mark at the start of the file."""
    content = "".join(line + "\n" for line in lines)
    read = lines_of(tmp_path_factory.getbasetemp() / "survive.txt", content.encode())
    expected = [line.removesuffix("\r") for line in lines]
    if expected:
        expected[0] = expected[0].removeprefix("\ufeff")
    assert read == expected


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (b"fine\ncaf\xe9\n", 2, "not UTF-8 (byte 0xE9)"),
        (b"fine\nfine\n\xed\xa0\x80\n", 3, "not UTF-8"),
        (b"cut \xe6\xbc", 1, "not UTF-8"),
        (b"over long \xc0\xaf\n", 1, "not UTF-8"),
        (b"a\nb\0c\n", 2, "NUL"),
        ("Hund\n".encode("utf-16"), 1, "NUL"),
    ],
)
def test_what_is_not_utf8_text_is_refused_with_file_and_line(
    file: Path, content: bytes, where: int, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        lines_of(file, content)
    assert str(caught.value).startswith(f"{file}:{where}: ")
    assert words in str(caught.value)
    assert caught.value.code == 3


def test_lines_before_a_bad_one_are_given(file: Path) -> None:
    file.write_bytes(b"one\ntwo\n\xff\n")
    lines = read_lines(file)
    assert [next(lines), next(lines)] == ["one", "two"]


def test_missing_file_and_directory_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.de: no such file"):
        list(read_lines(tmp_path / "nothing.de"))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_lines(tmp_path))


# --- pairs of files


def test_line_i_belongs_to_line_i_whatever_the_line_ends(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes("eins\u2028zwei\r\n\r\ndrei".encode())
    (tmp_path / "t").write_bytes(b"one two\n\nthree\x0c\n")
    assert pairs_of(source=str(tmp_path / "s"), target=str(tmp_path / "t")) == [
        ("eins\u2028zwei", ["one two"]),
        ("", [""]),
        ("drei", ["three\x0c"]),
    ]


def test_several_references_stay_together(tmp_path: Path) -> None:
    for name, content in (("s", "a\nb\n"), ("t1", "A\nB\n"), ("t2", "Å\nß\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    pairs = pairs_of(source=str(tmp_path / "s"), target=[str(tmp_path / "t1"), str(tmp_path / "t2")])
    assert pairs == [("a", ["A", "Å"]), ("b", ["B", "ß"])]


@pytest.mark.parametrize(("source", "target"), [(3, 5), (5, 3), (0, 2), (2, 0)])
def test_unequal_counts_are_refused_naming_both(tmp_path: Path, source: int, target: int) -> None:
    (tmp_path / "s").write_text("x\n" * source, encoding="utf-8")
    (tmp_path / "t").write_text("y\n" * target, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        pairs_of(source=str(tmp_path / "s"), target=str(tmp_path / "t"))
    assert f"{tmp_path / 's'} has {source}" in str(caught.value)
    assert f"{tmp_path / 't'} has {target}" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "line"), [("a\nb", "a b"), ("a\r\nb", "a\r b"), ("a\r", "a"), ("\n", " "), ("a\u2028b", "a\u2028b")]
)
def test_a_row_becomes_one_line(row: str, line: str) -> None:
    assert one_line(row) == line


# --- data sets


README = """\
---
configs:
- config_name: flat
  data_files:
  - {split: train, path: flat.jsonl}
  - {split: test, path: test.jsonl}
  default: true
- config_name: nested
  data_files:
  - {split: train, path: nested.jsonl}
- config_name: holes
  data_files:
  - {split: train, path: holes.jsonl}
---
"""
ROWS = [("Hund", "dog"), ("NA", '"quoted'), ("zwei\nZeilen", "two\u2028lines"), ("", "null")]
FLAT = [("Hund", ["dog"]), ("NA", ['"quoted']), ("zwei Zeilen", ["two\u2028lines"]), ("", ["null"])]


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "README.md": README.encode(),
    "flat.jsonl": json_lines([{"id": n, "de": de, "en": en} for n, (de, en) in enumerate(ROWS)]),
    "test.jsonl": json_lines([{"id": 0, "de": "Maus", "en": "mouse"}]),
    "nested.jsonl": json_lines([{"translation": {"de": de, "en": en}} for de, en in ROWS]),
    "holes.jsonl": json_lines([{"de": "Hund", "en": "dog"}, {"de": "Katze", "en": None}]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dataset")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("name", [None, "flat", "nested"])
def test_rows_of_a_local_data_set_are_pairs_with_columns_flat_or_nested(folder: str, name: str | None) -> None:
    """Text that looks like a missing value or an open quotation mark stays text, and a row stays a line."""
    assert pairs_of(hub=folder, name=name, split="train") == FLAT


def test_a_column_that_is_called_translation_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(json_lines([{"de": "Hund", "translation": "dog", "en": "hound"}]))
    assert pairs_of(hub=str(tmp_path), split="train") == [("Hund", ["hound"])]


@pytest.mark.parametrize(
    ("source", "languages", "words"),
    [
        ({"split": "nope"}, LANGUAGES, ["nope", "train"]),
        ({}, LANGUAGES, ["name a split", "train, test"]),
        ({"name": "nope", "split": "train"}, LANGUAGES, ["nope"]),
        ({"split": "train"}, Languages(source="de", target="fr"), ["row 1", "'fr'", "id, de, en"]),
        ({"name": "nested", "split": "train"}, Languages(source="xx", target="en"), ["row 1", "'xx'", "de, en"]),
        ({"name": "holes", "split": "train"}, LANGUAGES, ["row 2", "'en'"]),
    ],
    ids=["split", "no split", "name", "flat column", "nested column", "empty cell"],
)
def test_what_a_data_set_has_not_is_refused_by_name(
    folder: str, source: dict[str, str], languages: Languages, words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        list(read_pairs(Source(hub=folder, **source), languages))
    assert folder in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_hub_that_cannot_be_reached_is_a_data_error() -> None:
    with pytest.raises(DataError, match="owner/name: cannot be loaded"):
        pairs_of(hub="owner/name", split="train")


COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as ``datasets`` asks for: one repository, ``own/toy``, with ``FILES``."""

    protocol_version = "HTTP/1.1"
    repository: ClassVar[str] = "datasets/own/toy"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet."""

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        file = path.rsplit("/", 1)[-1]
        listing = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": etag(name)} for name in FILES]
        if path.startswith(f"/api/{self.repository}/tree/"):
            self._answer(200, json.dumps(listing).encode(), Content_Type="application/json")
        elif path.startswith(f"/api/{self.repository}"):
            about = {"id": "own/toy", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            self._answer(200, json.dumps(about).encode(), Content_Type="application/json")
        elif path.startswith(f"/{self.repository}/resolve/") and file in FILES:
            self._answer(200, FILES[file], ETag=f'"{etag(file)}"')
        elif path.startswith(f"/{self.repository}/"):
            self._answer(404, b"", X_Error_Code="EntryNotFound")
        else:
            self._answer(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815


def etag(name: str) -> str:
    return hashlib.sha1(FILES[name]).hexdigest()


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of a hub on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


READ = """
import json, sys
from transformer_mt.config import Languages, Source
from transformer_mt.data.corpus import read_pairs
from transformer_mt.errors import DataError
for source in json.loads(sys.argv[1]):
    try:
        print(json.dumps(list(read_pairs(Source(**source), Languages(source="de", target="en")))))
    except DataError as error:
        print(json.dumps(str(error)))
"""


def test_the_hub_over_the_wire(endpoint: str, tmp_path: Path) -> None:
    """In a process of its own: the address of the hub is read when ``datasets`` is imported."""
    sources: list[dict[str, str]] = [
        {"hub": "own/toy", "split": "train", "revision": "main"},
        {"hub": "own/toy", "name": "nested", "split": "train[1:2]"},
        {"hub": "own/toy", "split": "nope"},
        {"hub": "own/missing", "split": "train"},
    ]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        environment.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(sources)], env=environment, capture_output=True, text=True, check=True
    )
    flat, nested, no_split, no_repository = map(json.loads, result.stdout.splitlines())
    assert flat == [list(pair) for pair in FLAT]
    assert nested == [["NA", ['"quoted']]]
    assert no_split.startswith("own/toy: ")
    assert "nope" in no_split
    assert no_repository.startswith("own/missing: ")
    assert result.stderr == ""
