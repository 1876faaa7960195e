"""Fine-tuning: the first weights are the best ones of another run, ``training.start_from``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_mt import config
from transformer_mt.checkpoint import MANIFEST, Checkpoints, load_weights, model_weights
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.errors import ConfigError
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.rundir import RunDirectory, sha256
from transformer_mt.terminal import say


class Origin:
    """The best checkpoint of a run, to start from; ``about`` says which, for the manifests of the new run."""

    def __init__(self, run: str, settings: config.Model) -> None:
        """Raises ConfigError when ``run`` has no best checkpoint, or one of another model than ``settings``."""
        self._run, self._paths = run, RunDirectory(Path(run))
        self._checkpoints = Checkpoints(self._paths.checkpoints)
        try:
            self.name = self._checkpoints.resolve("best")
        except ConfigError as error:
            raise ConfigError(f"training.start_from: {run} has no best checkpoint yet; train it first") from error
        self._manifest = self._checkpoints.manifest(self.name)
        self._refuse_other_model(settings)

    @property
    def about(self) -> dict[str, str]:
        """Run, checkpoint and the SHA-256 of its manifest."""
        manifest = sha256(self._checkpoints.directory / self.name / MANIFEST)
        return {"run": self._run, "checkpoint": self.name, "manifest": manifest}

    def _refuse_other_model(self, settings: config.Model) -> None:
        free = {"size", "dropout", "max_positions"} - ({"max_positions"} if settings.learns_positions else set())
        now, trained = settings.model_dump(), config.as_trained(self._manifest.get("model"))
        if now["kind"] != trained.get("kind"):
            free = set(now) - {"kind"}
        changed = [
            f"model.{key} is {now[key]}, there {trained.get(key)}"
            for key in now
            if key not in free and now[key] != trained.get(key)
        ]
        if changed:
            raise ConfigError(
                f"training.start_from: {self._run} has another model: {', '.join(changed)}; leave them out to get that "
                "run's own"
            )

    def start(self, model: EncoderDecoder, tokenizer: Tokenizer) -> None:
        """Copy the weights into a fresh ``model``.

        With another tokenizer than that run's, pieces are matched by their text; the rows of those that only
        ``tokenizer`` has stay as they are. Raises ConfigError when one of the two is joint and the other is not,
        ArtefactError when something of the run is damaged.
        """
        theirs = Tokenizer.load(self._paths.tokenizer, self._manifest.get("tokenizer", {}))
        if theirs.joint != tokenizer.joint:
            there, here = ("joint", "separate") if theirs.joint else ("separate", "joint")
            raise ConfigError(
                f"training.start_from: {self._run} has {there} vocabularies, this run {here} ones; set "
                f"tokenizer.joint: {str(theirs.joint).lower()}"
            )
        weights = self._checkpoints.weights(self.name)
        if theirs.models == tokenizer.models:
            say(f"start_from {self._run}: the weights of {self.name}")
        else:
            self._match(weights, model_weights(model), theirs, tokenizer)
        load_weights(model, weights, f"{self._run}: {self.name}")

    def _match(self, weights: dict[str, Any], fresh: dict[str, Tensor], theirs: Tokenizer, ours: Tokenizer) -> None:
        """Put the rows of pieces that both have where ``ours`` has them."""
        for side in ("source",) if ours.joint else ("source", "target"):
            key, pieces = f"{side}_embedding.weight", ours.pieces(side)
            weights[key], shared = match_rows(fresh[key].detach(), weights[key], pieces, theirs.pieces(side))
            where = f"start_from {self._run}" if ours.joint else f"start_from {self._run}, {side}"
            rest = f"; the other {len(pieces) - shared:,} start untrained" if shared < len(pieces) else ""
            say(f"{where}: {shared:,} of {len(pieces):,} pieces are in both vocabularies{rest}")


def match_rows(fresh: Tensor, trained: Tensor, pieces: Sequence[str], known: Sequence[str]) -> tuple[Tensor, int]:
    """The rows [V, D] of ``pieces``: those of ``trained`` [V', D] for what is ``known``, else ``fresh`` ones.

    Also the number of pieces known.
    """
    number = {piece: row for row, piece in enumerate(known)}
    rows = [(row, number[piece]) for row, piece in enumerate(pieces) if piece in number]
    here, there = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T
    return fresh.clone().index_copy_(0, here, trained[there]), len(rows)
