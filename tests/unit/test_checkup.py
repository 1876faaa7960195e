"""The numbers, the verdict and the two faces of a checkup's report."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import toy_pairs
from transformer_mt import config
from transformer_mt.checkup import preflight as flying
from transformer_mt.checkup.page import page
from transformer_mt.checkup.preflight import Preflight
from transformer_mt.checkup.report import Report
from transformer_mt.checkup.text import lines
from transformer_mt.data.advice import advise
from transformer_mt.data.coverage import Coverage
from transformer_mt.data.doctor.examination import Examination, Finding, examine
from transformer_mt.errors import ConfigError, DataError, SystemFault

EVIL = "<script>alert(1)</script> & \"quoted\" 'too' \x1b[31mred\x1b[0m"

# -- The time to the end


def settings(**values: Any) -> config.Training:
    """A step takes 1 s, with its share of validation (5 s) and saving (2 s) 1.3 s; the end takes another 7 s."""
    every: dict[str, Any] = {"validate_every": 50, "save_every": 10, "average": False, "max_steps": None}
    return config.Training(**{**every, **values})


@pytest.mark.parametrize(
    ("limits", "steps", "seconds", "reason"),
    [
        ({"max_steps": 100}, 100, 137.0, "max_steps 100"),
        ({"max_steps": 100, "average": True}, 100, 142.0, "max_steps 100"),  # and a validation of the average
        ({"max_epochs": 3}, 60, 85.0, "max_epochs 3"),
        ({"max_minutes": 1.0}, 40, 60.0, "max_minutes 1"),  # (60 - 7) / 1.3 = 40.8
        ({"max_minutes": 0.1}, 0, 6.0, "max_minutes 0.1"),  # less than the end takes
        ({"max_steps": 100, "max_epochs": 3, "max_minutes": 1.0}, 40, 60.0, "max_minutes 1"),
        ({"max_steps": 100, "max_epochs": 3, "max_minutes": 2.0}, 60, 85.0, "max_epochs 3"),
        ({"max_steps": 59, "max_epochs": 3, "max_minutes": 2.0}, 59, 83.7, "max_steps 59"),
    ],
)
def test_the_first_limit_to_come_ends_the_run(limits: dict[str, Any], steps: int, seconds: float, reason: str) -> None:
    found = flying._end(settings(**limits), 20, 1.0, 5.0, 2.0)
    assert (found[0], found[2]) == (steps, reason)
    assert found[1] == pytest.approx(seconds)


@given(st.integers(1, 10**6), st.floats(1e-4, 1e3), st.floats(0, 1e4), st.floats(0, 1e3))
def test_a_number_of_steps_is_foretold_to_the_step(steps: int, step: float, validation: float, saving: float) -> None:
    assert flying._end(settings(max_steps=steps), 20, step, validation, saving)[0] == steps


@pytest.mark.parametrize("size", [1, 10, 128, 255, 1000])
def test_a_validation_takes_as_long_as_its_set_is_large(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a sentence takes a second to translate, and the loss no time."""
    tried: list[int] = []

    def search(translator: Any, pairs: Any) -> float:
        tried.append(len(pairs))
        return float(len(pairs))

    monkeypatch.setattr(flying, "_time_search", search)
    monkeypatch.setattr(flying, "mean_nll", lambda translator, sources, targets, tokens: 0.0)
    monkeypatch.setattr(flying, "Translator", lambda *_: None)
    monkeypatch.setattr(flying, "time", SimpleNamespace(monotonic=lambda: 0.0))
    model = SimpleNamespace(eval=lambda: None, train=lambda: None)
    translator: Any = SimpleNamespace(decoding=config.Decoding(), model=model, tokenizer=None, device=None)
    assert flying._time_validation(translator, settings(max_steps=1), [("a", "b")] * size) == pytest.approx(size)
    assert 1 <= tried[0] <= flying._BATCHES * 64


