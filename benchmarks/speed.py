"""How fast it trains and decodes here: own corpus, a model of size tiny, float32. `make bench` runs it."""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from transformer_mt.config import Config
from transformer_mt.config_file import load_config
from transformer_mt.data.batching import Batches, Position
from transformer_mt.data.fingerprint import fingerprint
from transformer_mt.data.prepare import prepare
from transformer_mt.data.sets import evaluation_set
from transformer_mt.data.store import Store
from transformer_mt.data.tokenizer import Tokenizer
from transformer_mt.special import PAD
from transformer_mt.training.loss import smoothed_cross_entropy
from transformer_mt.training.trainer import make_optimizer
from transformer_mt.translate import Translator, make_model

ROOT = Path(__file__).resolve().parents[1]


def train(config: Config, store: Store, tokenizer: Tokenizer, seconds: float) -> float:
    """Target tokens a second of training, after a warm-up of five steps."""
    model = make_model(config.model, tokenizer).train()
    optimizer = make_optimizer(model, config.training)
    batches = Batches(store, config.training.batch_tokens, config.training.device_tokens, seed=1)
    tokens, started = 0, time.perf_counter()
    for step, (buckets, _) in enumerate(batches.walk(Position())):
        if step == 5:
            tokens, started = 0, time.perf_counter()
        for bucket in buckets:
            batch = bucket.collate()
            real = batch.target_out != PAD
            hidden = model(batch.source, batch.target_in)[real]
            loss = smoothed_cross_entropy(hidden, model.projection, batch.target_out[real], 0.1)
            loss.smoothed.backward()  # type: ignore[no-untyped-call]
            tokens += len(hidden)
        optimizer.step()
        optimizer.zero_grad()
        if step > 5 and time.perf_counter() - started > seconds:
            break
    return tokens / (time.perf_counter() - started)


def decode(config: Config, tokenizer: Tokenizer, lines: list[str], beam: int) -> float:
    """Sentences a second; the model is untrained, so every translation has its longest length."""
    model = make_model(config.model, tokenizer).eval()
    decoding = config.decoding.model_copy(update={"beam_size": beam})
    translator = Translator(model, tokenizer, decoding, torch.device("cpu"))
    translator.translate(lines[:2])
    started = time.perf_counter()
    translator.translate(lines)
    return len(lines) / (time.perf_counter() - started)


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of training")
    parser.add_argument("--sentences", type=int, default=100, help="to decode")
    options = parser.parse_args()
    config = load_config(ROOT / "configs" / "demo.yaml")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        prepare(config, fingerprint(config), directory / "tokenizer", directory / "data")
        tokenizer, store = Tokenizer.load(directory / "tokenizer"), Store(directory / "data")
        print(f"threads {torch.get_num_threads()}, torch {torch.__version__}")
        print(f"training {train(config, store, tokenizer, options.seconds):,.0f} target tokens/s")
        lines, _ = evaluation_set(directory / "data", "test")
        for beam in (1, 5):
            speed = decode(config, tokenizer, lines[: options.sentences], beam)
            print(f"decoding, beam {beam}: {speed:,.1f} sentences/s of greatest length")


if __name__ == "__main__":
    main()
