"""The average of the checkpoints that a run has kept: ``mt average``."""

from pathlib import Path

from transformer_mt.checkpoint import Checkpoints
from transformer_mt.config import Config
from transformer_mt.errors import ConfigError
from transformer_mt.rundir import RunDirectory


def average(config: Config) -> str:
    """Average the checkpoints kept of a run into ``average-STEP``; return its name."""
    paths = RunDirectory(Path(config.run_dir))
    checkpoints = Checkpoints(paths.checkpoints)
    newest = checkpoints.resolve("last")
    with paths.lock():
        names = checkpoints.names()[-config.training.keep_last :]
        manifest = checkpoints.manifest(newest)
        name = f"average-{manifest['step']:06}"
        if (paths.checkpoints / name).exists():
            made_of = checkpoints.manifest(name).get("average_of", [])
            if made_of != names:
                raise ConfigError(
                    f"{paths.checkpoints / name}: is there already, of {', '.join(made_of)}; delete it first"
                )
        kept = {"step", "tokenizer", "model", "config", "start_from"}
        about = {key: value for key, value in manifest.items() if key in kept}
        checkpoints.save(name, checkpoints.average(names), {**about, "average_of": names})
    return name
