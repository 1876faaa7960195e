"""Which device to compute on, and in which precision."""

import os

import torch

from transformer_mt.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``mps`` means here. Raises ConfigError when it is not there.

    Of several GPUs, a process that torchrun has started takes its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is not available on this machine; choose auto or cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps is not available on this machine; choose auto or cpu")
    return torch.device(name, int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU that has it, else float32.

    Raises ConfigError for float16 without a CUDA GPU, and for int8 elsewhere than on a CPU.
    """
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name == "float16" and device.type != "cuda":
        raise ConfigError("training.precision: float16 needs a CUDA GPU; choose bfloat16 or float32")
    if name == "int8" and device.type != "cpu":
        raise ConfigError("decoding.precision: int8 is for the CPU; choose bfloat16 or float32")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}[name]
