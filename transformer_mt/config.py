"""The configuration: one typed tree, YAML in, YAML out."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from transformer_mt.errors import ConfigError
from transformer_mt.strict_yaml import KeyPath, dump_yaml, parse_yaml

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are errors, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Languages(Section):
    """ISO 639-1 codes; the target's chooses the tokenizer of BLEU, both name the columns of hub data sets."""

    source: str = Field(min_length=1)
    target: str = Field(min_length=1)


class Source(Section):
    """Where pairs come from: two text files (several references in test sets), or a data set of the hub."""

    source: str | None = None
    target: str | list[str] | None = None
    hub: str | None = None  # owner/name, or a local data set folder
    name: str | None = None  # the hub data set's configuration
    split: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        files = self.source is not None and bool(self.target)
        hub_only = self.name is not None or self.split is not None or self.revision is not None
        if self.hub is None and (not files or hub_only):
            raise ValueError("expected {source: FILE, target: FILE} or {hub: OWNER/NAME, split: SPLIT}")
        if self.hub is not None and (self.source is not None or self.target is not None):
            raise ValueError("'hub' does not go with 'source' and 'target'")
        return self

    @property
    def targets(self) -> list[str]:
        """The target files: one, or several references."""
        return [self.target] if isinstance(self.target, str) else list(self.target or ())


class Data(Section):
    """The corpora, and the rules that drop a training pair."""

    train: Source
    valid: Source | None = None  # left out: held out of train
    test: Source | None = None
    max_length: PositiveInt = 256  # pieces of either side, end token not counted
    max_ratio: Positive = 5.0  # of the longer to the shorter side, in pieces

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        for split in ("train", "valid"):
            source: Source | None = getattr(self, split)
            if source is not None and isinstance(source.target, list):
                raise ValueError(f"{split}.target: several references are for the test set only")
        return self


class Tokenizer(Section):
    """SentencePiece: ``joint`` learns one vocabulary for both languages."""

    kind: Literal["unigram", "bpe"] = "unigram"
    vocab_size: PositiveInt | None = None  # left out: chosen by the size of the corpus
    joint: bool = True
    normalization: Literal["identity", "nmt_nfkc"] = "identity"


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"layers": 4, "width": 128, "feed_forward": 256, "heads": 4},  # Wu et al. 2021, for Multi30k
    "small": {"layers": 6, "width": 512, "feed_forward": 1024, "heads": 4},  # the IWSLT model
    "base": {"layers": 6, "width": 512, "feed_forward": 2048, "heads": 8},  # Vaswani et al. 2017
    "big": {"layers": 6, "width": 1024, "feed_forward": 4096, "heads": 16},
}


class Model(Section):
    """The Transformer. ``size`` sets layers, width, feed_forward and heads; each can be overridden."""

    size: Literal["tiny", "small", "base", "big"] = "small"
    layers: PositiveInt = 6  # of the encoder, and as many of the decoder
    width: PositiveInt = 512
    feed_forward: PositiveInt = 1024
    heads: PositiveInt = 4
    dropout: Fraction = 0.1
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    norm: Literal["layer", "rms"] = "layer"
    norm_position: Literal["pre", "post"] = "pre"
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    max_positions: PositiveInt = 1024  # rows of the table of learned positions

    @model_validator(mode="before")
    @classmethod
    def _fill_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and str(size := values.get("size", "small")) in SIZES:
            return {**SIZES[str(size)], **values}
        return values

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not an even multiple of heads {self.heads}")
        return self


