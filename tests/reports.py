"""What tests read back from a report."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def told_by(report: Path) -> dict[str, Any]:
    """The structure that a page holds."""
    html = report.read_text(encoding="utf-8")
    [data] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)
    found: dict[str, Any] = json.loads(data)
    return found


def weights_of(drawn: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of a map [L, H, T, S]."""
    shape = drawn["layers"], drawn["heads"], len(drawn["target"]), len(drawn["source"])
    return np.frombuffer(zlib.decompress(base64.b64decode(drawn["weights"])), np.uint8).reshape(shape)
