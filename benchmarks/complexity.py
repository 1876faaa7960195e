"""How time and memory of one layer grow with the length n of a sentence (Vaswani et al. 2017, table 1).

Self-attention takes O(n² · D) operations, a recurrent layer O(n · D²), a convolution of k positions O(k · n · D²),
self-attention of r neighbours O(r · n · D), and linear attention O(n · K · D) with heads of width K. A layer's
projections, O(n · D²), come on top of attention; so attention itself is measured without them, too.

Time is that of a forward and a backward pass on one core, in CPU-seconds a sentence, the least of several turns. A
batch has as many positions at every length; only the recurrent layer reads one sentence at a time, for it costs as many
steps however many there are. Memory is what a layer keeps of one sentence from the forward pass for the backward pass,
each storage counted once: it is exact, and it is what grows. Slopes are those of a line through the logarithms by least
squares. A table, the figures as JSON and, with Matplotlib, a plot are left in runs/bench-complexity. `make
bench-complexity` runs it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.drawing import panels, save
from transformer_mt.model.attention import Full, KeyValue, MultiHeadAttention
from transformer_mt.model.cells import GRU, read
from transformer_mt.model.fast_weights import FastWeights
from transformer_mt.model.scores import ScaledDot
from transformer_mt.model.window import Window

WIDTH, HEADS, RADIUS, KERNEL = 256, 4, 16, 3
HEAD_WIDTH = WIDTH // HEADS
POSITIONS = 4096  # of a batch

Pass = Callable[[], Tensor]  # the output of something that has a gradient

# Name: operations, and the slope that they predict, also of memory.
LAYERS = {
    "self-attention": ("O(n² · D)", 2),
    "recurrent": ("O(n · D²)", 1),
    "convolutional": ("O(k · n · D²)", 1),
    "restricted": ("O(r · n · D)", 1),
    "linear": ("O(n · K · D)", 1),
}
KINDS = (  # what is measured, its title, and what makes its unit of seconds and bytes
    ("layer", "one layer, CPU-ms a sentence", 1e3),
    ("attention", "attention itself, CPU-ms a sentence", 1e3),
    ("memory", "kept by one layer, MB a sentence", 1e-6),
)
ATTENTION = [name for name in LAYERS if name not in ("recurrent", "convolutional")]


def make_mix(name: str) -> Full:
    """What mixes positions in self-attention of that name."""
    match name:
        case "restricted":
            return Window(ScaledDot(HEAD_WIDTH), RADIUS)
        case "linear":
            return FastWeights()
    return Full(ScaledDot(HEAD_WIDTH))


def make_layer(name: str, batch: int, length: int) -> tuple[nn.Module, Pass]:
    """A layer of width D, and a pass of it over random vectors."""
    torch.manual_seed(1)
    x = torch.randn(batch, length, WIDTH, requires_grad=True)
    if name == "recurrent":
        cell, real = GRU(WIDTH, WIDTH), torch.ones(batch, length, dtype=torch.bool)
        return cell, lambda: read(cell, x, real, backwards=False)[0]
    if name == "convolutional":
        convolution = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding="same")
        return convolution, lambda: convolution(x.transpose(1, 2)).transpose(1, 2)
    attention, bias = MultiHeadAttention(WIDTH, HEADS, make_mix(name)), torch.zeros(batch, 1, 1, length)
    return attention, lambda: attention.to_itself(x, bias, None)


def make_attention(name: str, batch: int, length: int) -> Pass:
    """A pass of attention itself, over random queries, keys and values."""
    torch.manual_seed(1)
    query, key, value = (torch.randn(batch, HEADS, length, HEAD_WIDTH, requires_grad=True) for _ in range(3))
    mix, bias = make_mix(name), torch.zeros(batch, 1, 1, length)
    return lambda: mix.among(query, KeyValue(mix.prepare(key), value), bias, causal=False)


def fastest(forward: Pass, turns: int) -> float:
    """The least CPU time of a forward and a backward pass, after one to get warm."""
    taken = []
    for _ in range(turns + 1):
        begun = time.process_time()
        output = forward()
        output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]
        taken.append(time.process_time() - begun)
    return min(taken[1:])


def kept_bytes(layer: nn.Module, forward: Pass) -> int:
    """What a pass keeps for its gradient, the weights of the layer left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x  # alive until they are counted, so that no address is used twice
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = forward()
    del output
    return sum(x.untyped_storage().nbytes() for address, x in kept.items() if address not in weights)


