"""Train MarianMT of Hugging Face transformers by a loop of our own: batches by length, fused AdamW, autocast."""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, MarianConfig

from benchmarks.peers.meter import Window
from benchmarks.peers.work import (
    BATCH_TOKENS,
    BOS,
    CLIP_NORM,
    DROPOUT,
    EOS,
    FEED_FORWARD,
    HEADS,
    LABEL_SMOOTHING,
    LAYERS,
    LEARNING_RATE,
    PAD,
    WIDTH,
    Work,
)

Pair = tuple[list[int], list[int]]


def make_model(work: Work) -> nn.Module:
    """The model of the work, with random weights."""
    config = MarianConfig(
        vocab_size=work.vocabulary,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FEED_FORWARD,
        decoder_ffn_dim=FEED_FORWARD,
        activation_function="relu",
        dropout=DROPOUT,
        attention_dropout=0.0,
        activation_dropout=0.0,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    torch.manual_seed(1)
    # On a CPU and at these lengths two products and a softmax are faster than PyTorch's fused attention.
    return AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager")  # type: ignore[no-any-return]


def batches(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """Pairs of similar length, without end: all are shuffled, sorted by length, cut, and the batches shuffled."""
    rng = random.Random(1)
    while True:
        rng.shuffle(pairs)
        order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
        cut, longest = list[list[Pair]](), 0
        for pair in order:
            longest = max(longest, len(pair[1]) + 1)  # sorted: of the batch that is being filled
            if not cut or (len(cut[-1]) + 1) * longest > BATCH_TOKENS:
                cut.append([])
            cut[-1].append(pair)
        rng.shuffle(cut)
        yield from cut


def padded(rows: list[list[int]], fill: int) -> Tensor:
    """Lists of ids as a matrix."""
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def main() -> None:
    """Train until the window is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    work = Work.load(options.folder)
    model = make_model(work).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    smoothed = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING, ignore_index=PAD)
    pairs = list(zip(work.ids("source"), work.ids("target"), strict=True))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    window = Window(options.seconds, parameters=parameters, pairs=len(pairs))
    for batch in batches(pairs):
        source = padded([[*ids, EOS] for ids, _ in batch], PAD)
        target_in = padded([[BOS, *ids] for _, ids in batch], PAD)
        target_out = padded([[*ids, EOS] for _, ids in batch], PAD)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = model(
                input_ids=source, attention_mask=source.ne(PAD), decoder_input_ids=target_in, use_cache=False
            ).logits
            loss = smoothed(logits.flatten(0, 1), target_out.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        window.update(int(target_out.ne(PAD).sum()))


if __name__ == "__main__":
    main()
