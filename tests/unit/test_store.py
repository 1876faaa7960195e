"""The token store: ids and text come back, integers are as small as they can be, damage never goes unnoticed."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.data.corpus import read_lines
from transformer_mt.data.store import BLOCK, SIDES, Pieces, Store, StoreWriter
from transformer_mt.errors import ArtefactError

Ids = list[int]
Pairs = Sequence[tuple[Ids, Ids]]

FILES = [
    "train.checksums.npy",
    *(
        f"train.{side}.{part}"
        for side in SIDES
        for part in ("ids.npy", "offsets.npy", "txt", "text.offsets.npy", "text.checksums.npy")
    ),
]


def write(
    folder: Path, pairs: Pairs, *, vocabulary: int = 1000, text: Sequence[tuple[str, str]] | None = None
) -> Store:
    folder.mkdir(exist_ok=True)
    with StoreWriter(folder, dict.fromkeys(SIDES, vocabulary)) as writer:
        text = text or [("x", "y")] * len(pairs)
        for first in range(0, len(pairs), 700):  # less than a block, and more than half
            part = slice(first, first + 700)
            ids = [Pieces.of(side) for side in zip(*pairs[part], strict=True)]
            lines = ("".join(line + "\n" for line in side).encode() for side in zip(*text[part], strict=True))
            writer.add(ids, [Pieces.lines(side) for side in lines])
    return Store(folder)


def read(store: Store) -> list[tuple[Ids, Ids]]:
    """All pairs of a store, every block of it verified, read one by one."""
    for number in range(store.blocks):
        store.block(number)
    sides = (store.source, store.target)
    for side in sides:
        side.text(np.arange(len(store)))
    rows = ([side.ids[side.offsets[i] : side.offsets[i + 1]].tolist() for i in range(len(store))] for side in sides)
    return list(zip(*rows, strict=True))


def small_pairs(count: int) -> Pairs:
    """Pairs of 1 to 5 ids that are all different."""
    return [(list(range(n, n + 1 + n % 5)), list(range(n, n + 1 + n % 3))) for n in range(count)]


ids_of = st.lists(st.integers(0, 65_535), min_size=1, max_size=5)
line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff"), max_size=8)


@given(st.lists(st.tuples(ids_of, ids_of, line, line), min_size=1, max_size=20))
def test_ids_and_text_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Ids, Ids, str, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-store"
    store = write(folder, [row[:2] for row in rows], vocabulary=65_536, text=[row[2:] for row in rows])
    assert len(store) == len(rows)
    assert read(store) == [row[:2] for row in rows]
    for number, side in enumerate(SIDES, start=2):
        assert list(read_lines(folder / f"train.{side}.txt")) == [row[number] for row in rows]
    backwards = np.arange(len(rows))[::-1]
    for number, which in enumerate((store.source, store.target), start=2):
        assert which.text(backwards) == [row[number] for row in reversed(rows)]


@pytest.mark.parametrize(
    ("pairs", "blocks"), [(1, 1), (BLOCK - 1, 1), (BLOCK, 1), (BLOCK + 1, 2), (2 * BLOCK, 2), (2 * BLOCK + 7, 3)]
)
def test_blocks_hold_1024_pairs_and_the_last_the_rest(tmp_path: Path, pairs: int, blocks: int) -> None:
    expected = small_pairs(pairs)
    store = write(tmp_path, expected, vocabulary=4000)
    assert store.blocks == blocks
    rows = np.concatenate([store.block(number) for number in range(blocks)])
    assert rows.tolist() == list(range(pairs))
    assert read(store) == expected


@pytest.mark.parametrize(
    ("vocabulary", "largest", "kind"),
    [(65_536, 65_535, "<u2"), (65_537, 65_536, "<u4"), (4_000_000_000, 3_999_999_999, "<u4")],
)
def test_ids_take_two_bytes_when_the_vocabulary_allows(
    tmp_path: Path, vocabulary: int, largest: int, kind: str
) -> None:
    store = write(tmp_path, [([0, largest], [largest])], vocabulary=vocabulary)
    assert np.load(tmp_path / "train.source.ids.npy").dtype == np.dtype(kind)
    assert np.load(tmp_path / "train.target.offsets.npy").dtype == np.dtype("<i8")
    assert read(store) == [([0, largest], [largest])]


def test_sides_may_differ_in_the_size_of_their_integers(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, {"source": 100, "target": 100_000}) as writer:
        writer.add([Pieces.of([[99]]), Pieces.of([[99_999]])], [Pieces.lines(b"x\n"), Pieces.lines(b"y\n")])
    assert read(Store(tmp_path)) == [([99], [99_999])]
    assert Store(tmp_path).source.ids.itemsize == 2
    assert Store(tmp_path).target.ids.itemsize == 4


def test_arrays_are_memory_maps_that_nothing_can_write_to(tmp_path: Path) -> None:
    store = write(tmp_path, small_pairs(3))
    for array in (store.source.ids, store.target.offsets):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_rows_are_padded_to_the_longest_of_them(tmp_path: Path) -> None:
    side = write(tmp_path, [([5, 6, 7], [1]), ([8], [1]), ([9, 4], [1])]).source
    rows = np.array([2, 0, 1])
    assert side.lengths(rows).tolist() == [2, 3, 1]
    assert side.padded(rows, before=1, after=2, fill=99).tolist() == [
        [99, 9, 4, 99, 99, 99],
        [99, 5, 6, 7, 99, 99],
        [99, 8, 99, 99, 99, 99],
    ]
    assert side.padded(rows).dtype == np.int64


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=9), st.data())
def test_sequences_are_joined_cut_and_chosen_like_lists(lists: list[Ids], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(lists)))
    wanted = data.draw(st.lists(st.booleans(), min_size=len(lists), max_size=len(lists)))
    whole = Pieces.of(lists[:cut]).joined(Pieces.of(lists[cut:]))
    assert listed(whole) == lists
    assert listed(whole.part(cut)) == lists[cut:]
    assert listed(whole.part(1, cut + 1)) == lists[1 : cut + 1]
    assert listed(whole.where(np.array(wanted))) == [ids for ids, keep in zip(lists, wanted, strict=True) if keep]


def listed(pieces: Pieces) -> list[Ids]:
    return [pieces[number] for number in range(len(pieces))]


# --- damage


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store of three blocks; copy it to damage it."""
    folder = tmp_path_factory.mktemp("intact")
    write(folder, small_pairs(2 * BLOCK + 7), vocabulary=4000)
    return folder