@pytest.mark.parametrize(("written", "seconds"), [(11, 1.0), (5, 2.0), (2, 2.0)])
def test_search_without_end_counts_only_to_the_length_of_the_reference(
    written: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of a second each; a reference has 6 pieces with its end, a hypothesis written + 1."""
    clock = count()
    monkeypatch.setattr(flying, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    translator: Any = SimpleNamespace(
        decoding=config.Decoding(batch_size=2),
        encode=lambda lines: [[7, 7, 3] for _ in lines],
        search=lambda batch, scored: [[SimpleNamespace(ids=[9] * written)] for _ in batch],
        tokenizer=SimpleNamespace(encode_target=lambda lines: [[9] * 5 for _ in lines]),
    )
    assert flying._time_search(translator, [("a", "b")] * 3) == seconds


# -- The report


def flight(**values: Any) -> Preflight:
    usual = Preflight(
        device="cpu", precision="float32", parameters=1_250_000, memory=490_000_000, largest_batch=(98, 24, 11),
        step=0.2, bfloat16=None, tokens_per_second=4_000.0, steps_per_epoch=300, validation=3.0, saving=0.1,
        loading=0.02, sentence=0.09, checkpoint_bytes=15_000_000, disk_free=10**12, total=4_000.0,
        ends_by="max_steps 20,000", steps=20_000,
    )  # fmt: skip
    return dataclasses.replace(usual, **values)


def examination(pairs: list[tuple[str, str]], findings: list[Finding] | None = None) -> Examination:
    languages = config.Languages(source="xx", target="yy")
    found = examine([s for s, _ in pairs], [t for _, t in pairs], languages, {}, ("train.xx", "train.yy"))
    return dataclasses.replace(found, findings=findings or [])


def report(findings: list[Finding] | None = None, **values: Any) -> Report:
    """That of a corpus without fault, but for what is given."""
    files = {"source": "train.xx", "target": "train.yy"}
    settings: dict[str, Any] = {
        "languages": {"source": "xx", "target": "yy"},
        "data": {"train": files},
        "model": {"size": "tiny", "dropout": 0.3},
        "run_dir": "runs/<toy> & co",
        **values.pop("config", {}),
    }
    store: dict[str, Any] = {
        "pairs": 9_800, "corpora": [{"name": "train.xx", "read": 10_000, "pairs": 9_800, "weight": 1.0}],
        "held_out": {"valid": 100, "test": 100}, "leaks": 0, "dropped": {},
        "vocabulary": {"source": 310, "target": 310}, **values.pop("store", {}),
    }  # fmt: skip
    fields: dict[str, Any] = {
        "config": config.Config(**settings),
        "examinations": {"train.xx": examination(toy_pairs(100), findings)},
        "sets": {"valid": 100, "test": 100},
        "store": store,
        "coverage": {"train.source": Coverage(100, 500, 900, 0, {})},
        "advice": advise(9_800, 12.0, gpu=False),
        "preflight": flight(),
        "others": [],
    }
    return Report(**{**fields, **values})


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in report.findings]


def dropped(pairs: int, text: str = "mako") -> dict[str, Any]:
    return {"copies": {"pairs": pairs, "examples": [{"place": "train.xx:7", "source": text, "target": text}]}}


def problem(kind: str, example: str = "line 1: mako | okamn") -> Finding:
    return Finding(kind, "problem", f"train.xx: something is {kind}; mend it", [example])


def test_without_fault_it_is_ready() -> None:
    good = report()
    assert (good.findings, good.fault(), good.verdict) == ([], None, "ready to train (0 notes)")
    assert list(lines(good))[-1] == "Verdict: ready to train (0 notes)"


def test_problems_come_first_and_are_counted() -> None:
    note = Finding("duplicates", "note", "train.xx: copies; drop them", [])
    bad = report([note, problem("shifted"), problem("shifted"), problem("leakage")])
    assert [severity for _, severity in kinds(bad)] == ["problem"] * 3 + ["note"]
    assert bad.verdict == "3 problems: shifted, leakage (1 note)"
    fault = bad.fault()
    assert isinstance(fault, DataError)
    assert str(fault) == "runs/<toy> & co: 3 problems: shifted, leakage (1 note); see check.html there"


@pytest.mark.parametrize(
    ("steps", "disk", "text", "code"), [(20_000, 10**12, True, 3), (500, 10**12, False, 2), (500, 0, False, 2),
                                        (500, 0, True, 3), (20_000, 0, False, 6)],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_text_then_of_the_configuration_then_of_the_system(
    steps: int, disk: int, text: bool, code: int
) -> None:
    fault = report([problem("shifted")] if text else [], preflight=flight(steps=steps, disk_free=disk)).fault()
    assert isinstance(fault, DataError | ConfigError | SystemFault)
    assert fault.code == code


@pytest.mark.parametrize(("steps", "expected"), [(999, ["problem"]), (1_000, ["note"]), (1_999, ["note"]), (2_000, [])])
def test_a_warm_up_must_fit_into_the_run(steps: int, expected: list[str]) -> None:
    """The default is 1,000 steps: a run that ends before has learnt nothing, one of less than double little."""
    found = kinds(report(preflight=flight(steps=steps)))
    assert [severity for kind, severity in found if kind == "warm-up"] == expected


@pytest.mark.parametrize(("steps", "noted"), [(499, True), (500, False)])
def test_a_run_that_never_validates_on_its_way_is_noted(steps: int, noted: bool) -> None:
    """The default is every 500 steps."""
    assert (("validation", "note") in kinds(report(preflight=flight(steps=steps)))) is noted


@pytest.mark.parametrize(("passes", "noted"), [(4.9, True), (5, False)])
def test_a_run_of_few_passes_over_the_text_is_noted(passes: float, noted: bool) -> None:
    per_epoch = 20_000 / passes
    found = kinds(report(preflight=flight(steps=20_000, steps_per_epoch=per_epoch)))
    assert (("few passes", "note") in found) is noted


def test_there_must_be_room_for_the_checkpoints_kept_and_three_more() -> None:
    """The best, the average, and the one that is being written; five are kept."""
    assert report(preflight=flight(checkpoint_bytes=100, disk_free=800)).findings == []
    assert kinds(report(preflight=flight(checkpoint_bytes=100, disk_free=799))) == [("disk", "problem")]


@pytest.mark.parametrize(("pairs", "expected"), [(999, []), (1_000, ["note"]), (5_000, ["note"]), (5_001, ["problem"])])
def test_rules_that_drop_much_are_told(pairs: int, expected: list[str]) -> None:
    found = report(store={"dropped": dropped(pairs)}).findings
    assert [finding.severity for finding in found] == expected
    assert all(f"{pairs:,} of 10,000 pairs ({pairs:,} copies)" in finding.message for finding in found)


@pytest.mark.parametrize(("bytes_", "expected"), [(10, []), (11, [("unknown characters", "note")])])
def test_more_than_one_piece_in_a_hundred_in_bytes_is_told(bytes_: int, expected: list[tuple[str, str]]) -> None:
    found = report(coverage={"test.source": Coverage(10, 50, 1_000, bytes_, {"Ж": 5, "\x1b": 1})})
    assert kinds(found) == expected
    assert all("(Ж U+001B)" in finding.message for finding in found.findings)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"model": {"size": "base", "dropout": 0.3}}, ["model size"]),
        ({"model": {"size": "tiny", "dropout": 0.14}}, ["dropout"]),
        ({"model": {"size": "tiny", "dropout": 0.15}}, []),
        ({"tokenizer": {"vocab_size": 100_000}}, ["vocabulary size"]),
        ({"tokenizer": {"vocab_size": 100}}, ["vocabulary size"]),
    ],
)
def test_settings_far_from_what_is_advised_are_noted(section: dict[str, Any], expected: list[str]) -> None:
    """For some 10,000 pairs on a CPU: tiny, with a dropout of 0.3."""
    assert kinds(report(config=section)) == [(kind, "note") for kind in expected]


def test_what_a_rule_drops_is_no_problem() -> None:
    assert kinds(report([problem("script")])) == [("script", "note")]
    assert kinds(report([problem("script")], config={"data": {"train": {"tsv": "a"}, "drop": []}})) == [
        ("script", "problem")
    ]


def test_json_says_the_same_as_the_terminal() -> None:
    bad = report([problem("shifted")], store={"dropped": dropped(2_000)})

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(json.dumps(bad.to_json()), parse_constant=no_number)
    assert (found["verdict"], found["ready"]) == (bad.verdict, False)
    assert [f["message"] for f in found["findings"]] == [f.message for f in bad.findings]
    assert found["train"]["train.xx"]["pairs"] == 100
    assert "findings" not in found["train"]["train.xx"]  # they are above, with what became of them
    assert found["preflight"]["steps"] == 20_000
    assert found["coverage"]["train.source"]["byte_rate"] == 0.0
    assert found["cleaning"]["dropped"]["copies"]["pairs"] == 2_000


# -- Terminal and page


@pytest.mark.parametrize(("bfloat16", "told"), [(None, False), (0.19, False), (0.15, True)])
def test_the_faster_precision_is_told(bfloat16: float | None, told: bool) -> None:
    text = "\n".join(lines(report(preflight=flight(bfloat16=bfloat16))))
    assert ("in bfloat16 a step would take about 0.150 s (--set training.precision=bfloat16)" in text) is told


def test_all_of_it_is_a_hundred_per_cent() -> None:
    found = examination([("mako", "okamn")] * 30)
    text = "\n".join(lines(report(
        examinations={"train.xx": dataclasses.replace(found, duplicates={"pairs": 30})},
        coverage={"train.source": Coverage(1, 1, 6, 6, {"Ж": 3})},
    )))  # fmt: skip
    assert "duplicates 30 (100 %)" in text
    assert "100 % single bytes; in bytes: Ж" in text
    assert "e+02" not in text


def test_lengths_have_their_median() -> None:
    """Sources of 3, 5 and 20 characters, targets of 40: their bins are 3, 4-5, 16-22 and 32-44."""
    text = list(lines(report(examinations={"x": examination([("a" * n, "b" * 40) for n in (3, 5, 20)])})))
    scale = "0 to 44 characters, on a logarithmic scale"
    assert text[2] == f"    source |   ██   █  | {scale}; median 5, longest 20 (line 3); empty 0"
    assert text[3] == f"    target |          █| {scale}; median 40, longest 40 (line 1); empty 0"


def test_an_empty_corpus_is_shown_as_such() -> None:
    text = "\n".join(lines(report(examinations={"x": examination([])})))
    assert "x: 0 pairs" in text
    assert page(report(examinations={"x": examination([])}))


def test_the_advice_to_drop_leaks_is_given_to_those_who_do_not() -> None:
    advice = "in a validation or test set, too: 5 pairs (add leaks to data.drop to drop them)"
    assert any(advice in line for line in lines(report(store={"leaks": 5})))
    drops = {"data": {"train": {"tsv": "a"}, "drop": ["leaks"]}}
    assert not any("add leaks" in line for line in lines(report(store={"leaks": 5}, config=drops)))


def evil() -> Report:
    """A report with text in every place that could be taken for HTML, or for commands to a terminal."""
    return report(
        [problem("shifted", EVIL)],
        examinations={EVIL: examination([(EVIL, EVIL)] * 3, [problem("shifted", EVIL)])},
        store={"dropped": dropped(2_000, EVIL)},
        sets={EVIL: 3},
        coverage={EVIL: Coverage(1, 1, 1, 1, {"<": 1, "\x1b": 1})},
    )


def test_corpora_cannot_command_the_terminal() -> None:
    named = evil()
    text = "\n".join(lines(dataclasses.replace(named, examinations={"x": named.examinations[EVIL]}, sets={},
                                               coverage={"x": Coverage(1, 1, 1, 1, {"\x1b": 1})})))  # fmt: skip
    assert "alert(1)" in text
    assert "\x1b" not in text


class Elements(HTMLParser):
    """Checks that tags are balanced, and gathers elements, attributes and text."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("make", [report, evil])
def test_the_page_is_balanced_needs_nothing_else_and_escapes_text(make: Any) -> None:
    made = make()
    html = page(made)
    elements = Elements()
    elements.feed(html)
    elements.close()
    assert elements.open == []
    assert elements.seen.count("html") == elements.seen.count("body") == elements.seen.count("h1") == 1
    assert not {"script", "link", "img", "iframe"} & set(elements.seen)
    assert not {"src", "href", "onload", "onerror"} & {name for name, _ in elements.attributes}
    assert "http:" not in html
    assert "https:" not in html
    assert made.verdict in elements.text
    assert "Check of runs/<toy> & co" in elements.text
    assert all(finding.message in elements.text for finding in made.findings)
    assert (EVIL in elements.text) == (make is evil)


def test_bars_are_as_high_as_there_are_lines() -> None:
    """Twice as many sources of 5 characters as of 20."""
    html = page(report(examinations={"x": examination([("a" * 5, "b" * 5)] * 2 + [("a" * 20, "b" * 20)])}))
    assert 'height="120.0"><title>2 source lines of 4 to 5 characters' in html
    assert 'height="60.0"><title>1 source lines of 16 to 22 characters' in html
