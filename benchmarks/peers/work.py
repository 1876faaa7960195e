"""The work that every engine does: one model, one corpus, one length of output. Any environment imports it."""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

LAYERS, WIDTH, HEADS, FEED_FORWARD = 3, 256, 4, 1024  # as many layers in the encoder as in the decoder
DROPOUT, LABEL_SMOOTHING, CLIP_NORM, LEARNING_RATE = 0.1, 0.1, 1.0, 1e-4
BATCH_TOKENS = 4096  # of target text an update; what is counted as one is each engine's own matter, and reported
PAD, UNK, BOS, EOS = range(4)
OUTPUT_TOKENS = 14  # of every translation: no engine may end one, all are cut there
BATCHED, SINGLE = 320, 32  # test sentences that are translated in batches of 64, and one by one


@dataclass(frozen=True)
class Work:
    """Where the corpus lies, and its sizes."""

    config: str  # of `mt`
    run: str  # its run directory, which `mt tokenize` has filled
    vocabulary: int
    pairs: int
    source_tokens: int  # of the training text, end tokens included
    target_tokens: int

    @classmethod
    def load(cls, folder: Path) -> "Work":
        """Read what :meth:`save` wrote."""
        return cls(**json.loads((folder / "work.json").read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        """Write ``work.json``."""
        (folder / "work.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def ids(self, side: str) -> list[list[int]]:
        """The pieces of every training line of ``source`` or ``target``, without begin and end tokens."""
        flat, offsets = (np.load(Path(self.run) / "data" / f"train.{side}.{part}.npy") for part in ("ids", "offsets"))
        return [flat[start:end].tolist() for start, end in pairwise(offsets)]

    @property
    def tokenizer(self) -> str:
        """The SentencePiece model."""
        return str(Path(self.run) / "tokenizer" / "joint.model")

    def sentences(self, batch: int) -> list[str]:
        """What is translated in batches of 64, or of 1: lines of the test set that have text."""
        text = (Path(self.run) / "data" / "test.source.txt").read_text(encoding="utf-8")
        return [line for line in text.split("\n") if line.strip()][: BATCHED if batch > 1 else SINGLE]

    @property
    def flops(self) -> float:
        """Floating-point operations of training, a target token: 6 a weight that takes part in a product.

        2 of the forward and 4 of the backward pass (Kaplan et al. 2020), the encoder's and those of keys and values of
        the source by the source tokens; attention's products of two activations and all element-wise work left out.
        """
        ratio = self.source_tokens / self.target_tokens
        square, feed_forward = WIDTH * WIDTH, 2 * WIDTH * FEED_FORWARD
        encoder = LAYERS * (4 * square + feed_forward) * ratio
        decoder = LAYERS * (6 * square + feed_forward + 2 * square * ratio)
        return 6 * (encoder + decoder + self.vocabulary * WIDTH)
