"""Checkpoints: written whole or not at all, checked when read, never unpickled.

A checkpoint is a folder with ``model.safetensors``, for training also ``optimizer.safetensors`` and ``training.json``,
and ``manifest.json``, written last, with the SHA-256 of the others. ``last`` and ``best`` beside the folders are text
files: a name and the SHA-256 of its manifest.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from transformer_mt import __version__
from transformer_mt.errors import ArtefactError, ConfigError, SystemFault
from transformer_mt.rundir import read_json, sha256, sync_directory, write_atomically
from transformer_mt.terminal import warn

_OTHER = "choose another checkpoint"
MODEL, OPTIMIZER, TRAINING, MANIFEST = "model.safetensors", "optimizer.safetensors", "training.json", "manifest.json"


class Checkpoints:
    """The checkpoints of a run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Steps that are saved whole, oldest first."""
        names = [path.parent.name for path in self.directory.glob(f"step-*/{MANIFEST}")]
        return sorted(names, key=lambda name: int(name.removeprefix("step-")))

    def save(
        self,
        name: str,
        weights: Mapping[str, Tensor],
        about: dict[str, Any],
        optimizer: Mapping[str, Tensor] | None = None,
        training: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint under a temporary name, flush it, and rename it. Raises SystemFault."""
        temporary = self.directory / f".{name}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            safetensors.torch.save_file(_contiguous(weights), temporary / MODEL)
            if optimizer is not None:
                safetensors.torch.save_file(_contiguous(optimizer), temporary / OPTIMIZER)
            if training is not None:
                (temporary / TRAINING).write_text(json.dumps(training, indent=1), encoding="utf-8")
            files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
            manifest = {"name": name, "version": __version__, **about, "files": files}
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in temporary.iterdir():
                path.chmod(0o666 & ~_umask())  # safetensors writes private files
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            sync_directory(temporary)
            shutil.rmtree(self.directory / name, ignore_errors=True)
            temporary.replace(self.directory / name)
            sync_directory(self.directory)
            for pointer in ("last", "best"):  # what meant the one that was replaced means the new one
                if (self.directory / pointer).exists() and self._target(pointer)[0] == name:
                    self.point(pointer, name)
        except (OSError, safetensors.SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error)
            raise SystemFault(
                f"{self.directory / name}: cannot be saved: {reason}; what was saved before is whole"
            ) from error

    def point(self, pointer: str, name: str) -> None:
        """Let ``last`` or ``best`` mean the checkpoint ``name``."""
        write_atomically(self.directory / pointer, f"{name} {sha256(self.directory / name / MANIFEST)}\n")

    def prune(self, keep: int) -> None:
        """Delete all steps but the newest ``keep`` and what ``last`` and ``best`` mean, and temporary leftovers."""
        pointed = {self._target(pointer)[0] for pointer in ("last", "best") if (self.directory / pointer).exists()}
        for name in self.names()[:-keep]:
            if name not in pointed:
                shutil.rmtree(self.directory / name, ignore_errors=True)
        for path in self.directory.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _target(self, pointer: str) -> tuple[str, str]:
        path = self.directory / pointer
        try:
            name, digest = path.read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise ArtefactError(f"{path}: damaged or unreadable; {_OTHER}") from error
        if "/" in name or name.startswith("."):
            raise ArtefactError(f"{path}: does not name a checkpoint; {_OTHER}")
        return name, digest

    def resolve(self, name: str) -> str:
        """The checkpoint that ``best``, ``last`` or a name means. Raises ConfigError when there is none."""
        if name in ("best", "last"):
            if not (self.directory / name).exists():
                advice = "try --checkpoint last" if self.names() else "train first"
                raise ConfigError(f"{self.directory}: no checkpoint '{name}' yet; {advice}")
            target, digest = self._target(name)
            manifest = self.directory / target / MANIFEST
            if not manifest.exists() or sha256(manifest) != digest:
                raise ArtefactError(
                    f"{self.directory / target}: damaged, or not the checkpoint that '{name}' was set to; {_OTHER}"
                )
            return target
        if "/" in name or not (self.directory / name / MANIFEST).is_file():
            known = ", ".join([*self.names(), *sorted(p.name for p in self.directory.glob("average-*"))])
            advice = f"choose one of {known}" if known else "train first"
            raise ConfigError(f"{self.directory}: no checkpoint '{name}'; {advice}")
        return name

    def newest(self) -> str | None:
        """The checkpoint to go on from: what ``last`` means or, with a warning, the newest intact one before it.

        None when nothing is saved. Raises ArtefactError when nothing is intact.
        """
        if not (self.directory / "last").exists() and not self.names():
            return None
        meant = None
        try:
            meant = self._target("last")[0]
            self._check(self.resolve("last"))
            return meant
        except ArtefactError as error:
            fault = error
        for name in reversed(self.names()):
            try:
                if name != meant:
                    self._check(name)
                    damage = str(fault).rpartition("; ")[0]
                    warn(f"{damage}, so that 'last' cannot be used; going on from {name}")
                    return name
            except ArtefactError:
                continue
        raise fault

    def _check(self, name: str) -> None:
        for file in (MODEL, OPTIMIZER, TRAINING):
            self._checked(name, file)

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a checkpoint. Raises ArtefactError."""
        manifest = read_json(self.directory / name / MANIFEST)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ArtefactError(f"{self.directory / name / MANIFEST}: damaged; {_OTHER}")
        return manifest

    def _checked(self, name: str, file: str) -> Path:
        """The path of a checkpoint's file, after its checksum was found to be the manifest's. Raises ArtefactError."""
        path = self.directory / name / file
        try:
            intact = sha256(path) == self.manifest(name)["files"].get(file)
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror}; {_OTHER}") from error
        if not intact:
            raise ArtefactError(f"{path}: damaged (its checksum is wrong); {_OTHER}")
        return path

    def weights(self, name: str) -> dict[str, Tensor]:
        """The weights of a checkpoint, checked. Raises ArtefactError."""
        return _load(self._checked(name, MODEL))

    def training(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimizer's tensors and the training state of a checkpoint, checked. Raises ArtefactError."""
        return _load(self._checked(name, OPTIMIZER)), read_json(self._checked(name, TRAINING))

    def average(self, names: Iterable[str], *others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean of the weights of several checkpoints, and of others that are not saved yet."""
        mean: dict[str, Tensor] = {}
        for count, weights in enumerate(chain(map(self.weights, names), others), start=1):
            for key, value in _contiguous(weights).items():
                # A running mean in float64: the result does not depend on rounding along the way.
                mean[key] = value.double() if count == 1 else mean[key] + (value.double() - mean[key]) / count
        return {key: value.float() for key, value in mean.items()}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtefactError(f"{path}: damaged or unreadable: {error}; {_OTHER}") from error


def model_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight once: a tied one has one name."""
    return dict(model.named_parameters())


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy weights into a model. Raises ArtefactError when they do not fit."""
    parameters = model_weights(model)
    for name in sorted({*parameters, *weights}):
        ours, theirs = (tuple(d[name].shape) if name in d else "nothing" for d in (parameters, weights))
        if ours != theirs:
            raise ArtefactError(
                f"{where}: does not fit the configured model: {name} is {theirs}, expected {ours}; use the "
                "configuration that it was trained with"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, such as ``exp_avg.encoder.0.…``."""
    return {
        f"{kind}.{name}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state[parameter].items()
    }


def load_optimizer(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put back what :func:`optimizer_tensors` gave. Raises ArtefactError when it does not fit."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        kind, _, name = key.partition(".")
        parameter = parameters.get(name)
        if parameter is None or value.numel() not in (1, parameter.numel()):
            raise ArtefactError(f"{where}: the optimizer's {key} does not fit the model; {_OTHER}")
        device = "cpu" if kind == "step" and parameter.device.type == "cpu" else parameter.device
        optimizer.state[parameter][kind] = value.to(device)
