"""An environment of its own for each engine, from the package registry that pip is configured for."""

import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

_TORCH = "torch==2.13.0"  # named, so that pip looks for no newer one, which would be a build for GPUs
REQUIREMENTS = {
    "eole": [_TORCH, "eole==0.6.4", "aiohttp"],  # which eole needs and does not name
    "hf": [_TORCH, "transformers==5.23.0", "sentencepiece==0.2.3", "sacrebleu==2.6.0"],
    "ctranslate2": ["ctranslate2==4.8.5", "sentencepiece==0.2.3", "safetensors==0.8.0"],
    "plot": ["matplotlib==3.11.2"],
}


def python(engine: str, folder: Path) -> Path:
    """The interpreter of an engine's environment in ``folder``, which is made when it is not there; ours for ``mt``.

    ``PIP_ARGS`` of the environment is passed to pip, as in the Makefile.
    """
    if engine == "mt":
        return Path(sys.executable)
    directory, requirements = folder / engine, REQUIREMENTS[engine]
    interpreter, stamp = directory / "bin" / "python", directory / "requirements.txt"
    wanted = "\n".join(requirements)
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"installing {', '.join(requirements)} …", file=sys.stderr)
        venv.create(directory, clear=True, with_pip=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += shlex.split(os.environ.get("PIP_ARGS", ""))
        subprocess.run([*install, *requirements], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return interpreter
