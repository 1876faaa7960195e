"""What ``mt check`` found out, and its verdict."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from transformer_mt.checkup.preflight import Preflight
from transformer_mt.config import Config, Transformer
from transformer_mt.data.advice import Advice
from transformer_mt.data.coverage import Coverage
from transformer_mt.data.doctor.examination import Examination, Finding
from transformer_mt.errors import ConfigError, DataError, MtError, SystemFault
from transformer_mt.training.schedule import fitting_warmup

_MUCH_DROPPED = 0.1, 0.5  # shares of the pairs that are worth a note, and that are a problem
_FEW_PASSES = 5
_MANY_BYTES = 0.01  # of the pieces
_FAULTS: dict[str, type[MtError]] = {"warm-up": ConfigError, "disk": SystemFault}


@dataclass(frozen=True)
class Report:
    """All of it: ``examinations`` by corpus, ``coverage`` by set and side, and the manifest of the ``store``."""

    config: Config
    examinations: dict[str, Examination]
    sets: dict[str, int]  # pairs of the validation and test sets
    store: dict[str, Any]
    coverage: dict[str, Coverage]
    advice: Advice
    preflight: Preflight
    others: list[Finding]  # of what lies around the text

    @property
    def findings(self) -> list[Finding]:
        """Everything that is suspicious, problems first."""
        found = [*self.others, *(f for examination in self.examinations.values() for f in examination.findings)]
        # What a rule drops is no problem any more; those that find the same as the doctor have the same name.
        found = [replace(f, severity="note") if f.kind in self.config.data.drop else f for f in found]
        found += [*_dropped(self.store), *_unknown(self.coverage), *_settings(self.config, self.advice)]
        found += _limits(self.config, self.preflight)
        return sorted(found, key=lambda finding: finding.severity != "problem")

    @property
    def problems(self) -> list[Finding]:
        """The findings that need something done before training."""
        return [finding for finding in self.findings if finding.severity == "problem"]

    def fault(self) -> MtError | None:
        """What the command fails by: the text first, then the configuration, then the system; None when all is well."""
        kinds = {finding.kind: _FAULTS.get(finding.kind, DataError) for finding in self.problems}
        if not kinds:
            return None
        worst = min(kinds.values(), key=(DataError, ConfigError, SystemFault).index)
        return worst(f"{self.config.run_dir}: {self.verdict}; see check.html there")

    @property
    def verdict(self) -> str:
        """One line."""
        problems, notes = len(self.problems), len(self.findings) - len(self.problems)
        rest = f"{notes} note{'s' * (notes != 1)}"
        if not problems:
            return f"ready to train ({rest})"
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in self.problems))
        return f"{problems} problem{'s' * (problems > 1)}: {kinds} ({rest})"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "verdict": self.verdict,
            "ready": not self.problems,
            "findings": [asdict(finding) for finding in self.findings],
            "train": {name: _counts(examination) for name, examination in self.examinations.items()},
            "sets": self.sets,
            "cleaning": {key: self.store[key] for key in ("pairs", "corpora", "dropped", "held_out", "leaks")},
            "vocabulary": self.store["vocabulary"],
            "coverage": {name: {**asdict(c), "byte_rate": c.byte_rate} for name, c in self.coverage.items()},
            "advice": asdict(self.advice),
            "preflight": asdict(self.preflight),
        }


def _counts(examination: Examination) -> dict[str, Any]:
    return {key: value for key, value in asdict(examination).items() if key != "findings"}


def _dropped(store: dict[str, Any]) -> list[Finding]:
    read, kept = sum(corpus["read"] for corpus in store["corpora"]), store["pairs"]
    dropped = sum(drop["pairs"] for drop in store["dropped"].values())
    if dropped < _MUCH_DROPPED[0] * read:
        return []
    rules = ", ".join(f"{drop['pairs']:,} {rule}" for rule, drop in store["dropped"].items())
    message = (
        f"data.train: the rules drop {dropped:,} of {read:,} pairs ({rules}), {kept:,} are left; look at the samples"
    )
    return [Finding("dropped", "problem" if dropped > _MUCH_DROPPED[1] * read else "note", message, [])]


def _unknown(coverage: dict[str, Coverage]) -> list[Finding]:
    findings = []
    for name, known in coverage.items():
        if known.byte_rate > _MANY_BYTES:
            message = (
                f"{name}: {100 * known.byte_rate:.1f} % of the pieces are single bytes, of characters that the "
                f"tokenizer does not know ({known.shown}); is this text of the same kind as the training text?"
            )
            findings.append(Finding("unknown characters", "note", message, []))
    return findings


def _settings(config: Config, advice: Advice) -> list[Finding]:
    """Where the configuration is far from what is advised."""
    findings = []
    sizes, model = ("tiny", "small", "base", "big"), config.model
    if isinstance(model, Transformer) and sizes.index(model.size) > sizes.index(advice.size):
        message = f"model: {model.size} is more than advised; take {advice.size}: {advice.why['model.size']}"
        findings.append(Finding("model size", "note", message, []))
    if config.model.dropout < advice.dropout / 2:
        message = (
            f"model.dropout: {config.model.dropout} is little; take {advice.dropout}: {advice.why['model.dropout']}"
        )
        findings.append(Finding("dropout", "note", message, []))
    size = config.tokenizer.vocab_size
    if size is not None and not advice.vocab_size / 4 <= size <= advice.vocab_size * 2:
        reason = advice.why["tokenizer.vocab_size"]
        message = f"tokenizer.vocab_size: {size:,} is far from what is advised; take {advice.vocab_size:,}: {reason}"
        findings.append(Finding("vocabulary size", "note", message, []))
    return findings


def _limits(config: Config, flight: Preflight) -> list[Finding]:
    findings = []
    passes = flight.steps / flight.steps_per_epoch
    if passes < _FEW_PASSES:
        message = (
            f"training: {passes:.1f} passes over the text fit into {flight.ends_by}, and tens are needed; expect poor "
            "translations, or give more time"
        )
        findings.append(Finding("few passes", "note", message, []))
    if flight.steps < config.training.validate_every:
        message = (
            f"training.validate_every: {config.training.validate_every:,} is more than the {flight.steps:,} steps that "
            f"fit; set {max(1, flight.steps // 5):,} to see it learn"
        )
        findings.append(Finding("validation", "note", message, []))
    if (warmup := fitting_warmup(flight.steps, config.training)) is not None:
        message = (
            f"training.warmup_steps: about {flight.steps:,} steps fit into this run, but the learning rate rises for "
            f"{config.training.warmup_steps:,}; set {warmup:,}, or give more time"
        )
        findings.append(
            Finding("warm-up", "problem" if flight.steps < config.training.warmup_steps else "note", message, [])
        )
    needed = (config.training.keep_last + 3) * flight.checkpoint_bytes
    if needed > flight.disk_free:
        free = f"{flight.disk_free / 1e9:.1f} GB are free"
        message = f"{config.run_dir}: checkpoints need {needed / 1e9:.1f} GB, {free}; make room"
        findings.append(Finding("disk", "problem", message, []))
    return findings