class Training(Section):
    """The training loop. The first limit to come ends the run; steps are updates of the weights."""

    batch_tokens: PositiveInt = 4096  # real target tokens of one update, end tokens included
    device_tokens: PositiveInt = 4096  # padded positions of either side that are held at once
    max_steps: PositiveInt | None = 100_000
    max_epochs: PositiveInt | None = None
    max_minutes: Positive | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Literal["noam", "inverse_sqrt", "linear", "constant"] = "noam"
    warmup_steps: PositiveInt = 1000
    learning_rate: Positive | None = None  # the peak; left out: Noam's own scale, D^-1/2 · warmup^-1/2
    label_smoothing: Fraction = 0.1
    adam_betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    weight_decay: NonNegative = 0.0
    clip_norm: Positive = 1.0
    log_every: PositiveInt = 10
    save_every: PositiveInt = 500
    validate_every: PositiveInt = 500
    keep_last: PositiveInt = 5
    average: bool = True  # at the end, validate the average of the checkpoints kept
    best_by: Literal["bleu", "nll"] = "bleu"
    patience: PositiveInt | None = 10  # validations without a better one that end the run
    samples: int = Field(default=3, ge=0)  # validation sentences whose translation is shown

    @model_validator(mode="before")
    @classmethod
    def _betas_from_yaml(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("adam_betas"), list):
            return {**values, "adam_betas": tuple(values["adam_betas"])}
        return values

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None:
            raise ValueError("one of max_steps, max_epochs and max_minutes must be set")
        if self.schedule == "linear" and self.max_steps is None:
            raise ValueError("schedule 'linear' needs max_steps, the step at which the rate reaches zero")
        return self


class Decoding(Section):
    """Search. The score of a hypothesis is Σ log p / length^length_penalty, the end token counted."""

    beam_size: PositiveInt = 5
    length_penalty: NonNegative = 1.0
    patience: Positive = 1.0  # a sentence ends when beam_size · patience hypotheses are finished
    batch_size: PositiveInt = 64
    precision: Literal["float32", "bfloat16"] = "float32"


class Config(Section):
    """The whole configuration of a run."""

    languages: Languages
    data: Data
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    training: Training = Training()
    decoding: Decoding = Decoding()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(default=1, ge=0, lt=2**32)
    run_dir: str = Field(min_length=1)

    @model_validator(mode="after")
    def _positions_suffice(self) -> Self:
        if self.model.positions == "learned" and self.model.max_positions <= self.data.max_length:
            longest = self.data.max_length
            raise ValueError(f"model.max_positions {self.model.max_positions} must exceed data.max_length {longest}")
        return self

    def to_yaml(self) -> str:
        """Write the configuration so that :func:`load_config` reads the same again."""
        tree = self.model_dump(mode="json", exclude_none=False)
        for split in ("train", "valid", "test"):  # a source is read better without what it does not use
            if tree["data"][split] is not None:
                tree["data"][split] = {k: v for k, v in tree["data"][split].items() if v is not None}
        return dump_yaml(tree)


def _apply(tree: dict[str, Any], assignment: str, lines: dict[KeyPath, int]) -> KeyPath:
    """Carry out one ``--set KEY=VALUE``; the value is YAML and replaces what stands there, and its ``lines``."""
    key, equals, text = assignment.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as training.max_steps=100")
    if not text.strip():
        raise ConfigError(f"--set {assignment}: the value is missing; for none, write {key}=null")
    value, _ = parse_yaml(text, f"--set {key}")
    node = tree
    replaced = path
    for depth, part in enumerate(path[:-1], start=1):
        child = node.get(part)
        if part == "model" and isinstance(child, str):
            child = {"size": child}
        if not isinstance(child, dict):
            child, replaced = {}, min(replaced, path[:depth], key=len)
        node[part] = child
        node = child
    node[path[-1]] = value
    for stale in [line for line in lines if line[: len(replaced)] == replaced]:
        del lines[stale]
    return path


def _sections(path: KeyPath) -> list[str]:
    """The keys that the configuration knows at ``path``'s parent."""
    section: type[Section] = Config
    for part in path[:-1]:
        field = section.model_fields.get(str(part))
        options = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _nearest(path: KeyPath) -> str:
    """What an unknown key may have been meant to be: one of its place, one of another section, or what is known."""
    key, known = str(path[-1]), _sections(path)
    elsewhere = {
        field: f"{section}.{field}"
        for section in Config.model_fields
        for field in _sections((section, ""))
        if section != "data"
    }
    if key in elsewhere:
        return f"did you mean '{elsewhere[key]}'?"
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"did you mean '{near[0]}'?"
    return f"known here: {', '.join(known) or 'nothing'}"


