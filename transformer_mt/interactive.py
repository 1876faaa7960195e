"""Translating what comes in: a file, a pipe that may stay open, or a person at a prompt."""

import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TextIO

from transformer_mt.data.corpus import decode_line, read_lines
from transformer_mt.errors import MtError, system_fault
from transformer_mt.terminal import bar, say
from transformer_mt.translate import Translator

_AT_ONCE = 2048  # lines of a pipe taken together, if they are there already


def _lines_of(hypotheses: list[tuple[str, float]], nbest: int, *, scores: bool) -> Iterator[str]:
    """The output lines for one input line: exactly ``nbest`` of them, filled up with the last."""
    for rank in range(nbest):
        text, score = hypotheses[min(rank, len(hypotheses) - 1)]
        yield f"{score:.4f}\t{text}" if scores else text


def stream(translator: Translator, file: Path | None, output: Path | None, nbest: int, *, scores: bool) -> None:
    """Translate a file, or standard input as it comes; an output file appears when it is complete."""
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
        if file is not None:
            total = sum(1 for _ in read_lines(file)) if file.is_file() else None  # a pipe is read once
            with bar("translating", total, "lines") as progress:
                for hypotheses in translator.stream(read_lines(file), nbest, progress.advance):
                    out.writelines(line + "\n" for line in _lines_of(hypotheses, nbest, scores=scores))
        else:
            first = 0
            for lines in _arriving(sys.stdin.buffer):
                for hypotheses in translator.stream(lines, nbest, first=first):
                    out.writelines(line + "\n" for line in _lines_of(hypotheses, nbest, scores=scores))
                out.flush()
                first += len(lines)
        out.flush()
        if temporary is not None and output is not None:
            temporary.replace(output)


def _arriving(file: BinaryIO) -> Iterator[list[str]]:
    """Lines as they come: one as soon as it is there, with all that are there already."""
    arrived: queue.Queue[str | MtError | None] = queue.Queue(maxsize=2 * _AT_ONCE)

    def read() -> None:
        try:
            for number, raw in enumerate(file, start=1):
                arrived.put(decode_line(raw, f"standard input:{number}", first=number == 1))
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


def prompt(translator: Translator, nbest: int, *, scores: bool) -> None:
    """Read sentences from a person, with history and line editing, until an empty end of input (Ctrl-D)."""
    import readline  # noqa: F401  input() then has history

    say("Type a sentence and press Enter; Ctrl-D ends.", style="dim")
    while True:
        try:
            line = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        hypotheses = next(translator.stream([line], nbest))
        for text in _lines_of(hypotheses, nbest, scores=scores):
            print(text, flush=True)
