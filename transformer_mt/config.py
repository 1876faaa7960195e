"""The configuration: one typed tree, YAML in, YAML out."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from transformer_mt.strict_yaml import dump_yaml

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are errors, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Languages(Section):
    """ISO 639-1 codes; the target's chooses the tokenizer of BLEU, both name the columns of hub data sets."""

    source: str = Field(min_length=1)
    target: str = Field(min_length=1)

    @field_validator("source", "target")
    @classmethod
    def _is_code(cls, code: str) -> str:
        if re.fullmatch(r"[A-Za-z]{4,}", code):  # "german" would be taken for a language that nothing is known of
            raise ValueError(f"'{code}' is not the code of a language; write its two or three letters, such as de")
        return code


class Source(Section):
    """A corpus: two text files, a TSV file, JSON lines, Parquet, or a data set of the hub; files may be gzip or xz."""

    source: str | None = None
    target: str | list[str] | None = None  # several references in test sets
    alignment: str | None = None  # word links of two text files, for training.guided_alignment
    tsv: str | None = None
    jsonl: str | None = None
    parquet: str | None = None
    hub: str | None = None  # owner/name, or a local data set folder
    name: str | None = None  # the hub data set's configuration
    split: str | None = None
    revision: str | None = None
    stream: bool = False  # read hub data once, without keeping a copy of it
    columns: list[int | str] | None = None  # source, then target; left out: 1 and 2, or the language codes
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)  # how often an epoch visits each pair

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("source", "tsv", "jsonl", "parquet", "hub") if getattr(self, kind) is not None]
        if kinds == ["source"] and not self.target:
            raise ValueError("'source' without 'target'; give the file of the translations, too")
        if len(kinds) != 1 or (kinds == ["source"]) != bool(self.target):
            raise ValueError(f"not one kind of source; expected one of {', '.join(KINDS)}")
        if self.hub is not None and "://" in self.hub:
            raise ValueError("hub: a URL, not a name; write OWNER/NAME, such as bentrevett/multi30k")
        if self.hub is None and (self.name is not None or self.split is not None or self.revision is not None):
            raise ValueError("'name', 'split' and 'revision' go with 'hub'; leave them out")
        if self.stream and (self.hub is None or self.split is None):
            raise ValueError("'stream' goes with 'hub' and 'split'; give both, or leave it out")
        if self.source is None and self.alignment is not None:
            raise ValueError("'alignment' goes with 'source' and 'target'; leave it out")
        return self

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.columns is None:
            return self
        if self.source is not None:
            raise ValueError("'columns' does not go with 'source' and 'target'; leave it out")
        numbers = [isinstance(column, int) and column > 0 for column in self.columns]
        if len(numbers) < 2 or not all(numbers if self.tsv is not None else [type(c) is str for c in self.columns]):
            kind = "numbers from 1 on" if self.tsv is not None else "names"
            raise ValueError(f"columns: expected a list of {kind}; that of the source comes first")
        return self

    @property
    def files(self) -> list[str]:
        """The paths of text, TSV, JSON and Parquet files, source first; none for the hub."""
        targets = [self.target] if isinstance(self.target, str) else list(self.target or ())
        return [path for path in (self.source, *targets, self.tsv, self.jsonl, self.parquet) if path is not None]

    @property
    def references(self) -> int:
        """How many translations of each source there are."""
        if self.source is not None:
            return len(self.files) - 1
        return 1 if self.columns is None else len(self.columns) - 1


KINDS = (
    "{source: FILE, target: FILE}",
    "{tsv: FILE}",
    "{jsonl: FILE}",
    "{parquet: FILE}",
    "{hub: OWNER/NAME, split: SPLIT}",
)

Rule = Literal["copies", "duplicates", "script", "control", "leaks"]


