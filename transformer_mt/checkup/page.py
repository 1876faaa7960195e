"""The report as a page: one HTML file that needs nothing else."""

from collections.abc import Iterable, Iterator
from html import escape

from transformer_mt.checkup.report import Report
from transformer_mt.checkup.text import lines
from transformer_mt.data.doctor.examination import Histogram

_STYLE = """
:root { color-scheme: light dark; --source: #3465a4; --target: #d97706; --faint: #8883; --problem: #c62828 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid var(--faint) }
.verdict { font-size: 1.15rem; padding: .6rem 1rem; border-left: .4rem solid #2e7d32; background: var(--faint) }
.verdict.problem, .finding.problem { border-color: var(--problem) }
.finding { border-left: .3rem solid #999; padding: .2rem .8rem; margin: .8rem 0 }
.finding ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .9rem; opacity: .85; overflow-wrap: anywhere }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; padding: .8rem; background: var(--faint) }
svg text { font-size: 10px; fill: currentColor } .source { fill: var(--source) } .target { fill: var(--target) }
"""
_WIDTH, _HEIGHT = 720, 120


def page(report: Report) -> str:
    """The HTML of a report."""
    bad = " problem" if report.problems else ""
    title = f"Check of {report.config.run_dir}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="verdict{bad}">{escape(report.verdict)}</p>',
        "<h2>Findings</h2>",
        *_findings(report),
    ]
    for name, examination in report.examinations.items():
        parts += [f"<h2>{escape(name)}</h2>", _histogram("characters", examination.characters)]
        parts.append(_histogram("words between spaces", examination.words))
        parts.append(_table((what, f"{count:,}") for what, count in (
            ("pairs", examination.pairs), ("pairs that were there before", examination.duplicates["pairs"]),
            ("pairs whose source was there with another target", examination.ambiguous["source"]),
            ("source as target", examination.copies), *((f"empty, {s}", n) for s, n in examination.empty.items()),
        )))  # fmt: skip
    parts += ["<h2>What the rules dropped</h2>", *_dropped(report)]
    parts.append("<h2>All of it, as in the terminal</h2><pre>")
    parts += [escape(line) + "\n" for line in lines(report)]
    return "".join([*parts, "</pre></body></html>\n"])


def _findings(report: Report) -> Iterator[str]:
    if not report.findings:
        yield "<p>None.</p>"
    for finding in report.findings:
        examples = "".join(f"<li>{escape(example)}</li>" for example in finding.examples)
        yield (
            f'<div class="finding {finding.severity}"><b>{escape(finding.kind)}</b> ({finding.severity}): '
            f"{escape(finding.message)}{f'<ul>{examples}</ul>' if examples else ''}</div>"
        )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return (
        f"<table>{''.join(f'<tr><th>{escape(k)}</th><td class=number>{escape(v)}</td></tr>' for k, v in rows)}</table>"
    )


def _dropped(report: Report) -> Iterator[str]:
    rules = report.store["dropped"]
    if not rules:
        yield "<p>Nothing.</p>"
    for rule, drop in rules.items():
        yield f"<h3>{escape(rule)}: {drop['pairs']:,} pairs</h3><table>"
        for example in drop["examples"]:
            yield f"<tr>{''.join(f'<td>{escape(example[key])}</td>' for key in ('place', 'source', 'target'))}</tr>"
        yield "</table>"


def _histogram(unit: str, histogram: Histogram) -> str:
    """Lines by length, both sides beside each other."""
    used = max((n for n in range(len(histogram.source)) if histogram.source[n] + histogram.target[n]), default=0) + 1
    most = max(1, *histogram.source, *histogram.target)
    step = _WIDTH / used
    shapes = []
    for n in range(used):
        for number, (side, counts) in enumerate((("source", histogram.source), ("target", histogram.target))):
            height = _HEIGHT * counts[n] / most
            title = f"{counts[n]:,} {side} lines of {histogram.edges[n]:,} to {histogram.edges[n + 1] - 1:,} {unit}"
            shapes.append(
                f'<rect class="{side}" x="{step * (n + 0.08 + 0.42 * number):.1f}" y="{_HEIGHT - height:.1f}" '
                f'width="{0.42 * step:.1f}" height="{height:.1f}"><title>{title}</title></rect>'
            )
        shapes.append(f'<text x="{step * n:.1f}" y="{_HEIGHT + 14}">{histogram.edges[n]}</text>')
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" width="100%"'
    legend = (
        f'<p>Lines by length in {unit}: <b style="color:var(--source)">■ source</b>, '
        '<b style="color:var(--target)">■ target</b></p>'
    )
    return f'{legend}<svg {size} role="img">{"".join(shapes)}</svg>'
