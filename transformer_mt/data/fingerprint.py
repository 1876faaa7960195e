"""What a token store was made of: it is made anew only when that changes."""

import hashlib
from pathlib import Path
from typing import Any

from transformer_mt.config import Config, Source
from transformer_mt.data.corpus import refuse_device
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import DataError, missing, unreadable

SPLITS = ("train", "valid", "test")


def fingerprint(config: Config, known: dict[str, Any] | None = None, *, may_miss: bool = False) -> dict[str, Any]:
    """What the token store depends on: settings, and size, time and SHA-256 of every file.

    A file whose size and time are those of ``known`` is not read again; with ``may_miss`` one that is gone is taken to
    be as it was. Raises DataError when one is missing.
    """
    files: dict[str, Any] = {}
    before = {} if known is None else known["files"]
    for where, paths in _files(config).items():
        if may_miss and any(_is_gone(source) for source in _sources(config, where.removeprefix("data."))):
            files |= {key: print_ for key, print_ in before.items() if key.startswith(f"{where}.")}
            continue
        for number, path in enumerate(paths):
            key = f"{where}.{number}"
            try:
                gone = may_miss and key in before and not path.exists()
                files[key] = before[key] if gone else _file_print(path, before.get(key))
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
    settings = {
        "languages": config.languages.model_dump(),
        "tokenizer": config.tokenizer.model_dump(by_alias=True),
        "max_length": config.data.max_length,
        "max_ratio": config.data.max_ratio,
        "drop": sorted(config.data.drop),
        "seed": config.seed,
        **{f"data.{split}": [_settings(source) for source in _sources(config, split)] for split in SPLITS},
    }
    return {"settings": settings, "files": files}


def _is_gone(source: Source) -> bool:
    """Whether a data set folder is no longer there; files are looked at one by one."""
    return source.hub is not None and Path(source.hub).is_absolute() and not Path(source.hub).exists()


def _sources(config: Config, split: str) -> list[Source]:
    if split not in SPLITS:
        return []
    return config.data.train if split == "train" else list((getattr(config.data, split) or {}).values())


def _settings(source: Source) -> dict[str, Any]:
    """All of a source but where its files lie, which may change."""
    paths = {"source", "target", "alignment", "tsv", "jsonl", "parquet"}
    if source.hub is not None and Path(source.hub).is_absolute():
        paths.add("hub")  # a folder
    settings = source.model_dump(exclude_defaults=True, exclude=paths)
    return {**settings, "kind": sorted(paths & source.model_dump(exclude_none=True).keys())}


def _files(config: Config) -> dict[str, list[Path]]:
    """The files that are read, by the key of the configuration that names them."""
    files = {f"data.{split}": [path for s in _sources(config, split) for path in _source_files(s)] for split in SPLITS}
    if config.tokenizer.from_ is not None:
        names = Tokenizer.names(config.tokenizer.joint)
        files["tokenizer.from"] = [Path(config.tokenizer.from_) / "tokenizer" / name for name in names]
    return files


def _source_files(source: Source) -> list[Path]:
    """The files of a corpus on this machine; of a data set folder, all of them."""
    if source.hub is not None:
        return sorted(path for path in Path(source.hub).rglob("*") if path.is_file())
    return [Path(path) for path in (*source.files, source.alignment) if path is not None]


def _file_print(path: Path, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Size, time and SHA-256 of a file; ``before`` itself when size and time are the same. Raises DataError."""
    try:
        stat = path.stat()
        if before and (before["size"], before["time"]) == (stat.st_size, stat.st_mtime_ns):
            return before
        with path.open("rb") as file:
            refuse_device(path, file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DataError(missing(path)) from error
    except OSError as error:
        raise DataError(unreadable(path, error)) from error
    return {"size": stat.st_size, "time": stat.st_mtime_ns, "sha256": digest}


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name what differs between two fingerprints; empty when they describe the same store."""
    changed = [key for key, value in new["settings"].items() if old["settings"].get(key) != value]
    before, after = ({k: f["sha256"] for k, f in print_["files"].items()} for print_ in (old, new))
    changed += [key.rpartition(".")[0] for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(sorted(set(changed)))
