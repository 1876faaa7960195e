"""Raw text: where lines end and nowhere else, what is refused and by which name, and rows of data sets as pairs."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import itertools
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.config import Languages, Source
from transformer_mt.data import corpus
from transformer_mt.data.corpus import Pair, one_line, read_lines, read_pairs
from transformer_mt.errors import DataError, MtError, SystemFault

LANGUAGES = Languages(source="de", target="en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "text.de"


BLOCKS = [3, corpus._BLOCK]  # bytes read at once: a few lines, or all of these texts


def lines_of(path: Path, content: bytes, block: int) -> list[str]:
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_BLOCK", block)
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
@pytest.mark.parametrize("block", BLOCKS)
def test_lines_end_at_line_feeds_and_nowhere_else(file: Path, content: bytes, lines: list[str], block: int) -> None:
    assert lines_of(file, content, block) == lines


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"))), st.integers(1, 40))
def test_any_lines_survive_a_file(tmp_path_factory: pytest.TempPathFactory, lines: list[str], block: int) -> None:
    """All but a carriage return at the end of a line and a byte order mark at the start of the file."""
    content = "".join(line + "\n" for line in lines)
    read = lines_of(tmp_path_factory.getbasetemp() / "survive.txt", content.encode(), block)
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
@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_not_utf8_text_is_refused_with_file_and_line(
    file: Path, content: bytes, where: int, words: str, block: int
) -> None:
    with pytest.raises(DataError) as caught:
        lines_of(file, content, block)
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
        ({}, LANGUAGES, ["set 'split' to one of train, test"]),
        ({"name": "nope", "split": "train"}, LANGUAGES, ["nope"]),
        ({"split": "train"}, Languages(source="de", target="fr"), ["row 1", "'fr'", "id, de, en"]),
        ({"name": "nested", "split": "train"}, Languages(source="xx", target="en"), ["row 1", "'xx'", "de, en"]),
        ({"name": "holes", "split": "train"}, LANGUAGES, ["row 2", "'en'"]),
    ],
    ids=["split", "no split", "name", "flat column", "nested column", "empty cell"],
)
def test_what_a_data_set_has_not_is_refused_by_name(
    folder: str, source: dict[str, Any], languages: Languages, words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        list(read_pairs(Source(hub=folder, **source), languages))
    assert folder in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# --- one corpus in every clothing

ODD = [("NA", "null"), ('"quoted', "it\u2028goes on"), ("Tür\x85zu", "a, b;c"), ("x " * 3000, "end"), ("1", " 2 ")]


def as_text(folder: Path) -> dict[str, Any]:
    for side, column in (("source", 0), ("target", 1)):
        (folder / side).write_bytes("".join(pair[column] + "\n" for pair in ODD).encode())
    return {side: str(folder / side) for side in ("source", "target")}


def as_gzip(folder: Path) -> dict[str, Any]:
    text = as_text(folder)
    for path in map(Path, text.values()):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return text


def as_xz(folder: Path) -> dict[str, Any]:
    text = as_text(folder)
    Path(text["target"]).write_bytes(lzma.compress(Path(text["target"]).read_bytes()))
    return text


def as_tsv(folder: Path) -> dict[str, Any]:
    (folder / "a.tsv").write_bytes("".join(f"{n}\t{t}\tno\t{s}\n" for n, (s, t) in enumerate(ODD)).encode())
    return {"tsv": str(folder / "a.tsv"), "columns": [4, 2]}


def as_json_lines(folder: Path) -> dict[str, Any]:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(json_lines([{"de": s, "en": t, "x": 1} for s, t in ODD])))
    return {"jsonl": str(folder / "a.jsonl.gz")}


def as_nested_json(folder: Path) -> dict[str, Any]:
    rows = [{"id": 1, "translation": {"en": t, "de_DE": s}} for s, t in ODD]
    (folder / "a.jsonl").write_bytes(json_lines(rows).replace(b"\n", b"\n\n"))  # empty lines between rows
    return {"jsonl": str(folder / "a.jsonl"), "columns": ["de_DE", "en"]}


def as_parquet(folder: Path) -> dict[str, Any]:
    table = pyarrow.table({"de": [s for s, _ in ODD], "en": [t for _, t in ODD]})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return {"parquet": str(folder / "a.parquet")}


def as_stream(folder: Path) -> dict[str, Any]:
    as_parquet(folder)
    return {"hub": str(folder), "split": "train", "stream": True}


@pytest.mark.parametrize(
    "clothing", [as_text, as_gzip, as_xz, as_tsv, as_json_lines, as_nested_json, as_parquet, as_stream]
)
def test_the_same_pairs_come_from_every_kind_of_source(tmp_path: Path, clothing: Callable[[Path], Any]) -> None:
    assert pairs_of(**clothing(tmp_path)) == [(source, [target]) for source, target in ODD]


def test_more_columns_are_more_references(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"s\tt1\tt2\n")
    assert pairs_of(tsv=str(tmp_path / "a.tsv"), columns=[1, 2, 3]) == [("s", ["t1", "t2"])]


@pytest.mark.parametrize(
    ("kind", "content", "line"),
    [
        ("tsv", b"a\tb\nc\n", "{}:2: has 1 of the 2 columns asked for; fields are separated by tabs, one pair a line"),
        ("tsv", b"a\tb\xff\n", "{}:1: not UTF-8 (byte 0xFF); convert it: iconv -f cp1252 -t utf-8 OLD > NEW"),
        ("jsonl", b'{"de": "a"}\n', "{}:1: no text in column 'en'; columns are de; choose with 'columns'"),
        ("jsonl", b'{"de": "a", "en": 1}\n', "{}:1: no text in column 'en'; columns are de, en; choose with 'columns'"),
        ("jsonl", b'["a", "b"]\n', '{}:1: not an object; expected a row such as {{"de": "text", "en": "text"}}'),
        ("jsonl", b"\n{de: a}\n", '{}:2: not JSON; expected one object a line, such as {{"de": "text", "en": "text"}}'),
        ("jsonl", b'{"de": "a\\u0000", "en": "b"}\n', "{}:1: contains a NUL character; remove it"),
    ],
)  # fmt: skip
def test_a_faulty_row_is_named_with_its_line(tmp_path: Path, kind: str, content: bytes, line: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        pairs_of(**{kind: str(path)})
    assert str(caught.value) == line.format(path)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_compressed_file_that_was_cut_is_damaged(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(random.Random(1).randbytes(4000).hex().encode() + b"\n")
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the compressed file is damaged after line 0; copy it again"):
        list(read_lines(tmp_path / "a"))


def test_damage_behind_the_last_line_is_told_there(file: Path) -> None:
    file.write_bytes(gzip.compress(b"ar\n" * 400) + b"and more")
    lines = read_lines(file)
    assert list(itertools.islice(lines, 400)) == ["ar"] * 400
    with pytest.raises(DataError, match="the compressed file is damaged after line 400; copy it again"):
        next(lines)


def pack(kind: str, content: bytes) -> bytes:
    """A zip or tar file of one text."""
    file = BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a.txt", content)
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            info = tarfile.TarInfo("a.txt")
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return file.getvalue()


TEXT = b"ar mako\n" * 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bz2.compress(TEXT), "a bzip2 file"),
        (pack("zip", TEXT), "a zip file"),
        (pack("tar", TEXT), "a tar file"),
        (gzip.compress(pack("tar", TEXT)), "a tar file inside a compressed one"),
        (gzip.compress(gzip.compress(TEXT)), "a gzip file inside a compressed one"),
        (lzma.compress(lzma.compress(TEXT)), "an xz file inside a compressed one"),
    ],
    ids=["bzip2", "zip", "tar", "tar.gz", "gz.gz", "xz.xz"],
)
def test_what_has_to_be_unpacked_first_is_told_by_its_kind(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_lines(file))
    assert str(caught.value) == f"{file}: not text but {told}; unpack it"


@pytest.mark.parametrize("name", ["zero", "full", "urandom"])
def test_a_device_without_an_end_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"/dev/{name}: a device, not a file of text; give a file of text"):
        list(read_lines(Path("/dev", name)))
    assert list(read_lines(Path(os.devnull))) == []


def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"a\nb",))
    writer.start()
    assert list(read_lines(tmp_path / "pipe")) == ["a", "b"]
    writer.join()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, DataError), (errno.EMFILE, SystemFault), (errno.ENFILE, SystemFault), (errno.EIO, SystemFault),
     (errno.ESTALE, SystemFault)],
    ids=errno.errorcode.get,
)  # fmt: skip
def test_only_what_is_the_fault_of_a_file_is_told_as_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[MtError]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(kind, match=f"^{file}: .*{os.strerror(number)}; ") as caught:
        list(read_lines(file))
    assert not str(caught.value).endswith("; check the path")  # but what is to be done


def test_a_damaged_parquet_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be loaded: .*; check that it is Parquet, and copy"):
        pairs_of(parquet=str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("texts.de", "no such file; did you mean text.de?"),
        ("folder/train.de", "no such file, for there is no folder"),
        ("https://example.org/a.de", "https://example.org/a.de: a URL, not a file; download it and give the file"),
    ],
)
def test_a_file_that_is_not_there_comes_with_advice(
    file: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    file.write_text("x")
    monkeypatch.chdir(file.parent)
    with pytest.raises(DataError) as caught:
        list(read_lines(Path(path)))
    assert words in str(caught.value)


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
    sources: list[dict[str, Any]] = [
        {"hub": "own/toy", "split": "train", "revision": "main"},
        {"hub": "own/toy", "name": "nested", "split": "train[1:2]"},
        {"hub": "own/toy", "split": "train", "stream": True},
        {"hub": "own/toy", "split": "nope"},
        {"hub": "own/missing", "split": "train"},
    ]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        environment.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(sources)], env=environment, capture_output=True, text=True, check=True
    )
    flat, nested, streamed, no_split, no_repository = map(json.loads, result.stdout.splitlines())
    assert flat == [list(pair) for pair in FLAT]
    assert nested == [["NA", ['"quoted']]]
    assert streamed == flat
    assert no_split.startswith("own/toy: ")
    assert "nope" in no_split
    assert no_repository.startswith("own/missing: ")
    assert result.stderr == ""
