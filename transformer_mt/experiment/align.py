"""What a run attends to: a sentence as a heat map, picture or JSON; a file as links, or how many of them are wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from torch import Tensor

from transformer_mt.alignment import Alignment, Link, alignments, error_rates, links, matrix
from transformer_mt.config import Config, Source
from transformer_mt.data.corpus import one_line, read_lines, read_pairs
from transformer_mt.data.links import parse_links
from transformer_mt.errors import ConfigError, DataError
from transformer_mt.heat_map import LEGEND, heat_map
from transformer_mt.model.decoded import alignment_layer
from transformer_mt.picture import draw
from transformer_mt.terminal import bar, say
from transformer_mt.translate import TEXT, Translator
from transformer_mt.workers import AllCores


class View(NamedTuple):
    """What to look at: a layer and a head, from 1, or by default one layer and the mean of its heads; words or pieces.

    ``json`` asks for the weights of all layers and heads instead.
    """

    layer: int | None = None
    head: int | None = None
    pieces: bool = False
    json: bool = False

    def of(self, config: Config) -> "View":
        """With the head that guided alignment taught, where none is asked for."""
        taught = config.training.guided_alignment and (self.layer, self.head) == (None, None)
        return self._replace(head=1) if taught else self

    def check(self, translator: Translator) -> None:
        """Raise ConfigError where the model has no such layer or head, or no attention."""
        [nothing] = alignments(translator, [""], [""])
        for name, number, count in zip(("layer", "head"), self[:2], nothing.weights.shape[:2], strict=True):
            if number is not None and number > count:
                advice = f"choose from 1 to {count}" if count > 1 else "leave it out"
                raise ConfigError(f"--{name} {number}: the model has only {count}; {advice}")

    def numbers(self, layers: int) -> tuple[int, int | None]:
        """The layer and the head from 0, of a model with so many layers."""
        layer = alignment_layer(layers) if self.layer is None else self.layer - 1
        return layer, None if self.head is None else self.head - 1

    def matrix(self, alignment: Alignment) -> Tensor:
        """The weights [T, S] that are looked at."""
        return matrix(alignment.weights, *self.numbers(len(alignment.weights)))

    def name(self, layers: int) -> str:
        """What is looked at, in words."""
        return f"layer {self.numbers(layers)[0] + 1}, " + ("all heads" if self.head is None else f"head {self.head}")


def align_sentence(
    config: Config, checkpoint: str, source: str, target: str | None, view: View, output: Path | None
) -> None:
    """Show the alignment of a sentence with its translation, the best that is found unless one is given.

    On the terminal, as JSON, or as a picture in ``output``.
    """
    source = one_line(source)
    translator = Translator.from_config(config, checkpoint)
    view.check(translator)
    [target] = translator.translate([source]) if target is None else [one_line(target)]
    [alignment] = alignments(translator, [source], [target], pieces=view.pieces)
    if not alignment.weights.numel():
        raise DataError("SENTENCE: it or its translation has no words; give text")
    seen, name = view.matrix(alignment), view.name(len(alignment.weights))
    if view.json:
        print(_as_json(alignment))
    elif output is not None:
        draw(alignment.source, alignment.target, seen, name, output)
        say(f"{target}\ndrawn in {output}")
    else:
        console = Console(highlight=False, soft_wrap=True)
        width = console.width if console.is_terminal else None
        for line in heat_map(alignment.source, alignment.target, seen, width):
            console.print(line)
        console.print(f"{name}: {LEGEND}", style="dim")


def align_file(config: Config, checkpoint: str, source: Path, target: Path | None, view: View) -> None:
    """Print the links of each pair of two files as Pharaoh's ``i-j``, or its weights as JSON, a line a pair.

    Without a second file the first is translated.
    """
    with AllCores.from_config(config, checkpoint) as translator:
        view.check(translator)
        if target is not None:
            pairs = list(read_pairs(Source(source=str(source), target=str(target)), config.languages))
            sources, targets = [pair[0] for pair in pairs], [pair[1][0] for pair in pairs]
        else:
            sources = list(read_lines(source))
            with bar("translating", len(sources), "lines") as progress:
                targets = [best[0].text for best in translator.stream(sources, TEXT, progress.advance)]
        if not sources:
            raise DataError(f"{source}: is empty; give lines to align")
        with bar("aligning", len(sources), "lines") as progress:
            for alignment in alignments(translator, sources, targets, pieces=view.pieces, progress=progress.advance):
                print(_as_json(alignment) if view.json else _as_pharaoh(links(view.matrix(alignment))))


def _as_pharaoh(found: list[Link]) -> str:
    return " ".join(f"{source}-{target}" for source, target in found)


def _as_json(alignment: Alignment) -> str:
    weights = alignment.weights.double().round(decimals=4).tolist()
    answer = {"source": alignment.source, "target": alignment.target, "weights": weights}
    return json.dumps(answer, ensure_ascii=False)


def gold_rates(
    config: Config, translator: Translator, source: Path, target: Path, gold: Path
) -> tuple[int, list[list[float]]]:
    """The number of pairs of two files, and the alignment error rates of :func:`error_rates` against their links."""
    pairs = list(read_pairs(Source(source=str(source), target=[str(target), str(gold)]), config.languages))
    if not pairs:
        raise DataError(f"{source}: is empty; give lines to align")
    sources, targets = [pair[0] for pair in pairs], [pair[1][0] for pair in pairs]
    with bar("aligning", len(pairs), "lines") as progress:
        found = list(alignments(translator, sources, targets, progress=progress.advance))
    numbered = enumerate(zip(pairs, found, strict=True), start=1)
    true = [
        parse_links(texts[1], (len(of_pair.source), len(of_pair.target)), f"{gold}:{number}")
        for number, ((_, texts), of_pair) in numbered
    ]
    return len(pairs), error_rates([of_pair.weights for of_pair in found], true)


def align_gold(config: Config, checkpoint: str, source: Path, target: Path, gold: Path, view: View) -> Iterator[str]:
    """The lines of a table: the alignment error rate of every head, and of the mean of a layer's heads."""
    translator = Translator.from_config(config, checkpoint)
    view.check(translator)
    count, rates = gold_rates(config, translator, source, target, gold)
    best = min(map(min, rates))
    yield f"alignment error rate, {count:,} pairs"
    yield _row("", [*(f"head {n}" for n in range(1, len(rates[0]))), "all heads"])
    for number, row in enumerate(rates, start=1):
        yield _row(f"layer {number}", [("* " if rate == best else "") + f"{rate:.3f}" for rate in row])
    if view.layer is not None or view.head is not None:
        layer, head = view.numbers(len(rates))
        yield f"{view.name(len(rates))}: {rates[layer][-1 if head is None else head]:.3f}"


def _row(label: str, cells: list[str]) -> str:
    return f"{label:8}" + "".join(f"{cell:>11}" for cell in cells)
