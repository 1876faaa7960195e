"""From raw corpora to the token store: read, hold out, clean, learn the tokenizer, encode. Done again only when needed.

A training pair is dropped when a side is empty, when a side has more than ``max_length`` pieces, or when one side has
more than ``max_ratio`` times the pieces of the other. What is dropped is counted.
"""

import hashlib
import heapq
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from transformer_mt.config import Config, Source
from transformer_mt.data.corpus import Pair, read_lines, read_pairs
from transformer_mt.data.store import SIDES, StoreWriter
from transformer_mt.data.tokenizer import LONGEST_PIECE, Tokenizer, learn
from transformer_mt.errors import ArtefactError, DataError
from transformer_mt.terminal import Bar

HELD_OUT = 2_000  # pairs at most, of each of validation and test
_CHUNK = 8_192  # pairs encoded at once


def fingerprint(config: Config, known: dict[str, Any] | None = None, *, may_miss: bool = False) -> dict[str, Any]:
    """What the token store depends on: the settings, and size, time and SHA-256 of every text file.

    A file whose size and time are those of ``known`` is not read again; with ``may_miss`` one that is gone is taken to
    be as it was. Raises DataError when one is missing.
    """
    files: dict[str, Any] = {}
    before = {} if known is None else known["files"]
    for split in ("train", "valid", "test"):
        sources = config.data.train if split == "train" else list(config.data.sets(split).values())
        for number, path in enumerate(path for source in sources for path in _files(source)):
            key = f"{split}.{number}"
            try:
                gone = may_miss and key in before and not path.exists()
                files[key] = before[key] if gone else _file_print(path, before.get(key))
            except DataError as error:
                raise DataError(f"data.{split}: {error}") from error
    settings = {
        "languages": config.languages.model_dump(),
        "tokenizer": config.tokenizer.model_dump(),
        "max_length": config.data.max_length,
        "max_ratio": config.data.max_ratio,
        "hub": {
            split: source.model_dump(exclude_none=True)
            for split in ("train", "valid", "test")
            for source in (config.data.train if split == "train" else config.data.sets(split).values())
            if source.hub is not None
        },
        "seed": config.seed,
    }
    return {"settings": settings, "files": files}


def _files(source: Source) -> list[Path]:
    """The files of a corpus on this machine; of a data set folder, all of them."""
    if source.hub is not None:
        return sorted(path for path in Path(source.hub).rglob("*") if path.is_file())
    return [Path(path) for path in source.files]


