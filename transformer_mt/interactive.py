"""Translating what comes in: a file, a pipe that may stay open, or a person at a prompt."""

import json
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any, TextIO

from transformer_mt.checkpoint import MANIFEST, Checkpoints
from transformer_mt.config import Config
from transformer_mt.data.corpus import decode_line, one_line, read_lines
from transformer_mt.data.sentences import split_sentences
from transformer_mt.errors import DataError, MtError, system_fault, unreadable
from transformer_mt.output_file import OutputFile, is_file
from transformer_mt.rundir import RunDirectory, sha256
from transformer_mt.terminal import bar, say, warn
from transformer_mt.translate import Translation, Translator, Wanted
from transformer_mt.workers import AllCores

_AT_ONCE = 2048  # lines of a pipe taken together, if they are there already
_PARAGRAPH = 3  # sentences on a line


@dataclass(frozen=True)
class Job:
    """What to write of each line: ``nbest`` translations, with scores or as JSON, or those of its sentences joined."""

    nbest: int = 1
    scores: bool = False
    json: bool = False
    split: bool = False

    @property
    def lines(self) -> int:
        """Lines of output a line of input."""
        return 1 if self.json else self.nbest

    def outputs(
        self,
        translator: Translator,
        lines: Iterable[str],
        progress: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> Iterator[str]:
        """The output for each line: an object of JSON, or ``nbest`` lines, filled up with the last."""
        sources, lines = tee(lines)
        wanted = Wanted(self.nbest, scores=self.scores, tokens=self.json)
        if self.split:
            parts = translator.stream_sentences(lines, wanted, progress, first)
            for number, (source, sentences) in enumerate(zip(sources, parts, strict=True), start=first + 1):
                joined = translator.joined(sentences)
                listed = [{"source": text, "translations": [_as_json(found)]} for text, found in sentences]
                answer = {"line": number, "source": source, "translation": joined, "sentences": listed}
                yield json.dumps(answer, ensure_ascii=False) if self.json else joined
            return
        found = translator.stream(lines, wanted, progress, first)
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

    def __init__(self, translator: Translator, longest: int, first: int = 0) -> None:
        self._translator, self._longest = translator, longest  # pieces of a line that training has seen
        self._first = self._lines = first
        self._paragraphs = 0

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
            seen = self._lines - self._first
            warn(f"{self._paragraphs:,} of {seen:,} lines look like paragraphs; see --split")


def translate(
    config: Config, checkpoint: str, file: Path | None, output: Path | None, job: Job, *, resume: bool = False
) -> None:
    """Translate a file, standard input, or at a prompt, where standard input and output are a terminal.

    With ``resume``, file and output must be files; a translation that was interrupted goes on where it was.
    """
    name = Checkpoints(RunDirectory(Path(config.run_dir)).checkpoints).resolve(checkpoint)  # best may soon be another
    to: Path | OutputFile | None = output
    if output is not None and is_file(output):
        to = _output_file(output, config, name, file, job)
        if resume and file is not None and to.is_complete(job.lines * sum(1 for _ in read_lines(file))):
            warn(f"{output}: is there already, with all its lines and newer than text and checkpoint; nothing is done, "
                 "but with which options it was made is not known (without --resume, it is made anew)")  # fmt: skip
            return
    with _opened(to, resume=resume) as out, AllCores.from_config(config, name) as translator:
        if file is None and output is None and sys.stdin.isatty() and sys.stdout.isatty():
            _prompt(translator, job, config.data.max_length)
        else:
            _stream(translator, file, out, job, config.data.max_length)


def _output_file(output: Path, config: Config, checkpoint: str, file: Path | None, job: Job) -> OutputFile:
    """The file that will hold a translation; that of a ``file`` can be resumed.

    Its origin is all that translations depend on: neither the device nor ``batch_size`` (on a CPU, in float32).
    """
    if file is None or not file.is_file():
        return OutputFile(output)
    manifest = RunDirectory(Path(config.run_dir)).checkpoints / checkpoint / MANIFEST
    try:
        text = sha256(file)
    except OSError as error:
        raise DataError(unreadable(file, error)) from error
    origin = {
        "the SHA-256 of the input": text,
        "the checkpoint": f"{checkpoint} {sha256(manifest)}",
        **{f"--{option}": value for option, value in asdict(job).items()},
        **{f"languages.{side}": code for side, code in config.languages.model_dump().items()},
        **{f"decoding.{key}": value for key, value in config.decoding.model_dump(exclude={"batch_size"}).items()},
    }
    return OutputFile(output, origin, [file, manifest])


@contextmanager
def _opened(output: Path | OutputFile | None, *, resume: bool) -> Iterator[TextIO | OutputFile]:
    """Where translations go: an output file, what is at a path and no file, standard output."""
    if isinstance(output, OutputFile):
        with output.writing(resume=resume):
            yield output
    elif output is not None:
        try:
            with output.open("w", encoding="utf-8", newline="\n") as out:
                yield out
        except BrokenPipeError:  # its reader has enough
            raise
        except OSError as error:
            error.filename = f"--output {output}"
            raise system_fault(error) from error
    else:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale says
        yield sys.stdout


def _stream(translator: Translator, file: Path | None, out: TextIO | OutputFile, job: Job, longest: int) -> None:
    """Translate a file, after the lines whose output is kept, or a pipe as it comes (standard input).

    Warns of lines of several sentences or of more than ``longest`` pieces.
    """
    first = out.kept if isinstance(out, OutputFile) else 0
    watch = _Watch(translator, longest, first)
    see = iter if job.split else watch.see
    if file is not None and not file.is_fifo():
        total = _count(translator, read_lines(file), job) if file.is_file() else None  # a device is read once
        done = _count(translator, islice(read_lines(file), first), job) if first else 0
        with bar("translating", total, "sentences" if job.split else "lines", done) as progress:
            outputs = job.outputs(translator, see(islice(read_lines(file), first, None)), progress.advance, first)
            for number, text in enumerate(outputs, start=1):
                out.write(text + "\n")
                if isinstance(out, OutputFile) and number % translator.chunk == 0:  # so that batches stay the same
                    out.keep(first + number)
    else:
        for lines in _arriving(_standard_input() if file is None else read_lines(file)):
            for text in job.outputs(translator, see(lines), first=first):
                out.write(text + "\n")
            out.flush()
            first += len(lines)
    watch.end()
    out.flush()


def _count(translator: Translator, lines: Iterable[str], job: Job) -> int:
    """How many lines, or sentences, there are."""
    if not job.split:
        return sum(1 for _ in lines)
    return sum(len(split_sentences(line, translator.languages.source)) for line in lines)


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


def _prompt(translator: Translator, job: Job, longest: int) -> None:
    """Read sentences from a person, with history and line editing, until an empty end of input (Ctrl-D)."""
    import readline  # noqa: F401  input() then has history

    say("Type a sentence and press Enter; Ctrl-D ends.", style="dim")
    watch, first = _Watch(translator, longest), 0
    see = iter if job.split else watch.see
    while True:
        try:
            line = one_line(input("> "))  # a byte that is not UTF-8 becomes U+FFFD
        except EOFError:
            print(file=sys.stderr)
            return
        for text in job.outputs(translator, see([line]), first=first):
            print(text, flush=True)
        first += 1
