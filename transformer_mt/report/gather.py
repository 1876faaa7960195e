"""What a report tells of a run, as one structure for JSON."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sacrebleu

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.data import prepare
from transformer_mt.data.sets import set_files
from transformer_mt.data.store import Store
from transformer_mt.evaluate import bleu_metric, confidence, corpus_scores
from transformer_mt.report.analysis import bands, frequencies, loops, unit, words
from transformer_mt.report.maps import attention_maps
from transformer_mt.report.provenance import Event, events, provenance
from transformer_mt.rundir import RunDirectory
from transformer_mt.terminal import bar
from transformer_mt.translate import TEXT
from transformer_mt.workers import AllCores

_EXTREMES = 20  # sentences that are the worst, and as many the best
_SHOWN = 1000  # sentences on the page
_TEXT = 1_000_000  # bytes of their text, beyond which no more are taken
_LONGEST = 2000  # characters of a text that are shown
_POINTS = 400  # of a curve
_BANDS = 6

Sentence = dict[str, Any]


def gather(config: Config, checkpoint: str, command: str) -> dict[str, Any]:
    """Translate the test sets of a run, or the validation sets where it has none, and tell all that is known of it.

    The sentences are those of the first set. Raises ConfigError when there is no such checkpoint, ArtefactError when
    something of the run is damaged.
    """
    paths, target = RunDirectory(Path(config.run_dir)), config.languages.target
    checkpoint = Checkpoints(paths.checkpoints).resolve(checkpoint)
    texts, translations = {}, {}
    with AllCores.from_config(config, checkpoint) as translator:
        for name in _sets(paths.data):
            texts[name] = sources, _ = prepare.evaluation_set(paths.data, name)
            with bar(f"translating {name}", len(sources), "sentences") as progress:
                translations[name] = [best[0].text for best in translator.stream(sources, TEXT, progress.advance)]
    first, *_ = texts
    sentences = _sentences(*texts[first], translations[first], target)
    store = Store(paths.data)
    counted = _look_up(sentences, store, config.languages.source)
    shown = _shown(sentences)
    maps, no_maps = attention_maps(translator, *([s[side] for s in shown] for side in ("source", "translation")))
    for number, drawn in maps.items():
        shown[number]["map"] = drawn
    log = events(paths.metrics)
    parameters = sum(weight.numel() for weight in translator.model.parameters())
    return {
        "run": paths.root.name,
        "checkpoint": checkpoint,
        "languages": config.languages.model_dump(),
        "units": {side: unit(code) for side, code in config.languages.model_dump().items()},
        "curves": _curves(log),
        "sets": {
            name: corpus_scores(translations[name], references, target)
            | {"confidence": confidence(translations[name], references, target)}
            for name, (_, references) in texts.items()
        },
        "bands": {key: _by(key, sentences, target) for key in ("length", "frequency")},
        "counted": {"pairs": counted, "of": len(store)},
        "outputs": _outputs(sentences, target),
        "sentences": [_cut(sentence) for sentence in shown],
        "no_maps": no_maps,
        "provenance": provenance(config, checkpoint, command, parameters, log),
        "config": config.to_yaml(),
    }


def _sets(data: Path) -> list[str]:
    """The test sets, or the validation sets where their text is missing."""
    sets = {split: prepare.set_names(data, split) for split in ("test", "valid")}
    missing = any(not path.exists() for name in sets["test"] for path in set_files(data, name))
    return sets["valid" if missing else "test"]


def _curves(log: Sequence[Event]) -> dict[str, list[dict[str, float]]]:
    """Loss and negative log-likelihood in training, means of as many lines as needed, and each validation."""
    train = _values(log, "train", ("step", "loss", "nll"))
    width = max(1, -(-len(train) // _POINTS))
    parts = [train[n : n + width] for n in range(0, len(train), width)]
    means = [{key: round(sum(e[key] for e in part) / len(part), 4) for key in ("loss", "nll")} for part in parts]
    return {
        "train": [{"step": part[-1]["step"], **mean} for part, mean in zip(parts, means, strict=True)],
        # What is validated under a name of its own, such as an average, is not a point of the curve.
        "valid": _values([e for e in log if "checkpoint" not in e], "valid", ("step", "nll", "bleu")),
    }


def _values(log: Sequence[Event], kind: str, keys: tuple[str, ...]) -> list[dict[str, float]]:
    """Of the events of a kind, those that have finite numbers for all keys, and nothing else of them."""
    found = ({key: event.get(key) for key in keys} for event in log if event["event"] == kind)
    return [e for e in found if all(isinstance(v, int | float) and math.isfinite(v) for v in e.values())]  # type: ignore[misc]


def _sentences(
    sources: Sequence[str], references: Sequence[Sequence[str]], translations: Sequence[str], language: str
) -> list[Sentence]:
    """All sentences that have text, the worst first, with what is known of each."""
    chrf, found = sacrebleu.CHRF(), []
    for row, (source, translation, *gold) in enumerate(zip(sources, translations, *references, strict=True)):
        if source.strip():
            repeated = loops(translation, language) and not any(loops(line, language) for line in gold)
            found.append({
                "line": row + 1,
                "source": source,
                "translation": translation,
                "references": gold,
                "chrf": round(float(chrf.sentence_score(translation, gold).score), 1),
                "flags": ["repeated"] if repeated else [] if translation.strip() else ["empty"],
            })  # fmt: skip
    return sorted(found, key=lambda sentence: sentence["chrf"])


def _look_up(sentences: list[Sentence], store: Store, language: str) -> int:
    """Add length and rarest word with its frequency in training; return of how many pairs that was counted."""
    split = [words(sentence["source"], language) for sentence in sentences]
    with bar("counting words", None, "pairs") as progress:
        counts, read = frequencies(store, {word for line in split for word in line}, language, progress.advance)
    for sentence, line in zip(sentences, split, strict=True):
        rarest = min(line, key=lambda word: counts[word], default="")
        sentence |= {"length": len(line), "rarest": rarest, "frequency": counts[rarest]}
    return read


def _by(key: str, sentences: list[Sentence], language: str) -> list[dict[str, Any]]:
    """BLEU and chrF of sentences in bands by a number."""
    metrics, scored = {"bleu": bleu_metric(language), "chrf": sacrebleu.CHRF()}, []
    for band in bands([sentence[key] for sentence in sentences], _BANDS):
        chosen = [sentences[row] for row in band.rows]
        translations, references = ([sentence[side] for sentence in chosen] for side in ("translation", "references"))
        gold = [list(lines) for lines in zip(*references, strict=True)]
        scores = {
            name: round(float(metric.corpus_score(translations, gold).score), 2) for name, metric in metrics.items()
        }
        scored.append({"low": band.low, "high": band.high, "sentences": len(chosen), **scores})
    return scored


def _outputs(sentences: list[Sentence], language: str) -> dict[str, float]:
    """The length of all translations to that of the references, and how many repeat themselves or are empty."""
    sides = ([s["translation"] for s in sentences], [s["references"][0] for s in sentences])
    written, wanted = (sum(len(words(line, language)) for line in side) for side in sides)
    flags = [flag for sentence in sentences for flag in sentence["flags"]]
    return {
        "sentences": len(sentences),
        "ratio": round(written / max(1, wanted), 3),
        "repeated": flags.count("repeated"),
        "empty": flags.count("empty"),
    }


def _shown(ranked: list[Sentence]) -> list[Sentence]:
    """The worst, the best, those that repeat themselves or are empty, and others at equal distances of rank."""
    extremes = min(_EXTREMES, len(ranked) // 2)
    worst, rest, best = ranked[:extremes], ranked[extremes : len(ranked) - extremes], ranked[len(ranked) - extremes :]
    for sentence in worst:
        sentence["flags"] = ["worst", *sentence["flags"]]
    for sentence in best:
        sentence["flags"] = ["best", *sentence["flags"]]
    odd = [sentence for sentence in rest if sentence["flags"]][: _SHOWN // 4]
    even = [sentence for sentence in rest if not sentence["flags"]]
    even = even[:: max(1, -(-len(even) // (_SHOWN - 2 * extremes - len(odd))))]
    shown, size = [*worst, *best[::-1]], 0
    for sentence in (*odd, *_spread(even)):
        size += sum(len(text.encode()) for text in _texts(_cut(sentence)))
        if size > _TEXT:
            break
        shown.append(sentence)
    return shown


def _spread(ranked: list[Sentence]) -> list[Sentence]:
    """In an order of which every beginning has sentences of all ranks."""
    return [sentence for first in (0, 8, 4, 12, 2, 10, 6, 14, *range(1, 16, 2)) for sentence in ranked[first::16]]


def _texts(sentence: Sentence) -> list[str]:
    return [sentence["source"], sentence["translation"], *sentence["references"]]


def _cut(sentence: Sentence) -> Sentence:
    """Without what no one reads of a very long line."""
    source, translation, *references = (
        text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…" for text in _texts(sentence)
    )
    return {**sentence, "source": source, "translation": translation, "references": references}
