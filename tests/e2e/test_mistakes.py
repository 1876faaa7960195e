"""The mistakes that newcomers make, and the one line that answers each; what was there before stays as it was."""

from __future__ import annotations

import fnmatch
import gzip
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.conftest import write_toy_text
from transformer_mt.checkup import check, preflight
from transformer_mt.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tests.conftest import Mt
    from transformer_mt.config import Config

CONFIG = """\
languages: {source: xx, target: yy}
data:
  train: {source: train.xx, target: train.yy}
  valid: {source: valid.xx, target: valid.yy}
  test: {source: test.xx, target: test.yy}
tokenizer: {vocab_size: 310}
model: {size: tiny, layers: 1, width: 32, heads: 2, feed_forward: 64}
training: {max_steps: 2, warmup_steps: 1, batch_tokens: 512}
decoding: {beam_size: 3}
device: cpu
run_dir: new
"""
TRAIN = "{source: train.xx, target: train.yy}"
VALID = "  valid: {source: valid.xx, target: valid.yy}\n"
SETTINGS = (
    "batch_tokens, device_tokens, max_steps, max_epochs, max_minutes, precision, start_from, subword_sampling, "
    "schedule, warmup_steps, learning_rate, label_smoothing, guided_alignment, adam_betas, weight_decay, clip_norm, "
    "log_every, save_every, validate_every, keep_last, average, best_by, patience, teacher_forcing, samples, "
    "tensorboard"
)
KINDS = "{source: FILE, target: FILE}, {tsv: FILE}, {jsonl: FILE}, {parquet: FILE}, {hub: OWNER/NAME, split: SPLIT}"
SECTIONS = "languages, data, tokenizer, model, training, decoding, device, seed, run_dir"

Changes = dict[str, "str | bytes | tuple[str, str]"]
"""What is changed before the command: a file's content, words of a file and others in their place, a ``folder/``."""

Mistake = tuple[str, Changes, str, int, str]
"""What was done, the changes, the command, its exit code and the line; ``…`` stands for words of a library."""


def config(old: str, new: str) -> Changes:
    return {"toy.yaml": (old, new)}


def data(kind: str) -> Changes:
    return config(TRAIN, kind)


PATHS: list[Mistake] = [
    ("the name of the configuration is misspelt", {}, "train toy.yml", 2,
     "toy.yml: no such file; did you mean toy.yaml?"),
    ("a folder that is not there", {}, "train confgs/toy.yaml", 2,
     "confgs/toy.yaml: no such file, for there is no folder confgs; check the path"),
    ("a folder for a configuration", {"texts/": ""}, "train texts", 2,
     "texts: a folder without config.yaml; give a YAML file or a run directory"),
    ("a binary file for a configuration", {"toy.bin": b"PK\n\x80"}, "train toy.bin", 2,
     "toy.bin:2: not UTF-8 (byte 0x80); give a YAML file, saved as UTF-8"),
    ("text for a configuration", {}, "train train.xx", 2,
     f"train.xx: not a configuration; expected a mapping of {SECTIONS} (mt init writes one)"),
    ("an empty configuration", {"toy.yaml": ""}, "train toy.yaml", 2,
     f"toy.yaml: not a configuration; expected a mapping of {SECTIONS} (mt init writes one)"),
    ("two texts for a configuration", {}, "train train.xx train.yy", 2,
     "mt train: got unexpected extra argument(s) (train.yy); see mt train --help"),
    ("the address of a configuration", {}, "train https://example.org/toy.yaml", 2,
     "https://example.org/toy.yaml: a URL, not a file; download it and give the file"),
    ("the name of a training file is misspelt", config("train.xx", "trian.xx"), "train toy.yaml", 3,
     "data.train: trian.xx: no such file; did you mean train.xx?"),
    ("a training file in a folder that is not there", config("train.xx", "texts/train.xx"), "train toy.yaml", 3,
     "data.train: texts/train.xx: no such file, for there is no folder texts; check the path"),
    ("a validation file that is not there", config("valid.yy", "dev.yy"), "train toy.yaml", 3,
     "data.valid: dev.yy: no such file; check the path"),
    ("a folder for a training file", {"texts/": "", **config("train.xx", "texts")}, "train toy.yaml", 3,
     "data.train: texts: cannot be read: Is a directory; give a file of text"),
    ("the address of a training file", config("train.xx", "https://example.org/a.xx"), "train toy.yaml", 3,
     "data.train: https://example.org/a.xx: a URL, not a file; download it and give the file"),
    ("the address of a data set", data("{hub: 'https://huggingface.co/datasets/a/b'}"), "train toy.yaml", 2,
     "toy.yaml:3: data.train: hub: a URL, not a name; write OWNER/NAME, such as bentrevett/multi30k"),
    ("a data set without its owner", data("{hub: multi30k, split: train}"), "train toy.yaml", 3,
     "data.train: multi30k: cannot be loaded: …; check the name (OWNER/NAME), split and connection"),
    ("a data set without a split, and no connection", data("{hub: a/b}"), "train toy.yaml", 3,
     "data.train: a/b: cannot be loaded: …; check the name (OWNER/NAME), split and connection"),
    ("a file to translate that is not there", {"in.xx": "ar\n"}, "translate run im.xx", 3,
     "im.xx: no such file; did you mean in.xx?"),
    ("a sentence for a file", {}, "translate run 'ar mako kist'", 3,
     "ar mako kist: no such file; check the path"),
    ("a folder to translate", {"texts/": ""}, "translate run texts", 3,
     "texts: cannot be read: Is a directory; give a file of text"),
    ("output to a folder that is not there", {}, "translate run test.xx --output out/test.yy", 6,
     "--output out/test.yy: there is no folder out; make it, or choose another"),
    ("output to a folder", {"out/": ""}, "translate run test.xx --output out", 6,
     "--output out: is a folder; give a file"),
    ("output to nothing", {}, "translate run test.xx --output ''", 6,
     "--output .: is a folder; give a file"),
    ("output to a device that is full", {}, "translate run test.xx --output /dev/full", 6,
     "--output /dev/full: No space left on device; make room"),
    ("output to a link to itself", {}, "translate run test.xx --output loop", 6,
     "loop: Too many levels of symbolic links; a link leads to itself, choose another"),
    ("a run below a link to itself", {}, "train toy.yaml --set run_dir=loop/x", 6,
     "loop/x: Too many levels of symbolic links; a link leads to itself, choose another"),
    ("a training file below a link to itself", config("train.xx", "loop/x"), "train toy.yaml", 3,
     "data.train: loop/x: cannot be read: Too many levels of symbolic links; a link leads to itself, check the path"),
    ("a link to itself for a configuration", {}, "train loop", 2,
     "loop: a link that leads nowhere; check the path"),
    ("a device for a training file", config("train.xx", "/dev/zero"), "train toy.yaml", 3,
     "data.train: /dev/zero: a device, not a file of text; give a file of text"),
    ("output into the input", {}, "translate run test.xx --output test.xx", 2,
     "--output test.xx: is the file to translate; choose another"),
    ("scores to a folder that is not there", {}, "eval run --json out/scores.json", 6,
     "--json out/scores.json: there is no folder out; make it, or choose another"),
]  # fmt: skip