class Data(Section):
    """The corpora, and the rules that drop a training pair (see ``data/cleaning.py``)."""

    train: list[Source] = Field(min_length=1)
    valid: dict[str, Source] | None = Field(default=None, min_length=1)  # by name; left out: held out of train
    test: dict[str, Source] | None = Field(default=None, min_length=1)
    max_length: PositiveInt = 256  # pieces of either side, end token not counted
    max_ratio: Positive = 5.0  # of the longer to the shorter side, in pieces
    drop: list[Rule] = ["copies", "duplicates", "script", "control"]

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, values: Any) -> Any:
        """One corpus is a list of one; one set is called as its split."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("train"), dict):
            values["train"] = [values["train"]]
        for split in ("valid", "test"):
            given = values.get(split)
            if isinstance(given, dict) and not (given and all(isinstance(v, dict) for v in given.values())):
                values[split] = {split: given}
        return values

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        for split, sources in (("train", self.train), ("valid", (self.valid or {}).values())):
            if any(source.references > 1 for source in sources):
                raise ValueError(f"{split}: several references are for the test set only; give one")
        for name, source in (*(self.valid or {}).items(), *(self.test or {}).items()):
            if source.alignment is not None:
                raise ValueError(f"{name}: 'alignment' is for data.train only; leave it out")
        for name in (*(self.valid or ()), *(self.test or ())):
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"'{name}': not a name of a set; use letters, digits, '-' and '_'")
        return self

    def sets(self, split: str) -> dict[str, Source]:
        """The validation or test sets that are given: ``test``, or ``test.NAME`` for each of several."""
        given: dict[str, Source] = getattr(self, split) or {}
        return {name if name == split else f"{split}.{name}": source for name, source in given.items()}


class Tokenizer(Section):
    """SentencePiece: ``joint`` learns one vocabulary for both languages."""

    from_: str | None = Field(default=None, alias="from")  # a run whose tokenizer is used as it is
    kind: Literal["unigram", "bpe"] = "unigram"
    vocab_size: Annotated[int, Field(gt=0, le=1_000_000)] | None = None  # left out: chosen by the size of the corpus
    joint: bool = True
    normalization: Literal["identity", "nmt_nfkc"] = "identity"


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"layers": 4, "width": 128, "feed_forward": 256, "heads": 4},  # Wu et al. 2021, for Multi30k
    "small": {"layers": 6, "width": 512, "feed_forward": 1024, "heads": 4},  # the IWSLT model
    "base": {"layers": 6, "width": 512, "feed_forward": 2048, "heads": 8},  # Vaswani et al. 2017
    "big": {"layers": 6, "width": 1024, "feed_forward": 4096, "heads": 16},
}


Score = Literal[  # the list of scores; each is the class of that name in model/scores.py
    "scaled_dot",
    "dot",
    "general",
    "additive",
    "concat",
]


class Transformer(Section):
    """The Transformer. ``size`` sets layers, width, feed_forward and heads; each can be overridden."""

    kind: Literal["transformer"] = "transformer"
    size: Literal["tiny", "small", "base", "big"] = "small"
    layers: int = Field(default=6, gt=0, le=1000)  # of the encoder, and as many of the decoder
    width: Width = 512
    feed_forward: Width = 1024
    heads: Width = 4
    dropout: Fraction = 0.1
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    norm: Literal["layer", "rms"] = "layer"
    norm_position: Literal["pre", "post"] = "pre"
    positions: Literal["sinusoidal", "learned", "rotary", "none"] = "sinusoidal"
    max_positions: PositiveInt = 1024  # rows of the table of learned positions
    score: Score = "scaled_dot"
    self_attention: Literal["full", "window", "linear"] = "full"
    window: PositiveInt = 8  # positions on either side that self_attention: window sees

    @model_validator(mode="before")
    @classmethod
    def _fill_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and str(size := values.get("size", "small")) in SIZES:
            return {**SIZES[str(size)], **values}
        return values

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not an even multiple of heads {self.heads}; change one of them")
        return self

    @property
    def learns_positions(self) -> bool:
        """Whether weights depend on ``max_positions``."""
        return self.positions == "learned"


class Recurrent(Section):
    """The recurrent encoder-decoder, bidirectional and with attention."""

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["gru", "lstm"] = "gru"
    layers: int = Field(default=1, gt=0, le=1000)  # of the encoder, and as many of the decoder
    width: Width = 512  # of a decoder state; each direction of the encoder has half of it
    dropout: Fraction = 0.2
    attention: Literal["soft", "local", "hard", "none"] = "soft"
    score: Score = "additive"
    window: PositiveInt = 10  # positions on either side of the centre that attention: local sees
    input_feeding: bool = True  # a decoder step reads what the one before it made of its attention

    learns_positions: ClassVar[bool] = False

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd; each direction of the encoder needs half of it")
        return self


Model = Annotated[Transformer | Recurrent, Field(discriminator="kind")]
MODELS: dict[str, type[Transformer] | type[Recurrent]] = {"transformer": Transformer, "recurrent": Recurrent}


def as_trained(model: Any) -> dict[str, Any]:
    """The model of a checkpoint's manifest, with the defaults of keys that did not exist when it was written.

    Nothing when it is none that this version knows.
    """
    try:
        model = {"kind": "transformer", **model}
        return MODELS[model["kind"]].model_validate(model).model_dump()
    except (KeyError, TypeError, ValueError):  # of pydantic, too
        return {}


class TeacherForcing(Section):
    """How often the decoder reads the target's token, and not its own: always, unless ``ratio`` or ``decay`` is set."""

    ratio: Share = 1.0  # the probability, at first
    decay: Literal["none", "linear", "exponential", "inverse_sigmoid"] = "none"
    half: PositiveInt = 10_000  # the step at which it has fallen to half of what it was
    least: Share = 0.0  # below which it does not fall


