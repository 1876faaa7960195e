"""Translating what comes in: a file, a pipe that may stay open, or a person at a prompt."""

import json
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any, TextIO

from transformer_mt.data.corpus import decode_line, read_lines
from transformer_mt.data.sentences import split_sentences
from transformer_mt.errors import MtError, system_fault
from transformer_mt.terminal import bar, say, warn
from transformer_mt.translate import Translation, Translator

_AT_ONCE = 2048  # lines of a pipe taken together, if they are there already
_PARAGRAPH = 3  # sentences on a line


@dataclass(frozen=True)
class Job:
    """What to write of each line: ``nbest`` translations, with scores or as JSON, or those of its sentences joined."""

    nbest: int = 1
    scores: bool = False
    json: bool = False
    split: bool = False

    def outputs(
        self,
        translator: Translator,
        lines: Iterable[str],
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[str]:
        """The output for each line: an object of JSON, or ``nbest`` lines, filled up with the last."""
        sources, lines = tee(lines)
        if self.split:
            parts = translator.stream_sentences(lines, progress, first, tokens=self.json)
            for number, (source, sentences) in enumerate(zip(sources, parts, strict=True), start=first + 1):
                joined = translator.joined(sentences)
                listed = [{"source": text, "translations": [_as_json(found)]} for text, found in sentences]
                answer = {"line": number, "source": source, "translation": joined, "sentences": listed}
                yield json.dumps(answer, ensure_ascii=False) if self.json else joined
            return
        found = translator.stream(lines, self.nbest, progress, first, tokens=self.json)
        for number, (source, translations) in enumerate(zip(sources, found, strict=True), start=first + 1):
            if self.json:
                answer = {"line": number, "source": source, "translations": [_as_json(t) for t in translations]}
                yield json.dumps(answer, ensure_ascii=False)
            else:
                filled = translations + translations[-1:] * (self.nbest - len(translations))
                yield "\n".join(f"{t.score:.4f}\t{t.text}" if self.scores else t.text for t in filled)


def _as_json(translation: Translation) -> dict[str, Any]:
    tokens = [{"piece": t.piece, "log_probability": round(t.log_probability, 6)} for t in translation.tokens]
    return {"text": translation.text, "score": round(translation.score, 6), "tokens": tokens}


class _Watch:
    """Warns of lines that look like paragraphs, of which a model that was trained on sentences drops much: once."""

    def __init__(self, translator: Translator, longest: int) -> None:
        self._translator, self._longest = translator, longest  # pieces of a line that training has seen
        self._lines = self._paragraphs = 0

    def see(self, lines: Iterable[str]) -> Iterator[str]:
        """The same lines, counted."""
        for line in lines:
            self._lines += 1
            if what := self._complaint(line):
                self._paragraphs += 1
                if self._paragraphs == 1:
                    warn(f"line {self._lines} {what}")
            yield line

    def _complaint(self, line: str) -> str | None:
        sentences = len(split_sentences(line, self._translator.languages.source))
        if sentences >= _PARAGRAPH:
            what = f"looks like a paragraph of {sentences} sentences"
            return f"{what}; models trained on sentences drop text; try --split"
        pieces = self._pieces(line)
        if self._longest < pieces < self._translator.longest:  # beyond, it is cut, with a warning of its own
            remedy = "try --split" if sentences > 1 else "split it by hand"
            return f"has {pieces} pieces, training saw {self._longest} at most; {remedy}"
        return None

    def _pieces(self, line: str) -> int:
        """The number of pieces of a line; 0 for one that is short for certain, as a piece is a byte or more."""
        return len(self._translator.tokenizer.encode_source([line])[0]) if len(line.encode()) >= self._longest else 0

    def end(self) -> None:
        """Tell how many there were, if there were more than the first."""
        if self._paragraphs > 1:
            warn(f"{self._paragraphs:,} of {self._lines:,} lines look like paragraphs; see --split")


def stream(translator: Translator, file: Path | None, output: Path | None, job: Job, longest: int) -> None:
    """Translate a file, or a pipe as it comes (standard input); an output file appears when it is complete.

    Warns of lines of several sentences or of more than ``longest`` pieces.
    """
    watch = _Watch(translator, longest)
    see = iter if job.split else watch.see
    with ExitStack() as stack:
        out: TextIO = sys.stdout
        temporary = None
        if output is not None:
            if output.is_file() or not output.exists():  # neither /dev/null nor a named pipe may be replaced
                output = output.resolve()
                temporary = output.with_name(f".{output.name}.tmp")
            try:
                out = stack.enter_context((temporary or output).open("w", encoding="utf-8", newline="\n"))
            except OSError as error:
                error.filename = str(output)
                raise system_fault(error) from error
            if temporary is not None:
                stack.callback(temporary.unlink, missing_ok=True)
        elif hasattr(out, "reconfigure"):
            out.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale says
        if file is not None and not file.is_fifo():
            with bar("translating", _count(translator, file, job), "sentences" if job.split else "lines") as progress:
                outputs = job.outputs(translator, see(read_lines(file)), progress.advance)
                out.writelines(line + "\n" for line in outputs)
        else:
            first = 0
            for lines in _arriving(_standard_input() if file is None else read_lines(file)):
                out.writelines(line + "\n" for line in job.outputs(translator, see(lines), first=first))
                out.flush()
                first += len(lines)
        watch.end()
        out.flush()
        if temporary is not None and output is not None:
            temporary.replace(output)


def _count(translator: Translator, file: Path, job: Job) -> int | None:
    """How many lines, or sentences, a file has; None for a device, which is read once."""
    if not file.is_file():
        return None
    if not job.split:
        return sum(1 for _ in read_lines(file))
    return sum(len(split_sentences(line, translator.languages.source)) for line in read_lines(file))


def _standard_input() -> Iterator[str]:
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        yield decode_line(raw, f"standard input:{number}", first=number == 1)


def _arriving(source: Iterator[str]) -> Iterator[list[str]]:
    """Lines as they come: one as soon as it is there, with all that are there already."""
    arrived: queue.Queue[str | MtError | None] = queue.Queue(maxsize=2 * _AT_ONCE)

    def read() -> None:
        try:
            for line in source:
                arrived.put(line)
        except MtError as error:
            arrived.put(error)
        except OSError as error:
            arrived.put(system_fault(error))
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        items = [arrived.get()]
        while len(items) < _AT_ONCE and not arrived.empty():
            items.append(arrived.get())
        lines = [item for item in items if isinstance(item, str)]
        if lines:
            yield lines
        if (last := items[-1]) is None:
            errors = [item for item in items if isinstance(item, MtError)]
            if errors:
                raise errors[0]
            return
        if isinstance(last, MtError):
            raise last


def prompt(translator: Translator, job: Job, longest: int) -> None:
    """Read sentences from a person, with history and line editing, until an empty end of input (Ctrl-D)."""
    import readline  # noqa: F401  input() then has history

    say("Type a sentence and press Enter; Ctrl-D ends.", style="dim")
    watch, first = _Watch(translator, longest), 0
    see = iter if job.split else watch.see
    while True:
        try:
            line = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        for text in job.outputs(translator, see([line]), first=first):
            print(text, flush=True)
        first += 1
