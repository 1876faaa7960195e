"""Whether the work was equal, and the table."""

from typing import Any

from benchmarks.peers.work import BATCH_TOKENS, OUTPUT_TOKENS, Work

_NAMES = {"mt": "mt", "eole": "Eole", "hf": "HF transformers", "ctranslate2": "CTranslate2"}


def check(summary: dict[str, Any], work: Work) -> list[str]:
    """What was not the same for every engine; nothing when the comparison is fair."""
    unequal = list[str]()
    training = [result for result in summary["results"] if result["task"] == "training"]
    decoding = [result for result in summary["results"] if result["task"] == "decoding"]
    ours = [turn["parameters"] for result in training if result["engine"] == "mt" for turn in result["turns"]]
    for result in training:
        for turn in result["turns"]:
            name = f"training, {result['engine']} {result['precision']}"
            if ours and abs(turn["parameters"] / ours[0] - 1) > 0.02:
                unequal.append(f"{name}: {turn['parameters']:,} parameters, mt has {ours[0]:,}")
            if turn["pairs"] != work.pairs:
                unequal.append(f"{name}: {turn['pairs']:,} training pairs, expected {work.pairs:,}")
            if not 0.8 * BATCH_TOKENS < turn["tokens"] / turn["updates"] <= 1.05 * BATCH_TOKENS:
                unequal.append(f"{name}: {turn['tokens'] / turn['updates']:,.0f} target tokens an update")
    for result in decoding:
        name = f"decoding, {result['engine']} {result['precision']}, batch {result['batch']} beam {result['beam']}"
        if result["sentences"] != len(work.sentences(result["batch"])):
            unequal.append(f"{name}: {result['sentences']} sentences")
        if lengths := {n for turn in result["turns"] for n in turn["lengths"]} - {OUTPUT_TOKENS}:
            unequal.append(f"{name}: outputs of {sorted(lengths)} tokens, not {OUTPUT_TOKENS}")
        if result["precision"] == "float32" and result.get("same", 1) < 0.95:
            unequal.append(f"{name}: {result['same']:.0%} of the translations are those of mt in float32")
    return unequal


def markdown(summary: dict[str, Any]) -> str:
    """The tables."""
    rates, flops = summary["gigaflops"], summary["flops_per_target_token"]
    lines = [
        f"Products of matrices, one core: {rates['float32']:.0f} GFLOP/s float32, {rates['bfloat16']:.0f} bfloat16. "
        f"Medians of turns; training is {flops / 1e6:.1f} MFLOP a target token.",
        "",
    ]
    training = [result for result in summary["results"] if result["task"] == "training"]
    if training:
        lines += [
            "| training | precision | target tokens / CPU-s | / wall s | share of products | peak MB | parameters "
            "| tokens an update |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for result in training:
            speed, turns = result["tokens_per_cpu_second"], result["turns"]
            update = sum(turn["tokens"] for turn in turns) / sum(turn["updates"] for turn in turns)
            lines.append(
                f"| {_NAMES[result['engine']]} | {result['precision']} | {speed:,.0f} "
                f"| {result['tokens_per_second']:,.0f} | {speed * flops / rates[result['precision']] / 1e9:.0%} "
                f"| {result['peak_mb']:,.0f} | {turns[0]['parameters']:,} | {update:,.0f} |"
            )
        lines.append("")
    decoding = [result for result in summary["results"] if result["task"] == "decoding"]
    if decoding:
        searches = list(dict.fromkeys((result["batch"], result["beam"]) for result in decoding))
        heads = " | ".join(f"batch {batch}, {'greedy' if beam == 1 else f'beam {beam}'}" for batch, beam in searches)
        lines += [
            f"| decoding: output tokens / CPU-s (/ wall s; peak MB) | precision | {heads} |",
            f"|---|---|{'---|' * len(searches)}",
        ]
        found = {(r["engine"], r["precision"], r["batch"], r["beam"]): r for r in decoding}
        for engine, precision in dict.fromkeys((r["engine"], r["precision"]) for r in decoding):
            cells = [
                f"{r['tokens_per_cpu_second']:,.0f} ({r['tokens_per_second']:,.0f}; {r['peak_mb']:,.0f})"
                if (r := found.get((engine, precision, *search)))
                else "–"
                for search in searches
            ]
            lines.append(f"| {_NAMES[engine]} | {precision} | {' | '.join(cells)} |")
        same = [f"{_NAMES[r['engine']]} {r['precision']} {r['same']:.0%}" for r in decoding
                if "same" in r and (r["batch"], r["beam"]) == searches[-1]]  # fmt: skip
        if same:
            lines += ["", f"Translations equal to mt's in float32, of the last column: {', '.join(same)}."]
        lines.append("")
    return "\n".join(lines)