def copied(intact: Path, to: Path) -> Path:
    return Path(shutil.copytree(intact, to))


def flip(path: Path, position: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= mask
    path.write_bytes(content)


def linked(folder: Path, count: int) -> list[Ids]:
    """Write a store of small pairs whose links, two numbers each, are 0 to 2 a pair; return them."""
    pairs = small_pairs(count)
    links = [[n % 9, n % 7] * (n % 3) for n in range(count)]
    folder.mkdir()
    with StoreWriter(folder, {"source": 4000, "target": 4000, "links": 256}) as writer:
        for first in range(0, count, 700):
            part = slice(first, first + 700)
            ids = [Pieces.of(side) for side in zip(*pairs[part], strict=True)]
            writer.add([*ids, Pieces.of(links[part])], [Pieces.lines(b"x\n" * len(ids[0]))] * 2)
    return links


def test_links_come_back_and_leave_all_else_as_it_is_without_them(intact: Path, tmp_path: Path) -> None:
    count = 2 * BLOCK + 7
    links, store = linked(tmp_path / "s", count), Store(tmp_path / "s")
    assert read(store) == read(Store(intact))
    assert store.links is not None
    assert [store.links[row] for row in range(count)] == links
    for name in FILES:
        if not name.endswith(("checksums.npy", "txt", "text.offsets.npy")):
            assert (tmp_path / "s" / name).read_bytes() == (intact / name).read_bytes()
    assert {path.name for path in intact.iterdir()} == {*FILES}
    assert Store(intact).links is None


def test_a_store_may_have_no_link_at_all(tmp_path: Path) -> None:
    linked(tmp_path / "s", 1)
    store = Store(tmp_path / "s")
    assert store.links is not None
    assert store.links.padded(store.block(0)).shape == (1, 0)


@pytest.mark.parametrize("damage", ["ids", "offsets", "no ids", "no offsets", "no links"])
def test_damaged_links_are_found(tmp_path: Path, damage: str) -> None:
    linked(tmp_path / "s", 2 * BLOCK + 7)
    for part in ("ids", "offsets"):
        path = tmp_path / "s" / f"train.links.{part}.npy"
        if damage in (f"no {part}", "no links"):
            path.unlink()
        elif damage == part:
            flip(path, -1)
    with pytest.raises(ArtefactError):
        Store(tmp_path / "s").block(2)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("part", ["ids", "offsets"])
def test_a_flipped_bit_is_found_when_its_block_is_first_used_and_only_there(
    intact: Path, tmp_path: Path, side: str, part: str
) -> None:
    folder = copied(intact, tmp_path / "s")
    flip(folder / f"train.{side}.{part}.npy", -1)  # in the last block
    store = Store(folder)
    store.block(0)
    store.block(1)
    with pytest.raises(ArtefactError, match=f"pairs {2 * BLOCK + 1} to {2 * BLOCK + 7} of the token store are damaged"):
        store.block(2)


def test_a_flipped_bit_in_the_checksums_is_damage_too(intact: Path, tmp_path: Path) -> None:
    folder = copied(intact, tmp_path / "s")
    flip(folder / "train.checksums.npy", 128)  # after the header: that of the first block
    with pytest.raises(ArtefactError, match=r"pairs 1 to 1024 "):
        Store(folder).block(0)


def test_a_block_is_verified_once(intact: Path, tmp_path: Path) -> None:
    folder = copied(intact, tmp_path / "s")
    store = Store(folder)
    store.block(0)
    with (folder / "train.source.ids.npy").open("r+b") as file:  # in place: the map sees it
        file.seek(128)
        file.write(b"\xff\xff")
    store.block(0)
    with pytest.raises(ArtefactError):
        Store(folder).block(0)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", ["missing", "empty", "half", "cut", "text", "pickle"])
def test_missing_and_truncated_files_are_refused(intact: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = copied(intact, tmp_path / "s")
    path = folder / name
    whole = path.read_bytes()
    if content == "missing":
        path.unlink()
    elif content == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{"any": "object"}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(
            {"empty": b"", "half": whole[: len(whole) // 2], "cut": whole[:-1], "text": b"text\n"}[content]
        )
    with pytest.raises(ArtefactError) as caught:
        read(Store(folder))
    assert str(folder) in str(caught.value)
    assert "new run_dir" in str(caught.value)


def test_an_empty_or_missing_folder_is_no_store(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ArtefactError):
            Store(folder)


def test_a_store_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError):
        write(tmp_path, [])


def test_files_of_two_stores_do_not_mix(intact: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", small_pairs(2 * BLOCK + 6), vocabulary=4000)
    for name in ("train.source.ids.npy", "train.source.offsets.npy"):
        folder = copied(intact, tmp_path / name)
        shutil.copy(tmp_path / "other" / name, folder / name)
        with pytest.raises(ArtefactError):
            read(Store(folder))


@pytest.mark.parametrize("name", ["train.source.ids.npy", "train.target.offsets.npy", "train.checksums.npy"])
def test_no_flipped_bit_of_a_header_changes_what_is_read(tmp_path: Path, name: str) -> None:
    """The header says type, byte order and length, and has no checksum of its own."""
    expected = small_pairs(5)
    write(tmp_path / "s", expected)
    path = tmp_path / "s" / name
    whole = path.read_bytes()
    header = whole[: whole.index(b"\n")].rstrip()
    for position, bit in itertools.product(range(len(header)), (0, 1, 2, 5)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with contextlib.suppress(ArtefactError):
            assert read(Store(tmp_path / "s")) == expected, f"byte {position}, bit {bit}"


# --- text


def test_text_of_any_row_of_several_blocks(tmp_path: Path) -> None:
    count = 2 * BLOCK + 7
    text = [(f"zeile {n} ä" * (n % 3), f"line {n}") for n in range(count)]
    store = write(tmp_path, small_pairs(count), vocabulary=4000, text=text)
    rows = np.array([count - 1, 0, BLOCK, BLOCK - 1, 5, 5])
    assert store.source.text(rows) == [text[row][0] for row in rows]
    assert store.target.text(rows) == [text[row][1] for row in rows]
    assert store.target.text(np.array([], np.int64)) == []


@pytest.mark.parametrize("part", ["txt", "text.offsets.npy", "text.checksums.npy"])
def test_damaged_text_is_found_where_it_is_used_and_ids_can_be_used_without_it(
    intact: Path, tmp_path: Path, part: str
) -> None:
    folder = copied(intact, tmp_path / "s")
    flip(folder / f"train.target.{part}", -1)  # in the last block
    store = Store(folder)
    assert store.target.ids.size
    store.block(2)
    with pytest.raises(ArtefactError, match="text of the token store is missing or damaged; train in a new run_dir"):
        store.target.text(np.array([0, 2 * BLOCK]))
    assert store.source.text(np.array([2 * BLOCK])) == ["x"]
