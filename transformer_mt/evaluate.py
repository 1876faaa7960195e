"""How good translations are: BLEU, chrF and TER by sacreBLEU on raw references, and the loss on held-out text."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal

import sacrebleu
import torch
from sacrebleu.metrics.base import Metric, Signature
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest, Result

from transformer_mt.data.writing import language_code
from transformer_mt.errors import DataError
from transformer_mt.special import BOS, EOS, PAD
from transformer_mt.terminal import warn
from transformer_mt.training.loss import smoothed_cross_entropy
from transformer_mt.translate import LONGEST_SOURCE, Translator, by_length, padded

_NEEDS = {"ja": "MeCab", "ko": "mecab_ko"}  # the module that sacreBLEU's tokenizer for a language imports


def bleu_metric(language: str) -> BLEU:
    """BLEU with sacreBLEU's tokenizer for the target language: zh, ja-mecab, ko-mecab, else 13a."""
    code = language_code(language) or ""
    module = _NEEDS.get(code)
    if module is not None and importlib.util.find_spec(module) is None:
        warn(f"BLEU by characters: for words, pip install 'transformer_mt[{code}]'; the signature says which")
        return BLEU(tokenize="char")
    return BLEU(trg_lang=code)


def metrics(language: str) -> dict[str, Metric]:
    """BLEU, chrF and TER as they suit a target language; the keys are those of the scores."""
    unsegmented = language_code(language) in ("zh", "ja")  # TER then counts characters
    ter = sacrebleu.TER(normalized=unsegmented, asian_support=unsegmented)
    return {"bleu": bleu_metric(language), "chrf": sacrebleu.CHRF(), "ter": ter}


def corpus_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str) -> dict[str, Any]:
    """BLEU, chrF and TER with their signatures. Raises DataError when the numbers of lines differ."""
    for number, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            raise DataError(
                f"{len(hypotheses)} translations, but reference {number} has {len(reference)} lines; line i of one "
                "must belong to line i of the other"
            )
    if not hypotheses:
        raise DataError("nothing to evaluate: the set is empty; give text")
    result: dict[str, Any] = {}
    for name, metric in metrics(language).items():
        score = metric.corpus_score(list(hypotheses), [list(r) for r in references])
        result[name] = {"score": round(float(score.score), 2), "signature": str(metric.get_signature())}
    return {**result, "sentences": len(hypotheses)}


def paired_test(
    systems: Sequence[Sequence[str]], references: Sequence[Sequence[str]], metric: Metric, test: Literal["bs", "ar"]
) -> tuple[Signature, list[Result]]:
    """sacreBLEU's test of each system against the first, by bootstrap or approximate randomisation, in this process."""
    named: list[tuple[str, Sequence[str]]] = [(str(number), list(lines)) for number, lines in enumerate(systems)]
    signatures, found = PairedTest(named, {"metric": metric}, [list(r) for r in references], test_type=test)()
    [(name, signature)] = signatures.items()
    return signature, [result for result in found[name] if isinstance(result, Result)]


def confidence(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> dict[str, tuple[float, float]]:
    """Mean and half the 95 % interval of BLEU, chrF and TER over 1,000 bootstrap samples of the sentences (Koehn 2004).

    sacreBLEU's own, with its seed, 12345; about a second for 1,000 sentences and a score.
    """
    result = {}
    for name, metric in metrics(language).items():
        _, [alone] = paired_test([hypotheses], references, metric, "bs")
        result[name] = (float(alone.mean or 0.0), float(alone.ci or 0.0))
    return result


@torch.inference_mode()
def mean_nll(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    device_tokens: int,
    go_on: Callable[[], None] = lambda: None,
) -> float:
    """The negative log-likelihood of the references, a mean per target token in nats; empty pairs are left out.

    ``go_on`` is called after each batch, and may raise.
    """
    tokenizer, model = translator.tokenizer, translator.packed
    longest = model.position_limit or LONGEST_SOURCE
    pairs = [
        ([*source, EOS], [BOS, *target, EOS])
        for source, target in zip(tokenizer.encode_source(sources), tokenizer.encode_target(targets), strict=True)
        if source and target and max(len(source), len(target)) < longest
    ]
    total, tokens = 0.0, 0
    for batch in by_length([max(map(len, pair)) for pair in pairs], len(pairs), device_tokens):
        source, target = (padded(side).to(translator.device) for side in zip(*(pairs[n] for n in batch), strict=True))
        gold = target[:, 1:]
        hidden = model(source, target[:, :-1]).hidden[gold != PAD]  # [M, D]
        total += float(smoothed_cross_entropy(hidden, model.projection, gold[gold != PAD], 0.0).nll.sum())
        tokens += len(hidden)
        go_on()
    if not tokens:
        raise DataError("data.valid: no pair has text on both sides; give other text")
    return total / tokens