def _file_print(path: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    try:
        stat = path.stat()
        if before and (before["size"], before["time"]) == (stat.st_size, stat.st_mtime_ns):
            return before
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return {"size": stat.st_size, "time": stat.st_mtime_ns, "sha256": digest}


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name what differs between two fingerprints; empty when they describe the same store."""
    changed = [key for key, value in new["settings"].items() if old["settings"].get(key) != value]
    hashes = ({k: f["sha256"] for k, f in print_["files"].items()} for print_ in (old, new))
    before, after = hashes
    changed += [f"data.{key.split('.')[0]}" for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(sorted(set(changed)))


def read_manifest(data: Path) -> dict[str, Any] | None:
    """The description of a finished store; None when there is none. Raises ArtefactError when it is damaged."""
    path = data / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["fingerprint"]["files"], manifest["fingerprint"]["settings"], manifest["pairs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: damaged; train in a new run_dir") from error
    return manifest  # type: ignore[no-any-return]


def prepare(config: Config, prints: dict[str, Any], tokenizer_dir: Path, data: Path, progress: Bar
            ) -> dict[str, Any]:  # fmt: skip
    """Make tokenizer and store from scratch; return the manifest, which is written last.

    Raises DataError when the text is at fault.
    """
    for directory in (tokenizer_dir, data):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    held_out = _write_evaluation_sets(config, data)
    dropped: Counter[str] = Counter()
    staged = {side: data / f"staged.{side}.txt" for side in SIDES}
    pairs = _stage(config, held_out, staged, dropped)
    tokenizer = learn(
        lambda: read_lines(staged["source"]),
        lambda: read_lines(staged["target"]),
        pairs,
        config.tokenizer,
        config.seed,
    )
    tokenizer.save(tokenizer_dir)
    progress.expect(pairs)
    kept = _encode(config, tokenizer, staged, data, dropped, progress)
    if kept == 0:
        raise DataError(f"no training pair is left: {_counts(dropped)}")
    for path in staged.values():
        path.unlink()
    manifest = {
        "fingerprint": prints,
        "pairs": kept,
        "held_out": held_out.counts,
        "dropped": dict(dropped),
        "vocabulary": {"source": tokenizer.source_size, "target": tokenizer.target_size},
        "tokenizer": {path.name: _file_print(path, None)["sha256"] for path in Tokenizer.files(tokenizer_dir)},
    }
    (data / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {rule}" for rule, count in sorted(dropped.items())) or "the files are empty"


class _HeldOut:
    """Pairs that training must not see, by hash, so that copies stay on one side."""

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.counts: dict[str, int] = {}


def pair_hash(source: str, target: str) -> int:
    """A hash of a pair that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{source}\n{target}".encode(), digest_size=8).digest(), "big")


def _write_evaluation_sets(config: Config, data: Path) -> _HeldOut:
    """Write raw validation and test text; hold out of training what is not given: 1 % each, chosen by hash."""
    held_out = _HeldOut()
    missing = [split for split in ("valid", "test") if getattr(config.data, split) is None]
    for split in ("valid", "test"):
        if split not in missing:
            source = getattr(config.data, split)[split]
            if _write_split(data, split, read_pairs(source, config.languages)) == 0:
                raise DataError(f"data.{split}: {source.source or source.hub} is empty")
    if not missing:
        return held_out

    total, smallest = 0, list[int]()  # the smallest hashes, as a heap of their negatives
    known: set[int] = set()
    for source_line, targets in _full_pairs(config):
        total += 1
        value = pair_hash(source_line, targets[0])
        if value in known:
            continue
        if len(smallest) < 10 * HELD_OUT:
            heapq.heappush(smallest, -value)
            known.add(value)
        elif value < -smallest[0]:
            known.remove(-heapq.heappushpop(smallest, -value))
            known.add(value)
    if len(known) < 10:
        raise DataError(f"data.train: {len(known)} different pairs are too few to hold out {' and '.join(missing)}")
    size = min(HELD_OUT, max(1, min(total // 100, len(known) // 10)))  # a tenth, where nearly all are copies
    chosen = sorted(known)
    for number, split in enumerate(missing):
        mine = set(chosen[number * size : (number + 1) * size])
        held_out.hashes |= mine
        held_out.counts[split] = _write_split(data, split, _first_copies(_full_pairs(config), mine))
    return held_out


def _full_pairs(config: Config) -> Iterator[Pair]:
    """Training pairs with text on both sides."""
    for source, targets in read_pairs(config.data.train[0], config.languages):
        if source.strip() and targets[0].strip():
            yield source, targets


def _first_copies(pairs: Iterator[Pair], hashes: set[int]) -> Iterator[Pair]:
    left = set(hashes)
    for source, targets in pairs:
        value = pair_hash(source, targets[0])
        if value in left:
            left.remove(value)
            yield source, targets


def _write_split(data: Path, split: str, pairs: Iterator[Pair]) -> int:
    """Write ``SPLIT.source.txt`` and ``SPLIT.target.txt`` (or ``.target.0.txt``, … for several references)."""
    count = 0
    files: list[Any] = []
    try:
        for source, targets in pairs:
            if not files:
                names = ["target"] if len(targets) == 1 else [f"target.{i}" for i in range(len(targets))]
                for name in ("source", *names):
                    files.append((data / f"{split}.{name}.txt").open("w", encoding="utf-8", newline="\n"))
            for file, line in zip(files, (source, *targets), strict=True):
                file.write(line + "\n")
            count += 1
    finally:
        for file in files:
            file.close()
    return count


def evaluation_set(data: Path, split: str) -> tuple[list[str], list[list[str]]]:
    """The source lines of a split and its references, each a list of lines. Raises ArtefactError."""
    targets = sorted(data.glob(f"{split}.target*.txt"))
    if not targets:
        raise ArtefactError(f"{data}: no {split} text here; run `mt tokenize` again")
    try:
        sources, references = list(read_lines(data / f"{split}.source.txt")), [list(read_lines(p)) for p in targets]
    except DataError as error:
        raise ArtefactError(str(error)) from error
    if any(len(lines) != len(sources) for lines in references):
        raise ArtefactError(f"{data}: the {split} text is damaged; its sides have different numbers of lines")
    return sources, references


def _stage(config: Config, held_out: _HeldOut, staged: dict[str, Path], dropped: Counter[str]) -> int:
    """Copy training pairs to plain files, less those that are held out, empty or far too long; return their number."""
    # A line of more characters has more than max_length pieces (but for runs of spaces, which tokenizers collapse).
    limit, count = config.data.max_length * LONGEST_PIECE, 0
    with (
        staged["source"].open("w", encoding="utf-8", newline="\n") as source_file,
        staged["target"].open("w", encoding="utf-8", newline="\n") as target_file,
    ):
        for source, targets in read_pairs(config.data.train[0], config.languages):
            target = targets[0]
            if not source.strip() or not target.strip():
                dropped["empty"] += 1
            elif max(len(source), len(target)) > limit:
                dropped["too long"] += 1
            elif not held_out.hashes or pair_hash(source, target) not in held_out.hashes:
                source_file.write(source + "\n")
                target_file.write(target + "\n")
                count += 1
    if count == 0:
        raise DataError(f"data.train: no training pair is left: {_counts(dropped)}")
    return count


def _encode(config: Config, tokenizer: Tokenizer, staged: dict[str, Path], data: Path, dropped: Counter[str],
            progress: Bar) -> int:  # fmt: skip
    """Encode the staged pairs into the store; return how many the rules left."""
    kept = 0
    longest, ratio = config.data.max_length, config.data.max_ratio
    lines = zip(read_lines(staged["source"]), read_lines(staged["target"]), strict=True)
    with StoreWriter(data, {"source": tokenizer.source_size, "target": tokenizer.target_size}) as writer:
        while chunk := list(islice(lines, _CHUNK)):
            sources, targets = zip(*chunk, strict=True)
            encoded = zip(tokenizer.encode_source(sources), tokenizer.encode_target(targets), strict=True)
            for text, ids in zip(chunk, encoded, strict=True):
                short, long = sorted(map(len, ids))
                if short == 0:
                    dropped["empty"] += 1
                elif long > longest:
                    dropped["too long"] += 1
                elif long > ratio * short:
                    dropped["length ratio"] += 1
                else:
                    writer.add(text, ids)
                    kept += 1
            progress.advance(len(chunk))
    return kept
