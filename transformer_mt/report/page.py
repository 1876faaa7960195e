"""The report as a page: one HTML file that needs nothing else."""

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from transformer_mt.config import Config
from transformer_mt.report.gather import gather
from transformer_mt.rundir import write_atomically
from transformer_mt.terminal import say

_HERE = Path(__file__).parent


def write(config: Config, checkpoint: str, output: Path | None, command: str) -> None:
    """Write the report of a run, and say where. Raises what :func:`gather` raises, and SystemFault."""
    output = output or Path(config.run_dir) / "report.html"
    write_atomically(output, page(gather(config, checkpoint, command)))
    say(f"the report is in {output}")


def page(told: dict[str, Any]) -> str:
    """The HTML of what :func:`gather` tells. Its policy lets nothing be loaded and no other script or style be used."""
    template, style, script = ((_HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return Template(template).substitute(
        title=escape(f"{told['run']}: report"),
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        style=style,
        script=script,
        data=embedded(told),
    )


def embedded(value: Any) -> str:
    """JSON that cannot end the script element that holds it, whatever is in the text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _source(text: str) -> str:
    """A text of the page as its policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