def slope(lengths: list[int], values: list[float]) -> float:
    """The slope of log value in log n."""
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def measure(lengths: list[int], turns: int) -> dict[str, Any]:
    """Seconds of layers and of attention itself, and bytes of layers, at each length; and their slopes."""
    measured: dict[str, dict[str, list[float]]] = {
        "layer": {name: [] for name in LAYERS},
        "attention": {name: [] for name in ATTENTION},
        "memory": {name: [] for name in LAYERS},
    }
    for n in lengths:
        batch = max(1, POSITIONS // n)
        for name in LAYERS:
            rows = 1 if name == "recurrent" else batch
            measured["layer"][name].append(fastest(make_layer(name, rows, n)[1], turns) / rows)
            measured["memory"][name].append(kept_bytes(*make_layer(name, 1, n)))
        for name in ATTENTION:
            measured["attention"][name].append(fastest(make_attention(name, batch, n), turns) / batch)
        print(f"n = {n} done", flush=True)
    return {
        "lengths": lengths,
        "torch": torch.__version__,
        **{
            kind: {name: {"values": values, "slope": slope(lengths, values)} for name, values in of_kind.items()}
            for kind, of_kind in measured.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lengths = result["lengths"]
    blocks = []
    for kind, title, factor in KINDS:
        rows = [f"| {title} | predicted | {' | '.join(f'n = {n}' for n in lengths)} | slope |"]
        rows.append("|---|---|" + "---:|" * (len(lengths) + 1))
        for name, of_name in result[kind].items():
            cells = " | ".join(f"{value * factor:,.2f}" for value in of_name["values"])
            operations, power = LAYERS[name]
            predicted = operations if kind != "memory" else "O(n²)" if power == 2 else "O(n)"
            rows.append(f"| {name} | {predicted} | {cells} | {of_name['slope']:.2f} |")
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw what was measured, and through the last point of each a line of the slope that is predicted."""
    if not (drawn := panels(3, 12, 4)):
        return
    lengths = np.array(result["lengths"])
    for panel, (kind, title, factor) in zip(drawn, KINDS, strict=True):
        for number, (name, (_, power)) in enumerate(LAYERS.items()):
            if name not in result[kind]:
                continue
            values = factor * np.array(result[kind][name]["values"])
            label = f"{name}, slope {result[kind][name]['slope']:.2f}"
            panel.plot(lengths, values, "o", markersize=4, color=f"C{number}", label=label)
            panel.plot(lengths, values[-1] * (lengths / lengths[-1]) ** power, "--", linewidth=1, color=f"C{number}")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(lengths, [str(n) for n in lengths])
        panel.set_xlabel("positions n; dashed: the slope predicted")
        panel.set_title(title, fontsize=10)
        panel.legend(fontsize=8, frameon=False)
    save(drawn[0], path)


def main() -> None:
    """Measure, and write ``result.md``, ``result.json`` and ``result.svg``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=4096, help="positions; lengths double from 256 on")
    parser.add_argument("--turns", type=int, default=5, help="after one to get warm; the fastest counts")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-complexity"), metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [256 << n for n in range((options.longest // 256).bit_length())]
    result = measure(lengths, options.turns)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.output / "result.md").write_text(table(result), encoding="utf-8")
    plot(result, options.output / "result.svg")
    print(table(result), end="")


if __name__ == "__main__":
    main()