def _complaint(error: Any) -> str:
    """One pydantic error in our words."""
    path, kind = tuple(error["loc"]), error["type"]
    dotted = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return f"{dotted}: unknown key; {_nearest(path)}"
    if kind == "missing":
        return f"{dotted}: missing; it must be given"
    if kind == "value_error":
        return f"{dotted}: {error['ctx']['error']}" if dotted else str(error["ctx"]["error"])
    wanted = error["msg"].replace("Input should be", "expected").replace("a valid i", "an i").replace("a valid ", "a ")
    if kind in ("model_type", "model_attributes_type"):
        wanted = f"expected a mapping of {', '.join(_sections((*path, '')))}"
    given = error["input"]
    if (
        isinstance(given, str)
        and kind in ("int_type", "float_type", "bool_type")
        and given.replace(".", "", 1).isdigit()
    ):
        wanted += " (without quotes)"
    shown = "nothing" if given is None else "a mapping" if isinstance(given, dict) else repr(given)
    return f"{dotted}: {wanted}, got {shown}"


def _explain(error: ValidationError, name: str, lines: dict[KeyPath, int], given: set[KeyPath]) -> str:
    """The first error, with file and line or the ``--set`` that it came from, and how many more there are."""
    # A misspelt key is told before the missing one that it was meant to be.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    more = error.error_count() - 1
    # A union such as ``str | list[str]`` adds the name of its branch to the path; keys are what the file has.
    path = tuple(first["loc"])
    first["loc"] = path = tuple(p for p in path if p not in ("str", "list[str]"))
    inside = next((g for g in sorted(given, key=len) if g[: len(path)] == path), None)
    while path and path not in lines and path not in given:
        path = path[:-1]
    if not path and inside is not None:
        path = inside  # the section was made by ``--set``
    complaint = _complaint(first)
    if path in given:
        dotted = ".".join(map(str, path))
        complaint = complaint if complaint.startswith(dotted) else f"{dotted}: {complaint}"
        where = "--set"
    else:
        where = f"{name}:{lines[path]}:" if path in lines else f"{name}:"
    return f"{where} {complaint}" + (f" (and {more} more)" if more else "")


def _absolute(config: Config) -> Config:
    """Make paths absolute: a run directory must not depend on where it was started from."""

    def here(path: str) -> str:
        return str(Path(path).expanduser().absolute())

    def source(given: Source | None) -> Source | None:
        if given is None:
            return None
        if given.hub is not None:
            local = Path(given.hub).expanduser()
            return given.model_copy(update={"hub": str(local.absolute()) if local.is_dir() else given.hub})
        targets = [here(t) for t in given.targets]
        target = targets if isinstance(given.target, list) else targets[0]
        return given.model_copy(update={"source": here(given.source or ""), "target": target})

    data = config.data
    splits = {split: source(getattr(data, split)) for split in ("train", "valid", "test")}
    return config.model_copy(update={"data": data.model_copy(update=splits), "run_dir": here(config.run_dir)})


def config_file(argument: Path) -> Path:
    """The YAML file that CONFIG or RUN means: itself, or the one in a run directory. Raises ConfigError."""
    if argument.is_dir():
        inner = argument / "config.yaml"
        if not inner.is_file():
            raise ConfigError(f"{argument}: not a run directory (it has no config.yaml)")
        return inner
    if not argument.exists():
        raise ConfigError(f"{argument}: no such configuration file or run directory")
    return argument


def load_config(argument: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, or that of a run directory, and apply ``--set`` overrides.

    Raises ConfigError naming file, line and key, what was expected, and the nearest known key.
    """
    path = config_file(argument)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    tree, lines = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of {', '.join(Config.model_fields)}")
    given = {_apply(tree, assignment, lines) for assignment in overrides}
    if argument.is_dir() and ("run_dir",) not in given:
        tree["run_dir"] = str(argument)  # wherever it was moved to
    if isinstance(tree.get("model"), str):
        tree["model"] = {"size": tree["model"]}
    try:
        return _absolute(Config.model_validate(tree))
    except ValidationError as error:
        raise ConfigError(_explain(error, str(path), lines, given)) from error
