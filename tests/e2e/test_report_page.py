"""``mt report`` tells what the other commands tell, and its page works in a real browser without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, browsing, chromium
from tests.conftest import Mt, failed
from tests.reports import told_by, weights_of
from transformer_mt.config_file import load_config
from transformer_mt.report.page import page


@pytest.fixture(scope="module")
def run(tiny_run: Path, mt: Mt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report."""
    run = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(tiny_run, run)
    result = mt("report", run)
    assert result.code == 0, result.err
    assert (result.out, result.err.splitlines()[-1]) == ("", f"the report is in {run / 'report.html'}")
    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Browser]]:
    """Open a page and wait until it is drawn; in the end it has asked for nothing else and has not complained."""
    pages = []

    def open_page(path: Path, width: int = 1100, drawn: str = ".matrix svg") -> Browser:
        pages.append(path.as_uri())
        browser.open(path, width)
        browser.until(f"document.querySelector('{drawn}') !== null")
        return browser

    browser.requests.clear()
    browser.complaints.clear()
    yield open_page
    browser.value("new Promise(resolve => setTimeout(resolve, 100))")
    assert browser.requests == pages
    assert browser.complaints == []


def test_it_tells_what_the_run_says_of_itself(run: Path, mt: Mt, tmp_path: Path) -> None:
    told = told_by(run / "report.html")
    assert mt("eval", run, "--json", tmp_path / "scores.json").code == 0
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    for metric in ("bleu", "chrf", "ter"):
        assert told["sets"]["test"][metric] == scores[metric]
    assert {"bleu", "chrf"} <= told["sets"]["test"]["confidence"].keys()
    assert told["checkpoint"] == scores["checkpoint"]
    written = dict(enumerate((run / "eval" / "test.hyp").read_text(encoding="utf-8").splitlines(), start=1))
    assert {s["line"]: s["translation"] for s in told["sentences"]} == written
    assert [e["step"] for e in told["curves"]["train"]] == [10, 20, 30, 40, 50, 60]
    assert [e["step"] for e in told["curves"]["valid"]] == [30, 60]
    for bands in told["bands"].values():
        assert sum(band["sentences"] for band in bands) == len(written)
    training, text, this = (dict(rows) for rows in told["provenance"].values())
    manifest = json.loads((run / "data" / "manifest.json").read_text(encoding="utf-8"))
    for key, file in manifest["fingerprint"]["files"].items():
        assert text[f"SHA-256 of {key}"].startswith(file["sha256"])
    assert training["seed"] == "1"
    assert told["config"] == load_config(run).to_yaml()
    assert {"torch", "sentencepiece", "sacrebleu", "Python", "command"} <= this.keys()


