"""The same pairs give the same model and the same scores, whatever they are clothed in."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.conftest import Mt, toy_pairs, write_lines

PAIRS = [*toy_pairs(300), ('"quoted', "NA"), ("mako\u2028bilu tofi", "null veka"), ("a\x85b", "c; d, e")]
SPLITS = {"train": PAIRS, "valid": toy_pairs(8, seed=1), "test": toy_pairs(8, seed=2)}

Source = dict[str, Any]


def text(folder: Path, split: str) -> Source:
    names = {"source": f"{split}.xx", "target": f"{split}.yy"}
    for number, name in enumerate(names.values()):
        write_lines(folder / name, [pair[number] for pair in SPLITS[split]])
    return {side: str(folder / name) for side, name in names.items()}


def compressed(folder: Path, split: str) -> Source:
    source = text(folder, split)
    Path(source["source"]).write_bytes(gzip.compress(Path(source["source"]).read_bytes()))
    Path(source["target"]).write_bytes(lzma.compress(Path(source["target"]).read_bytes()))
    return source


def windows(folder: Path, split: str) -> Source:
    """With the byte order mark and the line ends of Windows, and none at the end."""
    source = text(folder, split)
    for path in source.values():
        Path(path).write_bytes(b"\xef\xbb\xbf" + Path(path).read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    return source


def tsv(folder: Path, split: str) -> Source:
    write_lines(folder / f"{split}.tsv", [f"{target}\t17\t{source}" for source, target in SPLITS[split]])
    return {"tsv": str(folder / f"{split}.tsv"), "columns": [3, 1]}


def json_lines(folder: Path, split: str) -> Source:
    rows = [json.dumps({"translation": {"xx": source, "yy": target}}) for source, target in SPLITS[split]]
    write_lines(folder / f"{split}.jsonl", rows)
    return {"jsonl": str(folder / f"{split}.jsonl")}


def parquet(folder: Path, split: str) -> Source:
    columns = {name: [pair[number] for pair in SPLITS[split]] for number, name in enumerate(("xx", "yy"))}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{split}.parquet")
    return {"parquet": str(folder / f"{split}.parquet")}


def hub(folder: Path, split: str) -> Source:
    parquet(folder, split)
    lines = "\n".join(f"  - split: {name}\n    path: {name}.parquet" for name in SPLITS)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}\n---\n")
    return {"hub": str(folder), "split": split}


def stream(folder: Path, split: str) -> Source:
    return {**hub(folder, split), "stream": True}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What the first of the sources gave."""
    return {}


@pytest.mark.parametrize("clothing", [text, compressed, windows, tsv, json_lines, parquet, hub, stream])
def test_model_and_bleu_are_the_same_from_every_source(
    clothing: Callable[[Path, str], Source],
    toy_config: Callable[..., Path],
    tmp_path: Path,
    mt: Mt,
    expected: dict[str, Any],
) -> None:
    (tmp_path / "text").mkdir()
    data = {split: clothing(tmp_path / "text", split) for split in SPLITS}
    config = toy_config(data=data, training={"max_steps": 12, "validate_every": 6, "save_every": 6})
    assert (result := mt("train", config)).code == 0, result.err
    assert (result := mt("eval", config, "--json", tmp_path / "scores.json")).code == 0, result.err
    run = tmp_path / "run"
    found = {
        "weights": (run / "checkpoints" / "step-000012" / "model.safetensors").read_bytes(),
        "tokenizer": (run / "tokenizer" / "joint.model").read_bytes(),
        "hypotheses": (run / "eval" / "test.hyp").read_text(),
        "scores": json.loads((tmp_path / "scores.json").read_text()),
    }
    for name, value in found.items():
        assert value == expected.setdefault(name, value), name
