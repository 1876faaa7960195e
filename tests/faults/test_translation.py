"""Translating a file: whatever interrupts it, `--resume` goes on, and the result is that of an uninterrupted one."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.conftest import PATIENCE, failed, run_in_process, toy_pairs, wait_for, write_lines
from transformer_mt.output_file import OutputFile
from transformer_mt.rundir import sha256

if TYPE_CHECKING:
    from tests.conftest import Mt, Result

CHUNK, LINES = 32, 240  # lines that are sorted together, and kept together; lines of the file
PROGRAM = f"""
import os
from transformer_mt import __main__ as mt, parallel, translate, workers
translate._READ_AHEAD = {CHUNK // 8}
if processes := int(os.environ["PROCESSES"]):
    workers.processes = lambda: processes
    parallel.PAYS = 0.0  # seconds
mt.main()
"""
SETTINGS = ["--set", "decoding.beam_size=2"]
PARAGRAPH = "Ar mako kist. El bilu balm! In tofi torf?"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformer_mt.translate._READ_AHEAD", CHUNK // 8)
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to translate, with blank lines and a paragraph among its last."""
    lines = [pair[0] for pair in toy_pairs(LINES, seed=3)]
    lines[7] = lines[100] = lines[101] = lines[-1] = ""
    lines[-10] = PARAGRAPH
    return write_lines(tmp_path_factory.mktemp("text") / "in", lines)


def whole(tiny_run: Path, text: Path, *options: object) -> str:
    """The translation that nothing interrupts."""
    result = run_in_process("translate", tiny_run, text, *SETTINGS, *options)
    assert result.code == 0, result.err
    return result.out


@pytest.fixture(scope="module")
def expected(tiny_run: Path, text: Path) -> str:
    return whole(tiny_run, text)


@pytest.fixture
def start(tiny_run: Path, text: Path, tmp_path: Path, start_session: Start) -> Start:
    """Start translating the file into ``out``."""

    def begin(*options: object, processes: int = 0, before: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, "translate", tiny_run, text, "--output", tmp_path / "out"]
        words = [*command, *SETTINGS, *options]
        if before:
            words = ["sh", "-c", f'{before}; exec "$@"', "sh", *words]
        return start_session(words, env={**os.environ, "PROCESSES": str(processes)})

    return begin


def kept(folder: Path) -> int:
    """The lines that are safe."""
    record = folder / "out.partial.json"
    return int(json.loads(record.read_text(encoding="utf-8"))["lines"]) if record.exists() else 0


def wait_for_more(process: subprocess.Popen[bytes], folder: Path, than: int) -> None:
    wait_for(lambda: kept(folder) > than or process.poll() is not None)


def finished(process: subprocess.Popen[bytes], folder: Path, expected: str) -> str:
    """Assert that a process has made the whole file, and left nothing else; return what it said."""
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, b""), err
    assert (folder / "out").read_bytes() == expected.encode()
    assert [path.name for path in folder.iterdir()] == ["out"]
    return err.decode()


# --- what ends the process