class Training(Section):
    """The training loop. The first limit to come ends the run; steps are updates of the weights."""

    batch_tokens: PositiveInt = 4096  # real target tokens of one update, end tokens included
    device_tokens: PositiveInt = 4096  # padded positions of either side that are held at once
    max_steps: PositiveInt | None = 100_000
    max_epochs: PositiveInt | None = None
    max_minutes: Positive | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    start_from: str | None = None  # a run whose best weights are the first ones
    subword_sampling: Fraction = 0.0  # BPE: the share of merges left out; unigram: the smoothing of Kudo (2018)
    schedule: Literal["noam", "inverse_sqrt", "linear", "constant"] = "noam"
    warmup_steps: PositiveInt = 1000
    learning_rate: Positive | None = None  # the peak; left out: Noam's own scale, D^-1/2 · warmup^-1/2
    label_smoothing: Fraction = 0.1
    guided_alignment: NonNegative = 0.0  # the weight of the loss that teaches attention the links of data.train
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
    teacher_forcing: TeacherForcing = TeacherForcing()
    samples: int = Field(default=3, ge=0, lt=2**31)  # validation sentences whose translation is shown
    tensorboard: bool = False  # curves in run_dir/tensorboard, too

    @model_validator(mode="before")
    @classmethod
    def _betas_from_yaml(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("adam_betas"), list):
            return {**values, "adam_betas": tuple(values["adam_betas"])}
        return values

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None:
            raise ValueError("the run has no end; set one of max_steps, max_epochs and max_minutes")
        if self.schedule == "linear" and self.max_steps is None:
            raise ValueError("schedule 'linear' falls to zero at max_steps; set max_steps")
        return self


class Decoding(Section):
    """Search. The score of a hypothesis is Σ log p / length^length_penalty, the end token counted."""

    beam_size: PositiveInt = 5
    length_penalty: float = Field(default=1.0, ge=0, le=10, allow_inf_nan=False)
    patience: Positive = 1.0  # a sentence ends when beam_size · patience hypotheses are finished
    batch_size: PositiveInt = 64
    precision: Literal["float32", "bfloat16", "int8"] = "float32"


class Config(Section):
    """The whole configuration of a run."""

    languages: Languages
    data: Data
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Transformer()
    training: Training = Training()
    decoding: Decoding = Decoding()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(default=1, ge=0, lt=2**32)
    run_dir: str = Field(min_length=1)

    @field_validator("model", mode="before")
    @classmethod
    def _kind_of_model(cls, values: Any) -> Any:
        return {"kind": "transformer", **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _positions_suffice(self) -> Self:
        model = self.model
        if isinstance(model, Transformer) and model.learns_positions and model.max_positions <= self.data.max_length:
            longest = self.data.max_length
            raise ValueError(
                f"model.max_positions {model.max_positions} is too small; it must exceed data.max_length {longest}"
            )
        return self

    @model_validator(mode="after")
    def _guide_is_there(self) -> Self:
        if not self.training.guided_alignment:
            return self
        if all(source.alignment is None for source in self.data.train):
            raise ValueError(
                "training.guided_alignment is set, but no corpus of data.train has word links; give their file, such "
                "as train: {source: FILE, target: FILE, alignment: FILE}"
            )
        if isinstance(self.model, Recurrent) and self.model.attention in ("hard", "none"):
            raise ValueError(
                f"training.guided_alignment teaches weights of positions, which model.attention {self.model.attention} "
                "does not have; take soft or local, or leave it out"
            )
        return self

    def to_yaml(self) -> str:
        """Write the configuration so that :func:`load_config` reads the same again."""
        tree = self.model_dump(mode="json", by_alias=True)
        # A source is read better without what it does not use, and alone without its list or name.
        train = [source.model_dump(mode="json", exclude_defaults=True) for source in self.data.train]
        tree["data"]["train"] = train[0] if len(train) == 1 else train
        for split in ("valid", "test"):
            given: dict[str, Source] = getattr(self.data, split) or {}
            sets = {name: source.model_dump(mode="json", exclude_defaults=True) for name, source in given.items()}
            tree["data"][split] = sets.get(split, sets or None) if len(sets) < 2 else sets
        return dump_yaml(tree)
