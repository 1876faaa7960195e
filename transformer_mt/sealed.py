"""JSON that carries its own checksum, so that no flipped bit of a manifest goes unnoticed."""

import hashlib
import json
from typing import Any

_SEAL = "sha256"  # of all the rest


def seal(tree: dict[str, Any]) -> str:
    """``tree`` as JSON, with its checksum as the last key."""
    return json.dumps({**tree, _SEAL: _digest(tree)}, indent=1, ensure_ascii=False) + "\n"


def unseal(text: str) -> dict[str, Any]:
    """Read what :func:`seal` wrote; of an earlier version, also without a seal. Raises ValueError when damaged."""
    try:
        tree = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(tree, dict):
        raise ValueError("not a mapping")
    given = tree.pop(_SEAL, None)
    if given is not None and given != _digest(tree):
        raise ValueError("its checksum is wrong")
    return tree


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()