VALUES: list[Mistake] = [
    ("a number in words", config("layers: 1", "layers: six"), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got 'six'; expected an integer"),
    ("true for a number", config("layers: 1", "layers: true"), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got true; expected an integer"),
    ("a number in quotes", config("layers: 1", 'layers: "8"'), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got '8'; expected an integer (without quotes)"),
    ("a list for a number", config("layers: 1", "layers: [6, 6]"), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got [6, 6]; expected an integer"),
    ("a mapping for a number", config("layers: 1", "layers: {encoder: 6}"), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got a mapping; expected an integer"),
    ("nothing for a number", config("layers: 1", "layers: "), "train toy.yaml", 2,
     "toy.yaml:7: model.layers: got nothing; expected an integer"),
    ("a decimal comma", config("layers: 1", "dropout: 0,1"), "train toy.yaml", 2,
     "toy.yaml:7: model.1: unknown key; write decimals with a point, such as 0.1"),
    ("yes for true", config("vocab_size: 310", "joint: yes"), "train toy.yaml", 2,
     "toy.yaml:6: tokenizer.joint: got 'yes'; expected true or false"),
    ("a size that there is not", config("size: tiny", "size: tyni"), "train toy.yaml", 2,
     "toy.yaml:7: model.size: got 'tyni'; expected 'tiny', 'small', 'base' or 'big'"),
    ("a learning rate in words", config("batch_tokens: 512", "learning_rate: fast"), "train toy.yaml", 2,
     "toy.yaml:8: training.learning_rate: got 'fast'; expected a number"),
    ("no batch", config("batch_tokens: 512", "batch_tokens: 0"), "train toy.yaml", 2,
     "toy.yaml:8: training.batch_tokens: got 0; expected a number greater than 0"),
    ("no steps", {}, "train toy.yaml --set training.max_steps=0", 2,
     "--set training.max_steps: got 0; expected a number greater than 0"),
    ("fewer steps than none", {}, "train toy.yaml --set training.max_steps=-5", 2,
     "--set training.max_steps: got -5; expected a number greater than 0"),
    ("heads that do not divide the width", config("heads: 2", "heads: 3"), "train toy.yaml", 2,
     "toy.yaml:7: model: width 32 is not an even multiple of heads 3; change one of them"),
    ("dropout above one", config("heads: 2", "dropout: 1.5"), "train toy.yaml", 2,
     "toy.yaml:7: model.dropout: got 1.5; expected a number less than 1"),
    ("a value for a section", {}, "train toy.yaml --set training=5", 2,
     f"--set training: got 5; expected a mapping of {SETTINGS}"),
    ("languages as a pair of codes", config("{source: xx, target: yy}", "xx-yy"), "train toy.yaml", 2,
     "toy.yaml:1: languages: got 'xx-yy'; expected a mapping of source, target"),
    ("the name of a language for its code", config("source: xx", "source: german"), "train toy.yaml", 2,
     "toy.yaml:1: languages.source: 'german' is not the code of a language; write its two or three letters, "
     "such as de"),
    ("no languages", config("languages: {source: xx, target: yy}\n", ""), "train toy.yaml", 2,
     "toy.yaml:1: languages: missing; give both codes, such as languages: {source: de, target: en}"),
    ("no run_dir", config("run_dir: new\n", ""), "train toy.yaml", 2,
     "toy.yaml:1: run_dir: missing; give a folder for all that the run makes, such as run_dir: runs/NAME"),
    ("no data", {"toy.yaml": "languages: {source: de, target: en}\nrun_dir: new\n"}, "train toy.yaml", 2,
     "toy.yaml:1: data: missing; give text, such as data: {train: {source: FILE, target: FILE}}"),
    ("one file for a corpus", data("train.xx"), "train toy.yaml", 2,
     f"toy.yaml:3: data.train: got 'train.xx'; expected one of {KINDS}"),
    ("no translations", data("{source: train.xx}"), "train toy.yaml", 2,
     "toy.yaml:3: data.train: 'source' without 'target'; give the file of the translations, too"),
    ("two kinds of corpus at once", data("{tsv: train.tsv, jsonl: train.jsonl}"), "train toy.yaml", 2,
     f"toy.yaml:3: data.train: not one kind of source; expected one of {KINDS}"),
    ("a column before the first", data("{tsv: train.tsv, columns: [0, 1]}"), "train toy.yaml", 2,
     "toy.yaml:3: data.train: columns: expected a list of numbers from 1 on; that of the source comes first"),
    ("a device that there is not", config("device: cpu", "device: gpu"), "train toy.yaml", 2,
     "toy.yaml:10: device: got 'gpu'; expected 'auto', 'cpu', 'cuda' or 'mps'"),
    ("half precision on a CPU", config("batch_tokens: 512", "precision: float16"), "train toy.yaml", 2,
     "training.precision: float16 needs a CUDA GPU; choose bfloat16 or float32"),
]  # fmt: skip

KEYS: list[Mistake] = [
    ("misspelt at the top", config("tokenizer:", "tokeniser:"), "train toy.yaml", 2,
     "toy.yaml:6: tokeniser: unknown key; did you mean 'tokenizer'?"),
    ("misspelt in languages", config("target: yy}\ndata", "target: yy, sorce: xx}\ndata"), "train toy.yaml", 2,
     "toy.yaml:1: languages.sorce: unknown key; did you mean 'source'?"),
    ("misspelt in data", config("  valid:", "  vaild:"), "train toy.yaml", 2,
     "toy.yaml:4: data.vaild: unknown key; did you mean 'valid'?"),
    ("another name in data", config("  valid:", "  dev:"), "train toy.yaml", 2,
     "toy.yaml:4: data.dev: unknown key; known here: train, valid, test, max_length, max_ratio, drop"),
    ("misspelt in data.train", config("train.xx, target", "train.xx, traget"), "train toy.yaml", 2,
     "toy.yaml:3: data.train.traget: unknown key; did you mean 'target'?"),
    ("misspelt in one of several sets",
     config("{source: test.xx, target: test.yy}", "{news: {source: test.xx, traget: test.yy}}"), "train toy.yaml", 2,
     "toy.yaml:5: data.test.news.traget: unknown key; did you mean 'target'?"),
    ("misspelt in tokenizer", config("vocab_size", "vocab-size"), "train toy.yaml", 2,
     "toy.yaml:6: tokenizer.vocab-size: unknown key; did you mean 'vocab_size'?"),
    ("misspelt in model", config("heads", "n_head"), "train toy.yaml", 2,
     "toy.yaml:7: model.n_head: unknown key; did you mean 'heads'?"),
    ("misspelt in training", config("batch_tokens", "batch_token"), "train toy.yaml", 2,
     "toy.yaml:8: training.batch_token: unknown key; did you mean 'batch_tokens'?"),
    ("the name that other toolkits use", config("batch_tokens", "batch_size"), "train toy.yaml", 2,
     "toy.yaml:8: training.batch_size: unknown key; did you mean 'batch_tokens', or 'decoding.batch_size'?"),
    ("initials", config("batch_tokens", "lr"), "train toy.yaml", 2,
     "toy.yaml:8: training.lr: unknown key; did you mean 'learning_rate'?"),
    ("misspelt in decoding", config("beam_size", "beamsize"), "train toy.yaml", 2,
     "toy.yaml:9: decoding.beamsize: unknown key; did you mean 'beam_size'?"),
    ("misspelt in --set", {}, "train toy.yaml --set training.max_step=5", 2,
     "--set training.max_step: unknown key; did you mean 'max_steps'?"),
    ("a misspelt section in --set", {}, "train toy.yaml --set trainig.max_steps=5", 2,
     "--set trainig.max_steps: trainig: unknown key; did you mean 'training'?"),
    ("--set without the section", {}, "train toy.yaml --set max_steps=5", 2,
     "--set max_steps: unknown key; did you mean 'training.max_steps'?"),
    ("--set without a value", {}, "train toy.yaml --set seed=", 2,
     "--set seed=: the value is missing; for none, write seed=null"),
    ("--set without =", {}, "train toy.yaml --set seed", 2,
     "--set seed: not an assignment; expected KEY=VALUE, such as training.max_steps=100"),
    ("--set with a space for =", {}, "train toy.yaml --set seed 5", 2,
     "mt train: got unexpected extra argument(s) (5); see mt train --help"),
    ("--set and a bracket that stays open", {}, "train toy.yaml --set 'model={size: tiny'", 2,
     "--set model:1: a bracket is not closed; close it"),
    ("a key twice", config("device: cpu", "device: cpu\ndevice: cuda"), "train toy.yaml", 2,
     "toy.yaml:11: device: the key is given twice; keep one"),
    ("a key twice in a section", config("beam_size: 3", "beam_size: 3, beam_size: 4"), "train toy.yaml", 2,
     "toy.yaml:9: decoding.beam_size: the key is given twice; keep one"),
    ("a tab", config("  valid:", "\tvalid:"), "train toy.yaml", 2,
     "toy.yaml:4: a tab; YAML is indented with spaces"),
    ("a space too many", config("  valid:", "   valid:"), "train toy.yaml", 2,
     "toy.yaml:4: does not fit what is above it; check the indentation"),
    ("no space after a colon", config("run_dir: new", "run_dir:new"), "train toy.yaml", 2,
     "toy.yaml:11: not KEY: VALUE; write a space after the colon"),
    ("a second colon", config("run_dir: new", "run_dir: new: mine"), "train toy.yaml", 2,
     "toy.yaml:11: a second colon; put the text in quotes, or check the indentation"),
    ("a bracket that stays open", config("beam_size: 3}", "beam_size: 3"), "train toy.yaml", 2,
     "toy.yaml:9: a bracket is not closed; close it"),
    ("a quotation mark that stays open", config("run_dir: new", "run_dir: 'new"), "train toy.yaml", 2,
     "toy.yaml:11: a quotation mark is not closed; close it"),
    ("backslashes", config("run_dir: new", r'run_dir: "C:\runs\x"'), "train toy.yaml", 2,
     "toy.yaml:11: a backslash between double quotes; take single quotes"),
]  # fmt: skip

ENGLISH = "".join(f"The cat number {number} sleeps on the sofa.\n" for number in range(400))
GERMAN = "".join(f"Die Katze Nummer {number} schläft auf dem Sofa.\n" for number in range(400))
CUT = gzip.compress(b"ar mako\n" * 400, 0)[:-400]

TEXT: list[Mistake] = [
    ("a line is missing", {"train.yy": "zar\n" * 399}, "train toy.yaml", 3,
     "data.train: the files do not have the same number of lines: train.xx has 400, train.yy has 399; line i must "
     "be the translation of line i (one ends before line 400)"),
    ("lines are missing in validation", {"valid.yy": "zar\n"}, "train toy.yaml", 3,
     "data.valid: the files do not have the same number of lines: valid.xx has 10, valid.yy has 1; line i must "
     "be the translation of line i (one ends before line 2)"),
    ("an empty file", {"train.xx": ""}, "train toy.yaml", 3,
     "data.train: the files do not have the same number of lines: train.xx has 0, train.yy has 400; line i must "
     "be the translation of line i (one ends before line 1)"),
    ("two empty files", {"train.xx": "", "train.yy": ""}, "train toy.yaml", 3,
     "data.train: no training pair is left: the files are empty; give text, one sentence a line"),
    ("an empty validation set", {"valid.xx": "", "valid.yy": ""}, "train toy.yaml", 3,
     "data.valid: valid.xx is empty; give pairs, or leave data.valid out"),
    ("one pair", {"train.xx": "ar\n", "train.yy": "zar\n", **config(VALID, "")}, "train toy.yaml", 3,
     "data.train: 1 different pairs are too few to hold out valid; give more text, or files for valid"),
    ("the same pair again and again", {"train.xx": "ar mako\n" * 400, "train.yy": "zar okamn\n" * 400},
     "train toy.yaml", 3,
     "tokenizer.vocab_size: 310 is more than this text has pieces for (training pairs: 1); leave it out, or lower "
     "it: the maximum is 268"),
    ("one side is blank", {"train.yy": "\n" * 400}, "train toy.yaml", 3,
     "data.train: no training pair is left: 400 empty (such as train.xx:1); give text on both sides"),
    ("one side of validation is blank", {"valid.yy": "\n" * 10}, "train toy.yaml", 3,
     "data.valid: no pair has text on both sides; give other text"),
    ("one file for both sides", config("train.yy", "train.xx"), "train toy.yaml", 3,
     "data.train: no training pair is left: 400 copies (such as train.xx:1); source and target are the same, give the "
     "translations"),
    ("ja for English text", {"train.xx": ENGLISH, "train.yy": GERMAN, **config("source: xx, target: yy",
     "source: ja, target: de")}, "train toy.yaml", 3,
     "data.train: no training pair is left: 400 script (such as train.xx:1); a side is not in its language's script, "
     "check languages and which file is which"),
    ("tabs are missing", {"a.tsv": "ar zar\n", **data("{tsv: a.tsv}")}, "train toy.yaml", 3,
     "data.train: a.tsv:1: has 1 of the 2 columns asked for; fields are separated by tabs, one pair a line"),
    ("a column beyond the last", {"a.tsv": "ar\tzar\n", **data("{tsv: a.tsv, columns: [1, 3]}")}, "train toy.yaml", 3,
     "data.train: a.tsv:1: has 2 of the 3 columns asked for; fields are separated by tabs, one pair a line"),
    ("text for JSON", data("{jsonl: train.xx}"), "train toy.yaml", 3,
     'data.train: train.xx:1: not JSON; expected one object a line, such as {"xx": "text", "yy": "text"}'),
    ("an array for JSON lines", {"a.json": '[{"xx": "ar"},\n', **data("{jsonl: a.json}")}, "train toy.yaml", 3,
     'data.train: a.json:1: not JSON; expected one object a line, such as {"xx": "text", "yy": "text"}'),
    ("JSON without the column", {"a.json": '{"de": "ar", "en": "zar"}\n', **data("{jsonl: a.json}")},
     "train toy.yaml", 3,
     "data.train: a.json:1: no text in column 'xx'; columns are de, en; choose with 'columns'"),
    ("text in Latin-1", {"train.xx": "ar\nmäko\n".encode("latin-1")}, "train toy.yaml", 3,
     "data.train: train.xx:2: not UTF-8 (byte 0xE4); convert it: iconv -f cp1252 -t utf-8 OLD > NEW"),
    ("text in Latin-1 to translate", {"in.xx": "ar\nmäko\n".encode("latin-1")}, "translate run in.xx", 3,
     "in.xx:2: not UTF-8 (byte 0xE4); convert it: iconv -f cp1252 -t utf-8 OLD > NEW"),
    ("text in UTF-16", {"train.xx": "ar\nel\n".encode("utf-16")}, "train toy.yaml", 3,
     "data.train: train.xx:1: contains a NUL character, so it is no plain text; is it UTF-16? Convert it to UTF-8"),
    ("a NUL character", {"train.xx": "ar\na\0r\n"}, "train toy.yaml", 3,
     "data.train: train.xx:2: contains a NUL character, so it is no plain text; is it UTF-16? Convert it to UTF-8"),
    ("a compressed file that was cut short", {"train.xx": CUT}, "train toy.yaml", 3,
     "data.train: train.xx: the compressed file is damaged after line …; copy it again"),
    ("a damaged Parquet file", {"a.parquet": b"PAR1" * 9, **data("{parquet: a.parquet}")}, "train toy.yaml", 3,
     "data.train: a.parquet: cannot be loaded: …; check that it is Parquet, and copy it again"),
    ("too large a vocabulary", config("310", "30000"), "train toy.yaml", 3,
     "tokenizer.vocab_size: 30000 is more than this text has pieces for (training pairs: 400); leave it out, or lower "
     "it: the maximum is 319"),
    ("too small a vocabulary", config("310", "100"), "train toy.yaml", 2,
     "tokenizer.vocab_size: 100 is too small for this text; set 281 or more"),
    ("translations of other lines to score", {"in.xx": "ar\nel\n", "in.yy": "zar\n"}, "score run in.xx in.yy", 3,
     "the files do not have the same number of lines: in.xx has 2, in.yy has 1; line i must be the translation of "
     "line i (one ends before line 2)"),
    ("references of other lines", {"in.xx": "ar\nel\n", "in.yy": "zar\n"}, "eval run in.xx in.yy", 3,
     "the files do not have the same number of lines: in.xx has 2, in.yy has 1; line i must be the translation of "
     "line i (one ends before line 2)"),
    ("nothing to score", {"in.xx": "", "in.yy": ""}, "eval run in.xx in.yy", 3,
     "in.xx: is empty; give lines to translate"),
]  # fmt: skip

RUNS: list[Mistake] = [
    ("a run in the way", {}, "train toy.yaml --set run_dir=run", 2,
     "run: already holds a run; --resume goes on with it, --overwrite starts anew"),
    ("a folder of something else", {"texts/a": ""}, "train toy.yaml --set run_dir=texts", 2,
     "texts: not empty, and not a run (it holds a); choose another run_dir"),
    ("a folder of something else, with --overwrite", {"texts/a": ""},
     "train toy.yaml --set run_dir=texts --overwrite", 2,
     "texts: not empty, and not a run (it holds a); choose another run_dir"),
    ("a file for a run", {}, "train toy.yaml --set run_dir=train.xx", 2,
     "train.xx: run_dir is a file; choose another run_dir"),
    ("a run below a file", {}, "train toy.yaml --set run_dir=train.xx/run", 6,
     "train.xx/run: Not a directory; a file is in the way, choose another"),
    ("--resume and --overwrite", {}, "train run --resume --overwrite", 2,
     "--resume --overwrite: one goes on with a run, the other deletes it; choose one"),
    ("another model on --resume", {}, "train run --resume --set model.layers=2", 4,
     "run: cannot resume with other settings: model.layers is 2 but was 1; to go on as it was started: mt train run "
     "--resume"),
    ("other text on --resume", {"train.xx": "ar\n", "train.yy": "zar\n"},
     "train run --resume --set 'data.train={source: train.xx, target: train.yy}'", 4,
     "run: the run was started with other data or tokenizer (data.train differ); train in another run_dir, or start "
     "anew with --overwrite"),
    ("--overwrite with a mistake", {}, "train run --overwrite --set tokenizer.vocab_size=30000", 3,
     "tokenizer.vocab_size: 30000 is more than this text has pieces for (training pairs: 400); leave it out, or lower "
     "it: the maximum is 319"),
    ("--resume of a run that is not there", {}, "train runs/mine --resume", 2,
     "runs/mine: no such file, for there is no folder runs; check the path"),
    ("start from what is not there", {}, "train toy.yaml --set training.start_from=nowhere", 2,
     "toy.yaml: training.start_from: nowhere: no such file; check the path"),
    ("start from a folder that is no run", {"texts/": ""}, "train toy.yaml --set training.start_from=texts", 2,
     "toy.yaml: training.start_from: texts: a folder without config.yaml; give a YAML file or a run directory"),
    ("another model than that to start from", {},
     "train toy.yaml --set training.start_from=run --set model.layers=2", 2,
     "training.start_from: run has another model: model.layers is 2, there 1; leave them out to get that run's own"),
    ("another size than the tokenizer's", {}, "train toy.yaml --set 'tokenizer={from: run, vocab_size: 400}'", 2,
     "toy.yaml: tokenizer.vocab_size: a tokenizer taken from run has 310; leave it out"),
    ("translate before training", {}, "translate toy.yaml test.xx", 2,
     "new/checkpoints: no checkpoint 'best' yet; train first"),
    ("average before training", {}, "average toy.yaml", 2,
     "new/checkpoints: no checkpoint 'last' yet; train first"),
    ("a run that is not there", {}, "translate runs/mine test.xx", 2,
     "runs/mine: no such file, for there is no folder runs; check the path"),
    ("the name of a run is misspelt", {}, "translate rum test.xx", 2,
     "rum: no such file; did you mean run?"),
    ("the folder of checkpoints for a run", {}, "translate run/checkpoints test.xx", 2,
     "run/checkpoints: a folder without config.yaml; give a YAML file or a run directory"),
    ("a checkpoint that is not there", {}, "translate run test.xx --checkpoint step-9", 2,
     "run/checkpoints: no checkpoint 'step-9'; choose one of step-…, step-000060"),
    ("the path of a checkpoint", {}, "translate run test.xx --checkpoint run/checkpoints/step-000020", 2,
     "run/checkpoints: no checkpoint 'run/checkpoints/step-000020'; choose one of step-…, step-000060"),
    ("another model to translate with", {}, "translate run test.xx --set model.layers=3", 4,
     "step-0000…: does not fit the configured model: model.layers is 3 but was 1; use the run's own settings"),
    ("more translations than the beam holds", {}, "translate run test.xx --nbest 9", 2,
     "--nbest 9: more than decoding.beam_size 3; ask for fewer"),
    ("eval without references", {}, "eval run test.xx", 2,
     "test.xx: has no REFERENCE to be compared with; give one, or use mt translate"),
    ("eval of the training set", {}, "eval run --split train", 2,
     "--split train: unknown; expected test, valid or one of several sets, as test.NAME"),
    ("eval of a set that is not there", {}, "eval run --split test.news", 2,
     "--split test.news: the run has no such set; choose from test"),
    ("eval of files and of a set", {}, "eval run test.xx test.yy --split valid", 2,
     "--split valid: does not go with files; leave one of them out"),
    ("eval of another test set", {}, "eval run --set 'data.test={source: train.xx, target: train.yy}'", 2,
     "data.test: differs from the run's own, which is what would be scored; score other files with mt eval RUN SOURCE "
     "REFERENCE"),
]  # fmt: skip

COMMANDS: list[Mistake] = [
    ("a misspelt command", {}, "trian toy.yaml", 2,
     "mt: no such command 'trian'; did you mean 'train'?"),
    ("an unknown command", {}, "fly", 2,
     "mt: no such command 'fly'; see mt --help"),
    ("no command", {}, "toy.yaml", 2,
     "mt: no such command 'toy.yaml'; see mt --help"),
    ("a misspelt option", {}, "train toy.yaml --resum", 2,
     "mt train: no such option: --resum (Possible options: --resume); see mt train --help"),
    ("an option before the command", {}, "--set seed=1 train toy.yaml", 2,
     "mt: no such option: --set; see mt --help"),
    ("an argument is missing", {}, "train", 2,
     "mt train: missing argument 'CONFIG'; see mt train --help"),
    ("one text to score", {}, "score run test.xx", 2,
     "mt score: missing argument 'TARGET'; see mt score --help"),
    ("init of one text", {}, "init train.xx train.xx", 2,
     "train.xx: is given as source and as target; give the file of each language"),
    ("init of unknown languages", {}, "init train.xx train.yy", 2,
     "train.xx: neither its name nor its text tells the language; give both with --languages, such as de-en"),
    ("init with names of languages", {}, "init train.xx train.yy --languages german-english", 2,
     "--languages german-english: not two language codes; write them as in --languages de-en"),
    ("init over a configuration", {}, "init train.xx train.yy --languages xx-yy --output toy.yaml", 2,
     "toy.yaml: exists already; choose another --output, or replace it with --overwrite"),
    ("init over a text", {}, "init train.xx train.yy --languages xx-yy --output train.yy --overwrite", 2,
     "--output train.yy: is one of the texts; choose another name"),
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a configuration, its text and a trained run."""
    write_toy_text(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "toy.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(changes: Changes) -> None:
    for name, change in changes.items():
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        elif isinstance(change, tuple):
            text = path.read_text(encoding="utf-8")
            assert text.count(change[0]) == 1
            path.write_text(text.replace(*change), encoding="utf-8")
        else:
            path.write_bytes(change.encode() if isinstance(change, str) else change)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock of a run, which is not its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("changes", "command", "code", "line"),
    [
        pytest.param(*mistake[1:], id=f"{number:03} {mistake[0]}")
        for number, mistake in enumerate(PATHS + VALUES + KEYS + TEXT + RUNS + COMMANDS, start=1)
    ],
)
def test_a_mistake_is_told_in_one_line(
    mt: Mt, here: Path, changes: Changes, command: str, code: int, line: str
) -> None:
    make(changes)
    before = contents(here)
    result = mt(*shlex.split(command))
    told = [said.replace(f"{here}/", "") for said in result.errors]
    pattern = re.sub(r"([\[?*])", r"[\1]", f"error: {line}").replace("…", "*")
    assert len(told) == 1, result.err
    assert fnmatch.fnmatchcase(told[0], pattern), f"{told[0]}\n{pattern}"
    assert (result.code, result.out) == (code, "")
    assert result.err.endswith(f"{result.errors[0]}\n")
    before.pop("run/exit.json", None)  # which may tell of it
    assert before.items() <= contents(here).items()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(mt: Mt, here: Path) -> None:
    result = mt("train", "toy.yaml", "--set", "device=cuda")
    assert (result.code, result.err) == (
        2,
        "error: device: cuda is not available on this machine; choose auto or cpu\n",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize(
    ("name", "mode", "command", "code", "line"),
    [
        ("train.xx", 0o000, "train toy.yaml", 3,
         "data.train: train.xx: cannot be read: Permission denied; check its permissions"),
        ("toy.yaml", 0o000, "train toy.yaml", 2, "toy.yaml: cannot be read: Permission denied; check its permissions"),
        (".", 0o500, "train toy.yaml", 6, "new: Permission denied; check its permissions"),
        (".", 0o500, "translate run test.xx --output out", 6, "out: Permission denied; check its permissions"),
    ],
)  # fmt: skip
def test_what_is_not_permitted(mt: Mt, here: Path, name: str, mode: int, command: str, code: int, line: str) -> None:
    (here / name).chmod(mode)
    try:
        result = mt(*shlex.split(command))
    finally:
        (here / name).chmod(0o700)
    assert (result.code, result.err.replace(f"{here}/", "")) == (code, f"error: {line}\n")


def test_a_library_that_memory_does_not_suffice_for(mt: Mt, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr("transformer_mt.config_file.load_config", fail)
    result = mt("train", "toy.yaml")
    assert (result.code, len(result.errors)) == (6, 1)
    assert result.errors[0].startswith("error: out of memory; ")


def test_a_byte_order_mark_and_windows_line_ends_give_the_same_ids(mt: Mt, here: Path) -> None:
    ids = []
    for run in ("clean", "windows"):
        assert mt("tokenize", "toy.yaml", "--set", f"run_dir={run}").code == 0
        ids.append([(here / run / f"data/train.{side}.ids.npy").read_bytes() for side in ("source", "target")])
        for path in (here / "train.xx", here / "train.yy"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert ids[0] == ids[1]


def test_a_vocabulary_that_is_not_set_is_as_large_as_the_text_allows(mt: Mt, here: Path) -> None:
    make(config("tokenizer: {vocab_size: 310}\n", ""))
    assert mt("tokenize", "toy.yaml").code == 0
    assert Tokenizer.load(here / "new" / "tokenizer").source_size == 319


LEAK = (
    " training pairs are in the validation or test set, too: scores will flatter; to drop them, add leaks to data.drop"
)


@pytest.mark.parametrize(
    ("changes", "command", "line"),
    [
        (config("source: valid.xx, target: valid.yy", "source: train.xx, target: train.yy"), "train toy.yaml",
         f"400{LEAK}"),
        (config("source: test.xx, target: test.yy", "source: train.xx, target: train.yy"), "train toy.yaml",
         f"400{LEAK}"),
        ({"train.en": GERMAN, "train.de": ENGLISH}, "init train.en train.de",
         "train.en looks like de, and train.de like en; are they swapped?"),
    ],
    ids=["validation on training text", "test on training text", "init of exchanged files"],
)  # fmt: skip
def test_what_may_be_a_mistake_is_a_warning(mt: Mt, here: Path, changes: Changes, command: str, line: str) -> None:
    make(changes)
    before = contents(here)
    result = mt(*shlex.split(command))
    assert (result.code, result.out) == (0, "")
    assert [said for said in result.err.split("\n") if said.startswith("warning:")] == [f"warning: {line}"]
    before.pop("run/exit.json", None)  # which may tell of it
    assert before.items() <= contents(here).items()


@pytest.fixture
def short_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight of ``mt check`` in this process, and short."""

    def fly(config: Config) -> preflight.Preflight:
        with tempfile.TemporaryDirectory(dir=config.run_dir) as scratch:
            return check._fly(config, Path(scratch))

    monkeypatch.setattr(check, "_fly_apart", fly)
    for name, value in (("_WARM_STEPS", 1), ("_STEPS", 1), ("_SECONDS", 0.0)):
        monkeypatch.setattr(preflight, name, value)


def shifted(lines: list[str]) -> str:
    """The lines with one too many in their midst, and without the last."""
    return "\n".join([*lines[:50], "zar", *lines[50:-1], ""])


def problems(output: str, here: Path) -> list[str]:
    lines = (line.strip().replace(f"{here}/", "") for line in output.split("\n"))
    return [line for line in lines if line.startswith("problem: ")]


def test_mt_check_says_that_lines_are_shifted_or_files_exchanged(mt: Mt, short_check: None, here: Path) -> None:
    lines = Path("train.yy").read_text(encoding="utf-8").splitlines()
    Path("train.yy").write_text(shifted(lines), encoding="utf-8")
    result = mt("check", "toy.yaml")
    assert (result.code, len(result.errors)) == (3, 1)
    [shift] = problems(result.out, here)
    assert shift.startswith("problem: train.yy:51-400: 350 lines of train.xx fit better with the target 1 line later ")
    make({"a.en": GERMAN, "a.de": ENGLISH, **config("source: xx, target: yy", "source: en, target: de")})
    result = mt("check", "toy.yaml", "--set", "data={train: {source: a.en, target: a.de}}")
    assert (result.code, len(result.errors)) == (3, 1)
    assert problems(result.out, here) == [
        "problem: a.en: looks like de, and a.de like en, as if the files were exchanged; exchange source and target in "
        "data, or in languages"
    ]
