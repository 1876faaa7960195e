"""Checkpoints: written whole or not at all, checked when read, never unpickled.

A checkpoint is a folder with ``model.safetensors``, for training also ``optimizer.safetensors`` and ``training.json``,
and ``manifest.json``, written last, with the SHA-256 of the others and of itself. ``last`` and ``best`` beside the
folders are text files: a name and the SHA-256 of its manifest.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from transformer_mt import __version__
from transformer_mt.errors import ArtefactError, ConfigError, SystemFault, remedy
from transformer_mt.rundir import read_json, sha256, sync_directory, write_atomically
from transformer_mt.sealed import seal, unseal
from transformer_mt.terminal import warn

_OTHER = "choose another checkpoint"
_STEP = re.compile(r"step-\d+")
_NEW, _OLD = ".tmp", ".old.tmp"  # after a dot and the name of a checkpoint: it is being saved, deleted
MODEL, OPTIMIZER, TRAINING, MANIFEST = "model.safetensors", "optimizer.safetensors", "training.json", "manifest.json"


class Checkpoints:
    """The checkpoints of a run; ``guard`` raises SystemFault where they are no longer ours to change."""

    def __init__(self, directory: Path, guard: Callable[[], None] = lambda: None) -> None:
        self.directory, self._guard = directory, guard

    def names(self) -> list[str]:
        """Steps that are saved whole, oldest first."""
        names = [path.parent.name for path in self.directory.glob(f"step-*/{MANIFEST}")]
        return sorted(filter(_STEP.fullmatch, names), key=lambda name: int(name.removeprefix("step-")))

    def planned(self) -> list[str]:
        """Those that were saved when it was time, not because a signal came; without those of a damaged manifest."""
        planned = []
        for name in self.names():
            with suppress(ArtefactError):
                if not self.manifest(name).get("unplanned"):
                    planned.append(name)
        return planned

    def save(
        self,
        name: str,
        weights: Mapping[str, Tensor],
        about: dict[str, Any],
        optimizer: Mapping[str, Tensor] | None = None,
        training: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint under a temporary name, flush it, and rename it. Raises SystemFault."""
        self._guard()
        place, temporary = self.directory / name, self.directory / f".{name}{_NEW}"
        try:
            _remove(temporary)
            temporary.mkdir(parents=True)
            safetensors.torch.save_file(_contiguous(weights), temporary / MODEL)
            if optimizer is not None:
                safetensors.torch.save_file(_contiguous(optimizer), temporary / OPTIMIZER)
            if training is not None:
                (temporary / TRAINING).write_text(json.dumps(training, indent=1), encoding="utf-8")
            files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
            # Killed before ``last`` and ``best`` know of it, the new one is told from damage by what it replaces.
            replaces = {"replaces": sha256(place / MANIFEST)} if (place / MANIFEST).exists() else {}
            manifest = {"name": name, "version": __version__, **about, **replaces, "files": files}
            (temporary / MANIFEST).write_text(seal(manifest), encoding="utf-8")
            for path in temporary.iterdir():
                path.chmod(0o666 & ~_umask())  # safetensors writes private files
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            sync_directory(temporary)
            self._guard()  # to write took its time
            replaced = self._set_aside(name)
            temporary.replace(place)
            sync_directory(self.directory)
            sync_directory(self.directory.parent)  # the first checkpoint made the folder
            _remove(replaced)
            for pointer in ("last", "best"):  # what meant the one that was replaced means the new one
                if self._meant(pointer) == name:
                    self.point(pointer, name)
        except (OSError, safetensors.SafetensorError) as error:
            _remove(temporary)
            number = _errno(error)
            reason = str(error) if number is None else os.strerror(number)
            raise SystemFault(
                f"{place}: cannot be saved, but what was saved before is whole: {reason}; {remedy(number)}"
            ) from error

    def point(self, pointer: str, name: str) -> None:
        """Let ``last`` or ``best`` mean the checkpoint ``name``."""
        self._guard()
        write_atomically(self.directory / pointer, f"{name} {sha256(self.directory / name / MANIFEST)}\n")

    def prune(self, keep: int) -> None:
        """Delete all steps but the newest ``keep`` planned ones and what ``last`` and ``best`` mean, and leftovers.

        While one of the two is damaged no step is deleted: it may be the one that was meant.
        """
        self._guard()
        try:
            pointed = {self._target(pointer)[0] for pointer in ("last", "best") if (self.directory / pointer).exists()}
            pointed.update(self.planned()[-keep:])
            for name in self.names():
                if name not in pointed:
                    _remove(self._set_aside(name))
        except ArtefactError as error:
            warn(f"{str(error).rpartition('; ')[0]}; no checkpoint is deleted until a better one is saved")
        for path in self.directory.glob(".*.tmp"):
            _remove(path)

    def _set_aside(self, name: str) -> Path:
        """Take the name away from a checkpoint, if it is there, before it is deleted: no half of one has a name."""
        place, aside = self.directory / name, self.directory / f".{name}{_OLD}"
        if place.exists():
            _remove(aside)
            place.replace(aside)
        return aside

    def _meant(self, pointer: str) -> str | None:
        """What ``last`` or ``best`` means; None where it is missing or damaged."""
        try:
            return self._target(pointer)[0]
        except ArtefactError:
            return None

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
            if not manifest.is_file() or digest not in (sha256(manifest), self.manifest(target).get("replaces")):
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
        """The checkpoint to go on from: what ``last`` means or, with a warning, the newest that is intact.

        None when nothing is saved. Raises ArtefactError when nothing is intact.
        """
        self._finish_saving()
        if not (self.directory / "last").exists() and not any(self.directory.glob("step-*")):
            return None
        try:
            self._target("last")  # which is no mistake of the user's when it is missing
            name = self.resolve("last")
            self._check(name)
            return name
        except ArtefactError as error:
            fault = error
        damage = str(fault).rpartition("; ")[0]
        for name in reversed(self.names()):
            try:
                self._check(name)
            except ArtefactError:
                continue
            warn(f"{damage}, so that 'last' cannot be used; going on from {name}")
            return name
        raise ArtefactError(
            f"{damage}, and no other checkpoint is intact; copy the run directory again, or start anew with --overwrite"
        ) from fault

    def _finish_saving(self) -> None:
        """Give its name to a step that is whole, though we were killed while it was saved, or while it was replaced."""
        for ending in (_NEW, _OLD):
            for path in self.directory.glob(f".step-*{ending}"):
                name = path.name[1:].removesuffix(ending)
                if _STEP.fullmatch(name) and not (self.directory / name).exists():
                    with suppress(ArtefactError):
                        self._check(path.name)
                        path.replace(self.directory / name)

    def _check(self, name: str) -> None:
        for file in (MODEL, OPTIMIZER, TRAINING):
            self._checked(name, file)

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a checkpoint, checked. Raises ArtefactError."""
        path = self.directory / name / MANIFEST
        try:
            manifest = unseal(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "damaged"
            raise ArtefactError(f"{path}: {reason}; {_OTHER}") from error
        if not isinstance(manifest.get("files"), dict):
            raise ArtefactError(f"{path}: damaged; {_OTHER}")
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
        state = read_json(self._checked(name, TRAINING))
        if not isinstance(state, dict):
            raise ArtefactError(f"{self.directory / name / TRAINING}: not the state of a training; {_OTHER}")
        return _load(self._checked(name, OPTIMIZER)), state

    def average(self, names: Iterable[str], *others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean of the weights of several checkpoints, and of others that are not saved yet."""
        mean: dict[str, Tensor] = {}
        for count, weights in enumerate(chain(map(self.weights, names), others), start=1):
            for key, value in _contiguous(weights).items():
                # A running mean in float64: the result does not depend on rounding along the way.
                mean[key] = value.double() if count == 1 else mean[key] + (value.double() - mean[key]) / count
        return {key: value.float() for key, value in mean.items()}


def _errno(error: OSError | safetensors.SafetensorError) -> int | None:
    """The number of a system's error, which safetensors has in its words only."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"os error (\d+)", str(error))
    return int(told[1]) if told else None


def _remove(path: Path) -> None:
    """Delete a folder or a file, as far as that is possible; of a link, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


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
