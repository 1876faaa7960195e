"""Train a Transformer of Hugging Face transformers for BLEU, with the settings of a configuration of `mt`.

Started by torchrun, its processes share every batch by PyTorch's DistributedDataParallel.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import sacrebleu
import sentencepiece
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForSeq2SeqLM, PegasusConfig

from benchmarks.peers.train_hf import batches, padded
from benchmarks.peers.work import BOS, EOS, PAD, Work

BATCH = 128  # sentences that are translated at once


def make_model(vocabulary: int, sizes: dict[str, Any]) -> nn.Module:
    """Pegasus is MarianMT with pre-norm layers, and so the same model as ours; weights are random."""
    config = PegasusConfig(
        vocab_size=vocabulary,
        d_model=sizes["width"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        encoder_ffn_dim=sizes["feed_forward"],
        decoder_ffn_dim=sizes["feed_forward"],
        activation_function=sizes["activation"],
        dropout=sizes["dropout"],
        attention_dropout=0.0,
        activation_dropout=0.0,
        init_std=sizes["width"] ** -0.5,  # as ours; the default, 0.02, is for wide models
        scale_embedding=True,
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    torch.manual_seed(1)
    return AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager")  # type: ignore[no-any-return]


def rate(step: int, peak: float, warmup: int) -> float:
    """Noam's curve (Vaswani et al. 2017, equation 3) scaled to a peak; steps count from 1."""
    return float(peak * min(step / warmup, (warmup / step) ** 0.5))


def translate(model: Any, pieces: Any, lines: list[str]) -> list[str]:
    """Greedy translations, in order; batches are of like length."""
    ids = pieces.encode(lines)
    texts = [""] * len(lines)
    order = sorted(range(len(lines)), key=lambda n: len(ids[n]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        source = padded([[*ids[n], EOS] for n in chosen], PAD)
        output: Tensor = model.generate(
            input_ids=source,
            attention_mask=source.ne(PAD),
            num_beams=1,
            do_sample=False,
            max_new_tokens=int(1.5 * source.shape[1]) + 10,
        )
        for n, row in zip(chosen, output.tolist(), strict=True):
            texts[n] = pieces.decode([i for i in row if i not in (PAD, BOS, EOS)])
    return texts


def main() -> None:
    """Train until the process is ended; ``metrics.jsonl`` has validations in the manner of `mt`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads, help="the sections model and training of mt's configuration")
    options = parser.parse_args()
    work, training = Work.load(options.folder), options.settings["training"]
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    alone: Any = make_model(work.vocabulary, options.settings["model"]).train()
    model = alone
    if processes > 1:
        distributed.init_process_group("gloo")
        model = DistributedDataParallel(alone, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=training["adam_betas"], weight_decay=training["weight_decay"], fused=True
    )
    smoothed = nn.CrossEntropyLoss(label_smoothing=training["label_smoothing"], ignore_index=PAD)
    pieces = sentencepiece.SentencePieceProcessor(model_file=work.tokenizer)
    sources, references = (
        (Path(work.run) / "data" / f"valid.{side}.txt").read_text(encoding="utf-8").splitlines()
        for side in ("source", "target")
    )
    pairs = list(zip(work.ids("source"), work.ids("target"), strict=True))
    (options.folder / "hf").mkdir(exist_ok=True)
    log = (options.folder / "hf" / "metrics.jsonl" if rank == 0 else Path(os.devnull)).open("w", buffering=1)
    begun = time.monotonic()
    for step, batch in enumerate((batch[rank::processes] for batch in batches(pairs)), start=1):
        source = padded([[*ids, EOS] for ids, _ in batch], PAD)
        target_in = padded([[BOS, *ids] for _, ids in batch], PAD)
        target_out = padded([[*ids, EOS] for _, ids in batch], PAD)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(
                input_ids=source, attention_mask=source.ne(PAD), decoder_input_ids=target_in, use_cache=False
            ).logits
            loss = smoothed(logits.flatten(0, 1), target_out.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training["clip_norm"])
        for group in optimizer.param_groups:
            group["lr"] = rate(step, training["learning_rate"], training["warmup_steps"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if rank:
            continue
        if step % training["log_every"] == 0:
            event = {"event": "train", "step": step, "loss": loss.item(), "seconds": time.monotonic() - begun}
            log.write(json.dumps(event) + "\n")
        if step % training["validate_every"] == 0:
            alone.eval()
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                texts = translate(alone, pieces, sources)
            alone.train()
            bleu = sacrebleu.corpus_bleu(texts, [references]).score
            log.write(json.dumps({"event": "valid", "step": step, "bleu": bleu}) + "\n")


if __name__ == "__main__":
    main()
