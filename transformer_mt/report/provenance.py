"""Where a run comes from: its text, its training, the programs."""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformer_mt import __version__
from transformer_mt.checkpoint import MODEL, Checkpoints
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.rundir import RunDirectory
from transformer_mt.training.metrics import duration

Rows = list[tuple[str, str]]
Event = dict[str, Any]


def events(path: Path) -> list[Event]:
    """The lines of a metrics file; none where it is missing, and without those that a crash has cut."""
    found: list[Event] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        try:
            event = json.loads(line)
            float(event["step"]), event["event"]
        except (ValueError, KeyError, TypeError):
            continue
        found.append(event)
    return found


def provenance(config: Config, checkpoint: str, command: str, parameters: int, log: list[Event]) -> dict[str, Rows]:
    """What is known of a run, by topic. Raises ArtefactError when a manifest is damaged."""
    paths = RunDirectory(Path(config.run_dir))
    manifest = Checkpoints(paths.checkpoints).manifest(checkpoint)
    store = prepare.read_manifest(paths.data) or {}
    last = [event for event in log if event["event"] == "train" and event["step"] <= manifest.get("step", 0)][-1:]
    training = [
        ("to train it again", "mt train CONFIG, a file with the configuration below"),
        ("checkpoint", checkpoint),
        ("step", f"{manifest.get('step', 0):,}"),
        *(("epoch", f"{event['epoch']:,}") for event in last if "epoch" in event),
        *(("time of training", duration(event["seconds"])) for event in last if "seconds" in event),
        ("parameters", f"{parameters:,}"),
        ("seed", str(config.seed)),
        ("trained by transformer_mt", str(manifest.get("version"))),
        ("SHA-256 of the weights", manifest["files"].get(MODEL, "")),
        ("SHA-256 of the configuration", manifest.get("config", "")),
    ]
    programs = [
        ("command", command),
        ("written", time.strftime("%Y-%m-%d %H:%M:%S %z")),
        ("transformer_mt", __version__),
        *((name, version(name)) for name in ("torch", "sentencepiece", "sacrebleu", "numpy")),
        ("Python", platform.python_version()),
        ("system", platform.platform()),
    ]
    return {"Training": training, "Text": _text(store), "This report": programs}


def _text(store: dict[str, Any]) -> Rows:
    prints, dropped = store.get("fingerprint", {}).get("files", {}), store.get("dropped", {})
    return [
        ("pairs to train on", f"{store.get('pairs', 0):,}"),
        *((f"pairs dropped: {rule}", f"{drop['pairs']:,}") for rule, drop in dropped.items()),
        *((f"pairs held out: {split}", f"{count:,}") for split, count in store.get("held_out", {}).items()),
        *((f"SHA-256 of {key}", f"{file['sha256']} ({file['size']:,} bytes)") for key, file in prints.items()),
        *((f"SHA-256 of tokenizer/{name}", digest) for name, digest in store.get("tokenizer", {}).items()),
        *(
            (f"SHA-256 of data/{name}", digest)
            for texts in store.get("texts", {}).values()
            for name, digest in texts.items()
        ),
    ]
