"""JSON with a checksum of itself: it comes back, and no other content passes for it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.sealed import seal, unseal

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(st.text().filter(lambda key: key != "sha256"), values, max_size=4)


@given(trees)
def test_what_is_sealed_comes_back(tree: dict[str, object]) -> None:
    assert unseal(seal(tree)) == tree


@given(trees, st.data())
def test_a_flipped_bit_is_found_or_changes_nothing(tree: dict[str, object], data: st.DataObject) -> None:
    """It changes nothing between the values, or in the name of the seal itself."""
    content = bytearray(seal(tree).encode("utf-8", "surrogatepass"))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = unseal(content.decode("utf-8", "surrogatepass"))
    except ValueError:
        return
    assert {key: value for key, value in found.items() if not _is_seal(key, value)} == tree


def _is_seal(key: str, value: object) -> bool:
    return sum(a != b for a, b in zip(key, "sha256", strict=False)) <= 1 and isinstance(value, str) and len(value) == 64


@pytest.mark.parametrize("text", ["", "null", "[]", "1", "{", '{"a": 1} x', "[" * 100_000, '{"a": ' * 100_000])
def test_what_is_no_mapping_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unseal(text)


def test_without_a_seal_nothing_is_checked() -> None:
    """Manifests of earlier versions have none."""
    assert unseal(json.dumps({"pairs": 3})) == {"pairs": 3}
