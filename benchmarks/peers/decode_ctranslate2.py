"""Translate with CTranslate2, with the weights that ``mt`` decodes with."""

import argparse
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import safetensors.numpy
import sentencepiece
from ctranslate2.specs import TransformerSpec

from benchmarks.peers.meter import decode
from benchmarks.peers.work import HEADS, LAYERS, OUTPUT_TOKENS, WIDTH, Work

Weights = dict[str, npt.NDArray[np.float32]]


def convert(work: Work, weights: Weights, folder: Path) -> None:
    """Write a model of CTranslate2 from a pre-norm one with tied embeddings and sinusoidal positions."""

    def norm(spec: Any, name: str) -> None:
        spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def linear(spec: Any, *names: str) -> None:
        spec.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
        spec.bias = np.concatenate([weights[f"{name}.bias"] for name in names])

    def feed_forward(spec: Any, layer: str) -> None:
        norm(spec.layer_norm, f"{layer}.feed_forward_residual.norm")
        linear(spec.linear_0, f"{layer}.feed_forward.inner")
        linear(spec.linear_1, f"{layer}.feed_forward.outer")

    def self_attention(spec: Any, residual: str, name: str) -> None:
        norm(spec.layer_norm, f"{residual}.norm")
        linear(spec.linear[0], *(f"{name}.{part}" for part in ("query", "key", "value")))
        linear(spec.linear[1], f"{name}.output")

    spec = TransformerSpec.from_config(LAYERS, HEADS, pre_norm=True)
    for half, name in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        half.scale_embeddings = np.float32(WIDTH**0.5)
        half.position_encodings.encodings = weights["positions"]
        norm(half.layer_norm, f"{name}_norm")
    embedding = weights["source_embedding.weight"]
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = spec.decoder.projection.weight = embedding
    for number in range(LAYERS):
        layer, name = spec.encoder.layer[number], f"encoder.{number}"
        self_attention(layer.self_attention, f"{name}.attention_residual", f"{name}.attention")
        feed_forward(layer.ffn, name)
        layer, name = spec.decoder.layer[number], f"decoder.{number}"
        self_attention(layer.self_attention, f"{name}.self_residual", f"{name}.self_attention")
        norm(layer.attention.layer_norm, f"{name}.cross_residual.norm")
        linear(layer.attention.linear[0], f"{name}.cross_attention.query")
        linear(layer.attention.linear[1], f"{name}.cross_attention.key", f"{name}.cross_attention.value")
        linear(layer.attention.linear[2], f"{name}.cross_attention.output")
        feed_forward(layer.ffn, name)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)
    pieces = [tokenizer.id_to_piece(number) for number in range(work.vocabulary)]
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = 1e-5
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def main() -> None:
    """Translate until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "int8"])
    parser.add_argument("seconds", type=float)
    parser.add_argument("batch", type=int)
    parser.add_argument("beam", type=int)
    options = parser.parse_args()
    work = Work.load(options.folder)
    convert(work, safetensors.numpy.load_file(options.folder / "model.safetensors"), options.folder / "ctranslate2")
    translator = ctranslate2.Translator(
        str(options.folder / "ctranslate2"), compute_type=options.precision, inter_threads=1, intra_threads=1
    )
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)

    def translate(lines: list[str]) -> tuple[list[str], list[int]]:
        results = translator.translate_batch(
            tokenizer.encode(lines, out_type=str),
            beam_size=options.beam,
            max_batch_size=options.batch,
            min_decoding_length=OUTPUT_TOKENS,
            max_decoding_length=OUTPUT_TOKENS,
        )
        outputs = [result.hypotheses[0] for result in results]
        return tokenizer.decode(outputs), [len(output) for output in outputs]

    decode(translate, work.sentences(options.batch), options.batch, options.seconds)


if __name__ == "__main__":
    main()
