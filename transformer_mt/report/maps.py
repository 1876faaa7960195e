"""Attention as a page can hold it: weights as bytes, deflated, as many sentences as there is room for."""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import torch

from transformer_mt.alignment import Alignment, alignments
from transformer_mt.errors import ConfigError
from transformer_mt.translate import Translator

ROOM = 3_000_000  # bytes for all maps
_LARGEST = ROOM // 20  # for the map of one sentence: that of a paragraph would take the room of many


def packed(alignment: Alignment) -> dict[str, Any]:
    """An alignment as JSON: its words, and its weights [L, H, T, S] in steps of 1/255, deflated, in base64."""
    layers, heads, _, _ = alignment.weights.shape
    weights = (alignment.weights.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()
    deflated = zlib.compress(weights.numpy().tobytes(), 9)
    return {
        "source": alignment.source,
        "target": alignment.target,
        "layers": layers,
        "heads": heads,
        "weights": base64.b64encode(deflated).decode("ascii"),
    }


def attention_maps(
    translator: Translator, sources: Sequence[str], targets: Sequence[str]
) -> tuple[dict[int, dict[str, Any]], str | None]:
    """The packed maps of pairs by their number, the first ones first until they fill ROOM; and why there are none."""
    rows = [n for n, pair in enumerate(zip(sources, targets, strict=True)) if all(map(str.strip, pair))]
    found: dict[int, dict[str, Any]] = {}
    room = ROOM
    pairs = [[side[row] for row in rows] for side in (sources, targets)]
    try:
        for row, alignment in zip(rows, alignments(translator, *pairs), strict=False):
            drawn = packed(alignment)
            size = len(json.dumps(drawn, ensure_ascii=False).encode())
            if size > _LARGEST or not (drawn["source"] and drawn["target"]):
                continue
            if size > room:
                break
            found[row] = drawn
            room -= size
    except ConfigError as error:
        return {}, str(error).partition("; ")[0]
    return found, None