def test_validation_text_takes_the_place_of_a_missing_test_set(run: Path, mt: Mt, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for path in (tmp_path / "run" / "data").glob("test.*"):
        path.unlink()
    result = mt("report", tmp_path / "run", "--output", tmp_path / "other.html")
    assert result.code == 0, result.err
    assert list(told_by(tmp_path / "other.html")["sets"]) == ["valid"]


def test_a_model_without_attention_has_a_report_without_maps(
    toy_text: Path, toy_config: Callable[..., Path], mt: Mt
) -> None:
    """And of several test sets, one with two references, all are scored and the first is looked into."""
    files = {side: str(toy_text / f"test.{side}") for side in ("xx", "yy")}
    test = {
        "first": {"source": files["xx"], "target": [files["yy"], files["xx"]]},
        "second": {"source": str(toy_text / "valid.xx"), "target": str(toy_text / "valid.yy")},
    }
    config = toy_config(data={"test": test}, training={"max_steps": 20})
    assert mt("train", config, "--set", "model={kind: recurrent, attention: none, width: 32}").code == 0
    run = config.parent / "run"
    result = mt("report", run)
    assert result.code == 0, result.err
    told = told_by(run / "report.html")
    assert list(told["sets"]) == ["test.first", "test.second"]
    assert all(s["references"][1] == s["source"] for s in told["sentences"])
    assert "attention" in told["no_maps"]
    assert not any("map" in sentence for sentence in told["sentences"])


def test_mistakes_are_told_before_the_work(run: Path, mt: Mt, toy_config: Callable[..., Path]) -> None:
    failed(mt("report", run, "--output", run / "no" / "report.html"), 6, "no folder")
    failed(mt("report", run, "--checkpoint", "step-7"), 2, "step-7")
    failed(mt("report", toy_config()), 2, "no checkpoint 'best' yet")


# ------------------------------------------------------------------------------------------------ in a browser


CHIPS = "[...document.querySelectorAll('.words [data-side={}]')]"
SHOWN = CHIPS + ".map(chip => chip.dataset.weight ?? null)"


def choose(browser: Browser, **values: str) -> None:
    """Choose in the tools of the page, as people do."""
    for name, value in values.items():
        browser.value(
            f"(() => {{ const select = document.querySelector('[name={name}]'); select.value = '{value}'; "
            "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )


def as_shown(weights: Any) -> list[str]:
    """Weights as words have them below."""
    return [f"{weight:.2f}" if weight >= 0.005 else "" for weight in weights.tolist()]


def test_a_word_that_is_pointed_at_shows_the_weights_of_layer_and_head(
    run: Path, opened: Callable[..., Browser]
) -> None:
    worst = min(told_by(run / "report.html")["sentences"], key=lambda s: float(s["chrf"]))["map"]
    weights = weights_of(worst) / 255  # [L, H, T, S]
    browser = opened(run / "report.html")
    assert browser.value(SHOWN.format("source")) == [None] * len(worst["source"])

    browser.hover(CHIPS.format("target") + "[1]")
    browser.until("document.querySelectorAll('.words.told').length === 1")
    assert browser.value(SHOWN.format("source")) == as_shown(weights.mean((0, 1))[1])
    assert worst["target"][1] in browser.value("document.querySelector('.readout').textContent")
    assert browser.value("document.querySelector('.frame').getAttribute('visibility')") == "visible"

    choose(browser, layer="0", head="1")
    browser.hover(CHIPS.format("target") + "[0]")
    browser.until(f"{CHIPS.format('target')}[0].matches('.chosen')")
    assert browser.value(SHOWN.format("source")) == as_shown(weights[0, 1, 0])

    browser.hover(CHIPS.format("source") + "[0]")
    browser.until(f"{CHIPS.format('source')}[0].matches('.chosen')")
    assert browser.value(SHOWN.format("target")) == as_shown(weights[0, 1, :, 0])

    browser.hover("document.querySelector('.matrix text[data-side=target]')")
    browser.until(f"{CHIPS.format('target')}[0].matches('.chosen')")
    assert browser.value(SHOWN.format("source")) == as_shown(weights[0, 1, 0])


def test_curves_tell_their_values_where_they_are_pointed_at(run: Path, opened: Callable[..., Browser]) -> None:
    browser = opened(run / "report.html")
    legend = "document.querySelector('#curves .legend').textContent"
    assert "step 60" in browser.value(legend)
    browser.hover("document.querySelector('#curves svg')")
    browser.until(f"{legend}.endsWith('step 30')")
    told = told_by(run / "report.html")["curves"]
    for value in (told["train"][2]["loss"], told["train"][2]["nll"], told["valid"][0]["nll"]):
        assert f"{value:.3f}" in browser.value(legend)


def test_sentences_are_found_by_group_and_text(run: Path, opened: Callable[..., Browser]) -> None:
    sentences = told_by(run / "report.html")["sentences"]
    browser = opened(run / "report.html")
    shown = "[...document.querySelectorAll('article dd[lang=xx]')].map(source => source.textContent)"
    choose(browser, group="best")
    best = [s["source"] for s in sentences if "best" in s["flags"]]
    assert browser.value(shown) == best
    choose(browser, group="")
    assert len(browser.value(shown)) == len(sentences)
    word = sentences[0]["source"].split()[0]
    browser.value(f"document.querySelector('[name=search]').value = '{word.upper()}'")
    browser.value("document.querySelector('[name=search]').dispatchEvent(new Event('input'))")
    matching = [s for s in sentences if any(word in text for text in (s["source"], s["translation"], *s["references"]))]
    assert sorted(browser.value(shown)) == sorted(s["source"] for s in matching)


EVIL = "</script ><img src=x onerror=\"document.title='caught'\"><script >document.title='caught'</script><!-- $run"


def test_text_is_text_whatever_it_says(run: Path, opened: Callable[..., Browser], tmp_path: Path) -> None:
    told = told_by(run / "report.html")
    told["run"] = told["config"] = told["languages"]["source"] = EVIL
    told["provenance"]["Text"] = [[EVIL, EVIL]]
    for sentence in told["sentences"]:
        sentence.update(source=EVIL, translation=EVIL, references=[EVIL], rarest=EVIL)
        sentence["map"].update({side: [EVIL] * len(sentence["map"][side]) for side in ("source", "target")})
    (tmp_path / "evil.html").write_text(page(told), encoding="utf-8")
    browser = opened(tmp_path / "evil.html")
    browser.hover(CHIPS.format("target") + "[1]")
    browser.until("document.querySelectorAll('.words.told').length === 1")
    assert browser.value("document.querySelector('article dd').textContent") == EVIL
    assert browser.value("document.title") == f"{EVIL}: report"
    assert browser.value("document.images.length") == 0
    assert browser.value("document.scripts.length") == 2


def test_each_script_has_its_direction_and_a_phone_its_width(
    run: Path, opened: Callable[..., Browser], tmp_path: Path
) -> None:
    told = told_by(run / "report.html")
    told["languages"] = {"source": "zh", "target": "ar"}
    for sentence in told["sentences"]:
        sentence.update(source="老师读信。" * 20, translation="المعلم يقرأ الرسالة " * 20, references=["المعلم يقرأ"])
        sentence["map"]["source"] = ["老"] * len(sentence["map"]["source"])
        sentence["map"]["target"] = ["المعلم"] * len(sentence["map"]["target"])
    (tmp_path / "scripts.html").write_text(page(told), encoding="utf-8")
    browser = opened(tmp_path / "scripts.html", width=390)
    direction = "getComputedStyle(document.querySelector('{}')).direction"
    assert browser.value(direction.format("article dd.translation")) == "rtl"
    assert browser.value(direction.format(".words[lang=ar]")) == "rtl"
    assert browser.value(direction.format("article dd[lang=zh]")) == "ltr"
    assert browser.value("document.documentElement.scrollWidth") <= 390


def test_without_maps_the_page_says_why(run: Path, opened: Callable[..., Browser], tmp_path: Path) -> None:
    told = told_by(run / "report.html")
    told["no_maps"] = "model.attention: none"
    for sentence in told["sentences"]:
        del sentence["map"]
    (tmp_path / "none.html").write_text(page(told), encoding="utf-8")
    browser = opened(tmp_path / "none.html", drawn="article")
    assert "(model.attention: none)" in browser.value("document.querySelector('#sentences .note').textContent")
    assert browser.value("document.querySelector('article button') === null")
    assert browser.value("getComputedStyle(document.querySelector('.attention')).display") == "none"
