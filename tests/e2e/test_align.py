"""``mt align``: a sentence as matrix, JSON or picture; files as links; the error rate of every layer and head."""

import builtins
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mt, failed, toy_pairs, toy_tree, write_lines

PAIRS = toy_pairs(8, seed=3)
SENTENCE, TRANSLATION = PAIRS[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Text with an empty line; word i of a source is the translation of word i from the end, which is the gold."""
    folder = tmp_path_factory.mktemp("align")
    sources, targets = map(list, zip(*PAIRS, ("", ""), strict=True))
    gold = [" ".join(f"{n}-{len(s.split()) - 1 - n}" for n in range(len(s.split()))) for s in sources]
    return {
        name: write_lines(folder / name, lines)
        for name, lines in (("source", sources), ("target", targets), ("gold", gold))
    }


def test_a_sentence_is_translated_and_shown(mt: Mt, tiny_run: Path) -> None:
    result = mt("align", tiny_run, SENTENCE)
    assert result.code == 0, result.err
    header, *rows, legend = result.out.splitlines()
    assert header.split() == SENTENCE.split()
    assert [row.split()[0] for row in rows] == mt("translate", tiny_run, stdin=SENTENCE).out.split()
    assert legend.startswith("layer 1, all heads: ░ from 5%")
    assert "\x1b" not in result.out and not result.err


def test_a_given_translation_is_shown_with_the_head_asked_for(mt: Mt, tiny_run: Path) -> None:
    result = mt("align", tiny_run, SENTENCE, "--target", TRANSLATION, "--layer", 1, "--head", 2)
    assert result.code == 0, result.err
    _, *rows, legend = result.out.splitlines()
    assert [row.split()[0] for row in rows] == TRANSLATION.split()
    assert legend.startswith("layer 1, head 2: ")


def test_json_has_the_weights_of_all_layers_and_heads(mt: Mt, tiny_run: Path) -> None:
    result = mt("align", tiny_run, SENTENCE, "--target", TRANSLATION, "--json")
    answer = json.loads(result.out)
    assert answer["source"] == SENTENCE.split() and answer["target"] == TRANSLATION.split()
    [layer] = answer["weights"]
    assert len(layer) == 2
    for head in layer:
        assert [len(row) for row in head] == [len(answer["source"])] * len(answer["target"])
        assert all(0 <= weight <= 1 for row in head for weight in row) and all(sum(row) <= 1.001 for row in head)


def test_pieces_are_shown_when_asked_for(mt: Mt, tiny_run: Path) -> None:
    answer = json.loads(mt("align", tiny_run, SENTENCE, "--target", TRANSLATION, "--json", "--pieces").out)
    for side, text in (("source", SENTENCE), ("target", TRANSLATION)):
        assert "".join(answer[side]).replace("▁", " ").strip() == text
        assert len(answer[side]) > len(text.split())


def test_a_file_gives_a_line_of_links_a_line(mt: Mt, tiny_run: Path, files: dict[str, Path]) -> None:
    result = mt("align", tiny_run, "--source-file", files["source"], "--target-file", files["target"])
    assert result.code == 0, result.err
    lines = result.out.split("\n")[:-1]
    assert len(lines) == len(PAIRS) + 1 and lines[-1] == ""
    for line, (source, target) in zip(lines, PAIRS, strict=False):
        found = [tuple(map(int, item.split("-"))) for item in line.split()]
        assert [t for _, t in found] == list(range(len(target.split())))
        assert all(0 <= s < len(source.split()) for s, _ in found)


def test_a_file_alone_is_translated(mt: Mt, tiny_run: Path, files: dict[str, Path], tmp_path: Path) -> None:
    translated = tmp_path / "translated"
    translated.write_text(mt("translate", tiny_run, files["source"]).out, encoding="utf-8")
    ours = mt("align", tiny_run, "--source-file", files["source"])
    theirs = mt("align", tiny_run, "--source-file", files["source"], "--target-file", translated)
    assert ours.out == theirs.out and ours.out.count("\n") == len(PAIRS) + 1


def test_a_file_as_json_has_an_object_a_line(mt: Mt, tiny_run: Path, files: dict[str, Path]) -> None:
    result = mt("align", tiny_run, "--source-file", files["source"], "--target-file", files["target"], "--json")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [" ".join(answer["source"]) for answer in answers] == [*(source for source, _ in PAIRS), ""]


def test_the_error_rate_is_that_of_the_links(mt: Mt, tiny_run: Path, files: dict[str, Path]) -> None:
    """Each figure of the table is what the links of that head, printed as Pharaoh's, give when they are counted."""
    texts = ("--source-file", files["source"], "--target-file", files["target"])
    result = mt("align", tiny_run, *texts, "--gold", files["gold"], "--head", 2)
    assert result.code == 0, result.err
    title, columns, row, chosen = result.out.splitlines()
    assert title == "alignment error rate, 9 pairs"
    assert re.split(" {2,}", columns.strip()) == ["head 1", "head 2", "all heads"]
    rates = [float(rate) for rate in re.findall(r"\d\.\d{3}", row)]
    for rate, view in zip(rates, (["--head", 1], ["--head", 2], []), strict=True):
        links = mt("align", tiny_run, *texts, *view).out.splitlines()
        pairs = [
            (set(ours.split()), set(true.split()))
            for ours, true in zip(links, files["gold"].read_text().splitlines(), strict=True)
        ]
        common = sum(len(ours & true) for ours, true in pairs)
        assert rate == pytest.approx(1 - 2 * common / sum(len(ours) + len(true) for ours, true in pairs), abs=6e-4)
    assert float(row.split("*")[1].split()[0]) == min(rates)
    assert chosen == f"layer 1, head 2: {rates[1]:.3f}"


def train_recurrent(mt: Mt, toy_text: Path, folder: Path, attention: str) -> Path:
    """The directory of a run of two steps."""
    tree = toy_tree(toy_text, folder / "run", training={"max_steps": 2, "validate_every": 2, "save_every": 2})
    tree["model"] = {"kind": "recurrent", "width": 32, "attention": attention}
    config = folder / "config.yaml"
    config.write_text(json.dumps(tree), encoding="utf-8")
    result = mt("train", config)
    assert result.code == 0, result.err
    return folder / "run"


def test_a_recurrent_model_has_one_layer_and_head(mt: Mt, toy_text: Path, tmp_path: Path) -> None:
    train_recurrent(mt, toy_text, tmp_path, "soft")
    answer = json.loads(mt("align", tmp_path / "run", SENTENCE, "--target", TRANSLATION, "--json").out)
    assert len(answer["weights"]) == len(answer["weights"][0]) == 1
    failed(mt("align", tmp_path / "run", SENTENCE, "--head", 2), 2, "--head 2: the model has only 1; leave it out")


def test_a_model_without_attention_has_nothing_to_show(mt: Mt, toy_text: Path, tmp_path: Path) -> None:
    train_recurrent(mt, toy_text, tmp_path, "none")
    failed(mt("align", tmp_path / "run", SENTENCE), 2, "model.attention: none")
    failed(mt("align", tmp_path / "run", "--source-file", toy_text / "test.xx"), 2, "model.attention: none")


WORDS = "我们 学生 図書館で 本を המורה قرأت école"  # of what scripts, the model does not care


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_of_any_script(mt: Mt, tiny_run: Path, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"picture.{ending}"
    result = mt("align", tiny_run, WORDS, "--target", f"{WORDS} $1 $2 <&>", "--output", picture)
    assert result.code == 0, result.err
    assert result.out == "" and result.err.endswith(f"drawn in {picture}\n")
    if ending == "png":
        assert picture.read_bytes().startswith(b"\x89PNG")
        return
    texts = [element.text for element in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    for word in WORDS.split():
        assert texts.count(word) == 2
    assert {"$1", "$2", "<&>", "layer 1, all heads"} <= set(texts)


def test_characters_that_no_font_has_are_told_once(mt: Mt, tiny_run: Path, tmp_path: Path) -> None:
    """U+10FFFD, of private use, is in none; the picture is drawn all the same, and an SVG leaves it to the viewer."""
    pytest.importorskip("matplotlib")
    odd, picture = "\U0010fffd", tmp_path / "odd.png"
    result = mt("align", tiny_run, f"{odd} mako {odd}", "--target", "\x1b[1m \x07 mako", "--output", picture)
    assert result.code == 0 and picture.read_bytes().startswith(b"\x89PNG")
    assert result.err.count("warning: ") == 1 and f"no installed font has {odd};" in result.err
    svg = mt("align", tiny_run, f"{odd} mako", "--target", "\x1b[1m \x07 mako", "--output", tmp_path / "odd.svg")
    assert svg.code == 0 and "warning" not in svg.err
    ElementTree.parse(tmp_path / "odd.svg")  # control characters would not be XML


def test_without_matplotlib_one_line_says_what_to_install(
    mt: Mt, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    result = mt("align", tiny_run, SENTENCE, "--output", tmp_path / "x.png")
    failed(result, 2, "x.png: pictures need Matplotlib", "pip install 'transformer_mt[viz]'")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "give a sentence or a file"),
        (["mako", "--source-file", "SOURCE"], 2, "give a sentence or a file"),
        (["--source-file", "SOURCE", "--target", "okam"], 2, "--target okam: goes with a SENTENCE"),
        (["--source-file", "SOURCE", "--output", "x.png"], 2, "--output x.png: goes with a SENTENCE"),
        (["mako", "--target-file", "TARGET"], 2, "goes with --source-file"),
        (["mako", "--gold", "GOLD"], 2, "goes with --source-file"),
        (["--source-file", "SOURCE", "--gold", "GOLD"], 2, "add --target-file"),
        (["mako", "--json", "--head", "1"], 2, "--json: gives all layers and heads"),
        (["mako", "--output", "x.gif"], 2, "expected .png or .svg"),
        (["mako", "--output", "nowhere/x.png"], 6, "no folder nowhere"),
        (["mako", "--layer", "2"], 2, "--layer 2: the model has only 1; leave it out"),
        (["mako", "--head", "3"], 2, "--head 3: the model has only 2; choose from 1 to 2"),
        (["mako", "--head", "0"], 2, "--head"),
        ([""], 3, "no words"),
        (["mako", "--target", " "], 3, "no words"),
        (["--source-file", "none"], 3, "none: no such file"),
        (["--source-file", "SOURCE", "--target-file", "SHORT"], 3, "do not have the same number of lines"),
        (["--source-file", "SOURCE", "--target-file", "TARGET", "--gold", "FAR"], 3, "far:2: 0-99 links words"),
        (["--source-file", "SOURCE", "--target-file", "TARGET", "--gold", "ODD"], 3, "odd:1: '1:2' is no link"),
    ],
)
def test_mistakes(
    mt: Mt,
    tiny_run: Path,
    files: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    rest = [""] * (len(PAIRS) - 1)
    more = {
        "short": write_lines(tmp_path / "short", ["okam"]),
        "far": write_lines(tmp_path / "far", ["0-0", "0-99", *rest]),
        "odd": write_lines(tmp_path / "odd", ["1:2", "", *rest]),
    }
    paths = {name.upper(): str(path) for name, path in {**files, **more}.items()}
    failed(mt("align", tiny_run, *(paths.get(argument, argument) for argument in arguments)), code, words)