@pytest.mark.parametrize(
    ("kills", "processes", "options"),
    [
        (2, 0, []),
        pytest.param(12, 0, [], marks=pytest.mark.slow),
        pytest.param(4, 2, [], marks=pytest.mark.slow),
        pytest.param(4, 0, ["--nbest", "2", "--scores"], marks=pytest.mark.slow),
        pytest.param(4, 2, ["--split", "--json"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_killed_at_any_moment_it_goes_on(
    start: Start, tiny_run: Path, text: Path, tmp_path: Path, kills: int, processes: int, options: list[str]
) -> None:
    draw, expected = random.Random(f"{kills} {processes} {options}"), whole(tiny_run, text, *options)
    for _ in range(kills):
        before = kept(tmp_path)
        process = start("--resume", *options, processes=processes)
        if draw.random() < 0.8:  # else at the start of the program
            wait_for_more(process, tmp_path, than=before)
        time.sleep(draw.random() / 4)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (tmp_path / "out").exists():  # it was faster: once more
            assert (tmp_path / "out").read_bytes() == expected.encode()
            for path in tmp_path.iterdir():
                path.unlink()
        else:
            assert kept(tmp_path) >= before
    finished(start("--resume", *options, processes=processes), tmp_path, expected)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_told_with_how_to_go_on(
    start: Start, tmp_path: Path, expected: str, number: signal.Signals, code: int
) -> None:
    process = start()
    wait_for_more(process, tmp_path, than=0)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, b"")
    lines = kept(tmp_path)
    assert lines and lines % CHUNK == 0
    said = {143: "stopped by SIGTERM", 130: "interrupted"}[code]
    assert err.decode() == f"error: {said}; start again when you like (--resume goes on after line {lines:,})\n"
    told = finished(start("--resume"), tmp_path, expected)
    assert told.startswith(f"{tmp_path / 'out'}: resuming after line {lines:,}\n")
    assert f"warning: line {LINES - 9} looks like a paragraph" in told


def test_a_full_file_system_is_told_with_how_to_go_on(start: Start, tmp_path: Path, expected: str) -> None:
    process = start(before="ulimit -f 8")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err.count(b"\n")) == (6, b"", 1)
    assert err.startswith(f"error: {tmp_path / 'out'}: File too large; ".encode())
    assert f"(--resume goes on after line {kept(tmp_path):,})".encode() in err
    finished(start("--resume"), tmp_path, expected)


def test_a_full_disk_is_told_with_how_to_go_on(mt: Mt, tiny_run: Path, text: Path, tmp_path: Path) -> None:
    """A real one, in memory, which only root may mount."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        failed(
            go_on(mt, tiny_run, text, disk, "--json"),
            6,
            str(disk / "out"),
            "No space left on device; make room (--resume ",
        )
        lines = kept(disk)
        assert lines
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        result = go_on(mt, tiny_run, text, disk, "--json", "--resume")
        assert (result.code, contents(disk)) == (0, {"out": whole(tiny_run, text, "--json").encode()})
        assert f"resuming after line {lines:,}\n" in result.err
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_bar_begins_with_what_is_done(left: Path, mt: Mt, tiny_run: Path, text: Path, start_mt: Start) -> None:
    lines = kept(left)
    ours, theirs = os.openpty()
    arguments = ["translate", tiny_run, text, "--output", left / "out", *SETTINGS, "--resume"]
    process = start_mt(*arguments, stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    with suppress(OSError):  # the other side is closed
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f" {lines}/{LINES}".encode() in shown
    assert f" 0/{LINES}".encode() not in shown


# --- what is found when it goes on


@pytest.fixture(scope="module")
def killed(tiny_run: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed translation left; not to be changed."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", PROGRAM, "translate", tiny_run, text, "--output", folder / "out", *SETTINGS]
    with subprocess.Popen(list(map(str, command)), env={**os.environ, "PROCESSES": "0"}) as process:
        wait_for_more(process, folder, than=CHUNK)
        process.kill()
    assert {path.name for path in folder.iterdir()} == {"out.partial", "out.partial.json"}
    return folder


@pytest.fixture
def left(killed: Path, tmp_path: Path) -> Path:
    """A copy of it: in another folder it can go on as well."""
    return Path(shutil.copytree(killed, tmp_path / "left"))


def go_on(mt: Mt, tiny_run: Path, text: Path, left: Path, *options: object) -> Result:
    return mt("translate", tiny_run, text, "--output", left / "out", *SETTINGS, *options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nbest", "2"], ["--nbest is 2 but was 1"]),
        (["--json", "--set", "decoding.length_penalty=0.5"],
         ["--json is True but was False", "decoding.length_penalty is 0.5 but was 1.0"]),
        (["--split"], ["--split is True but was False"]),
        (["--checkpoint", "step-000040"], ["the checkpoint is step-000040", "but was step-0000"]),
        (["--set", "languages.target=de"], ["languages.target is de but was yy"]),
    ],
    ids=str,
)  # fmt: skip
def test_other_options_are_refused_by_name(
    mt: Mt, tiny_run: Path, text: Path, left: Path, options: list[str], words: list[str]
) -> None:
    before = contents(left)
    failed(go_on(mt, tiny_run, text, left, "--resume", *options), 4, f"{left / 'out.partial'}: ", *words, "; ")
    assert contents(left) == before


def test_other_text_is_refused(mt: Mt, tiny_run: Path, text: Path, left: Path, tmp_path: Path) -> None:
    """Even when only the last line, which was not translated yet, has changed."""
    before = contents(left)
    (tmp_path / "other").write_bytes(text.read_bytes() + b"os suda\n")
    failed(go_on(mt, tiny_run, tmp_path / "other", left, "--resume"), 4, "the SHA-256 of the input is ")
    assert contents(left) == before


def test_another_model_of_the_same_name_is_refused(
    mt: Mt, tiny_run: Path, text: Path, left: Path, tmp_path: Path
) -> None:
    """Here it is only another manifest, which tells them apart."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    best = run / "checkpoints" / "best"
    name = best.read_text(encoding="utf-8").split()[0]
    manifest = run / "checkpoints" / name / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    best.write_text(f"{name} {sha256(manifest)}\n", encoding="utf-8")
    before = contents(left)
    failed(go_on(mt, run, text, left, "--resume"), 4, f"the checkpoint is {name} ", f"but was {name} ")
    assert contents(left) == before


def test_the_batch_size_may_change(mt: Mt, tiny_run: Path, text: Path, left: Path, expected: str) -> None:
    """It is what lack of memory wants changed."""
    result = go_on(mt, tiny_run, text, left, "--resume", "--set", "decoding.batch_size=5")
    assert result.code == 0, result.err
    assert contents(left) == {"out": expected.encode()}


def test_what_was_written_but_not_kept_is_cut_off(
    mt: Mt, tiny_run: Path, text: Path, left: Path, expected: str
) -> None:
    with (left / "out.partial").open("ab") as file:
        file.write(b"two lines, one of them\nto")
    assert go_on(mt, tiny_run, text, left, "--resume").code == 0
    assert contents(left) == {"out": expected.encode()}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_never_gone_on_with(mt: Mt, tiny_run: Path, text: Path, left: Path, seed: int) -> None:
    """A bit flipped, or the end cut off, of the lines kept or of their record."""
    draw = random.Random(seed)
    path = left / draw.choice(["out.partial", "out.partial.json"])
    data = bytearray(path.read_bytes())
    if draw.random() < 0.3:
        data = data[: draw.randrange(1, len(data) - 1 if path.suffix == ".json" else size_kept(left))]
    else:
        data[draw.randrange(len(data) if path.suffix == ".json" else size_kept(left))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    before = contents(left)
    failed(go_on(mt, tiny_run, text, left, "--resume"), 4, str(left / "out.partial"), "leave out --resume")
    assert contents(left) == before


def size_kept(folder: Path) -> int:
    return int(json.loads((folder / "out.partial.json").read_text(encoding="utf-8"))["bytes"])


def test_without_resume_it_starts_anew_and_says_so(
    mt: Mt, tiny_run: Path, text: Path, left: Path, expected: str
) -> None:
    flip(left / "out.partial", 3)
    result = go_on(mt, tiny_run, text, left)
    assert (result.code, contents(left)) == (0, {"out": expected.encode()})
    assert result.err.startswith(f"warning: {left / 'out.partial'}: left by an earlier attempt; starting anew")


@pytest.mark.parametrize("gone", ["out.partial", "out.partial.json", "both"])
def test_nothing_to_resume_is_told(mt: Mt, tiny_run: Path, text: Path, left: Path, expected: str, gone: str) -> None:
    for path in left.iterdir():
        if gone in (path.name, "both"):
            path.unlink()
    result = go_on(mt, tiny_run, text, left, "--resume")
    assert (result.code, contents(left)) == (0, {"out": expected.encode()})
    assert result.err.startswith(f"{left / 'out'}: nothing to resume; starting from the beginning\n")


def test_a_complete_file_is_left_as_it_is(mt: Mt, tiny_run: Path, text: Path, left: Path) -> None:
    """Even if the record was left, by a kill just after the file was put in its place."""
    record = (left / "out.partial.json").read_bytes()
    assert go_on(mt, tiny_run, text, left, "--resume").code == 0
    (left / "out").write_bytes((left / "out").read_bytes().upper())  # to be told from one that is made again
    before = contents(left)
    (left / "out.partial.json").write_bytes(record)
    result = go_on(mt, tiny_run, text, left, "--resume")
    assert (result.code, contents(left)) == (0, before)
    assert result.err.startswith(f"warning: {left / 'out'}: is there already, with all its lines and newer than text")
    assert "with which options it was made is not known" in result.err  # there is no record any more


@pytest.mark.parametrize("how", ["older than the text", "a line less"])
def test_a_file_of_the_same_name_is_made_again(
    mt: Mt, tiny_run: Path, text: Path, tmp_path: Path, expected: str, how: str
) -> None:
    write_lines(tmp_path / "out", ["old"] * (LINES - (how == "a line less")))
    if how == "older than the text":
        os.utime(tmp_path / "out", ns=(0, text.stat().st_mtime_ns - 1))
    assert go_on(mt, tiny_run, text, tmp_path, "--resume").code == 0
    assert contents(tmp_path) == {"out": expected.encode()}


def test_two_do_not_write_the_same_file(mt: Mt, tiny_run: Path, text: Path, left: Path) -> None:
    before = contents(left)
    with (left / "out.partial").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for options in ([], ["--resume"]):
            failed(go_on(mt, tiny_run, text, left, *options), 6, f"{left / 'out.partial'}: another process")
    assert contents(left) == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("ending", ["put in its place", "given up"])
def test_what_another_process_ends_while_this_one_begins_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, resume: bool
) -> None:
    """Between the opening of ``out.partial`` and its lock, the name may go over to the finished file."""
    out, lock, calls = OutputFile(tmp_path / "out", {}), fcntl.flock, list[int]()

    def late(file: BinaryIO, operation: int) -> None:
        if not calls:
            if ending == "given up":
                out.partial.unlink()
            else:
                out.partial.write_bytes(b"theirs\n")
                out.partial.replace(out.path)
        calls.append(operation)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with out.writing(resume=resume):
        out.write("ours\n")
        assert contents(tmp_path).get("out") == (b"theirs\n" if ending == "put in its place" else None)
        out.keep(1)
        assert out.partial.read_bytes() == b"ours\n"
    assert contents(tmp_path) == {"out": b"ours\n"}


@pytest.mark.parametrize("case", ["no output", "no file", "a device", "into a device"])
def test_a_pipe_cannot_be_resumed(mt: Mt, tiny_run: Path, text: Path, tmp_path: Path, case: str) -> None:
    arguments: list[object] = {
        "no output": [text],
        "no file": ["--output", tmp_path / "out"],
        "a device": ["/dev/null", "--output", tmp_path / "out"],
        "into a device": [text, "--output", "/dev/null"],
    }[case]  # type: ignore[assignment]
    failed(mt("translate", tiny_run, *arguments, "--resume", stdin="ar\n"), 2, "--resume: ", "; ")
    assert not list(tmp_path.iterdir())
