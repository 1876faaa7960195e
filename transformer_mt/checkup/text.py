"""The report for the terminal."""

from collections.abc import Iterator

from transformer_mt.checkup.preflight import Preflight
from transformer_mt.checkup.report import Report
from transformer_mt.config import Transformer
from transformer_mt.data.cleaning import shown
from transformer_mt.data.doctor.examination import Examination
from transformer_mt.terminal import percent, visible
from transformer_mt.training.metrics import duration

_BARS = " ▁▂▃▄▅▆▇█"


def lines(report: Report) -> Iterator[str]:
    """The whole report, line by line."""
    yield "Text"
    for name, examination in report.examinations.items():
        yield f"  {name}: {examination.pairs:,} pairs"
        yield from _lengths(examination)
        twice, copies = examination.duplicates["pairs"], examination.copies
        yield f"    duplicates {twice:,} ({percent(twice, examination.pairs)}), target equal to source {copies:,}"
    for name, pairs in report.sets.items():
        held = " (held out of training)" if name in report.store["held_out"] else ""
        yield f"  {name}: {pairs:,} pairs{held}"
    yield "Cleaning"
    yield from _cleaning(report)
    yield "Tokenizer"
    yield from _tokenizer(report)
    yield "Advice for a corpus of this size"
    yield from _advice(report)
    yield from _preflight(report.preflight)
    yield "Findings"
    if not report.findings:
        yield "  none; looked for shifted, swapped and leaked lines, other languages and scripts, and odd settings"
    for finding in report.findings:
        yield f"  {finding.severity}: {finding.message}"
        yield from (f"    {visible(example)}" for example in finding.examples)
    yield f"Verdict: {report.verdict}"


def _lengths(examination: Examination) -> Iterator[str]:
    histogram = examination.characters
    used = max(
        (n for n, both in enumerate(zip(histogram.source, histogram.target, strict=True)) if any(both)), default=0
    )
    for side, counts in (("source", histogram.source[: used + 1]), ("target", histogram.target[: used + 1])):
        most = max(1, *counts)
        bars = "".join(_BARS[-(-8 * count // most)] for count in counts)
        line, longest = examination.longest[side]
        median, empty = examination.median[side], examination.empty[side]
        yield (
            f"    {side} |{bars}| 0 to {histogram.edges[used + 1] - 1:,} characters, on a logarithmic scale; "
            f"median {median:,}, longest {longest:,} (line {line:,}); empty {empty:,}"
        )


def _advice(report: Report) -> Iterator[str]:
    """What is configured beside what is advised."""
    model = report.config.model
    configured = {
        "tokenizer.vocab_size": report.store["vocabulary"]["target"],
        **({"model.size": model.size} if isinstance(model, Transformer) else {}),
        "model.dropout": model.dropout,
    }
    for key, value in configured.items():
        advised = getattr(report.advice, key.split(".")[1])
        other = "as here" if value == advised else f"here {value}"
        yield f"  {key}: {advised}, {other}; {report.advice.why[key]}"


def _cleaning(report: Report) -> Iterator[str]:
    store = report.store
    read = sum(corpus["read"] for corpus in store["corpora"])
    yield f"  {read:,} pairs read, {store['pairs']:,} kept for training"
    for rule, drop in store["dropped"].items():
        yield f"  {rule}: {drop['pairs']:,}, such as {shown(drop['examples'][0])}"
    if store["leaks"] and "leaks" not in report.config.data.drop:
        yield f"  in a validation or test set, too: {store['leaks']:,} pairs (add leaks to data.drop to drop them)"


def _tokenizer(report: Report) -> Iterator[str]:
    sizes = dict.fromkeys(report.store["vocabulary"].values())
    yield f"  vocabulary {' and '.join(f'{size:,}' for size in sizes)}"
    for name, known in report.coverage.items():
        unknown = f"; in bytes: {known.shown}" if known.unknown else ""
        spaced = known.words > 2 * known.lines  # else the language puts no spaces between words
        a_word = f"{known.pieces / known.words:.2f} a word, " if spaced else ""
        yield (
            f"  {name}: {known.pieces / max(1, known.lines):.1f} pieces a line, {a_word}"
            f"{percent(known.byte_pieces, known.pieces)} single bytes{unknown}"
        )


def _preflight(flight: Preflight) -> Iterator[str]:
    yield f"Preflight on {flight.device}, {flight.precision}"
    sentences, source, target = flight.largest_batch
    yield f"  {flight.parameters / 1e6:.2f}M parameters; memory {flight.memory / 1e9:.2f} GB at most"
    yield f"  the largest batch, {sentences} sentences of up to {source} and {target} pieces, was trained"
    epoch = flight.steps_per_epoch * flight.step
    yield (
        f"  a step {flight.step:.3f} s, {flight.tokens_per_second:,.0f} target tokens a second; an epoch "
        f"{flight.steps_per_epoch:,.0f} steps, {duration(epoch)}"
    )
    if flight.bfloat16 is not None and flight.bfloat16 < 0.9 * flight.step:
        yield f"  in bfloat16 a step would take about {flight.bfloat16:.3f} s (--set training.precision=bfloat16)"
    yield (
        f"  a validation {duration(flight.validation)}; a checkpoint {flight.checkpoint_bytes / 1e6:.0f} MB, saved in "
        f"{flight.saving:.1f} s, loaded in {flight.loading:.1f} s; one sentence translated in {flight.sentence:.2f} s"
    )
    yield (
        f"  time to the end: {duration(flight.total)} at most, by {flight.ends_by}: {flight.steps:,} steps, "
        f"{flight.steps / flight.steps_per_epoch:.1f} passes over the text"
    )
