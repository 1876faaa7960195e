"""Several processes that train one model, started by torchrun: what one suffers, all survive, or all end by it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from tests.conftest import PATIENCE, Mt, hashes, toy_tree, wait_for
from tests.faults.test_interruption import events, pointed
from transformer_mt.data.batching import Bucket
from transformer_mt.data.store import Pieces
from transformer_mt.training.distributed import Group

Write = Callable[..., Path]
Launch = Callable[..., "subprocess.Popen[str]"]

EXACT: dict[str, dict[str, Any]] = {
    "model": {"dropout": 0.0},
    "training": {"precision": "float32", "log_every": 1, "save_every": 10},
}
ENDLESS = {"training": {"max_steps": 1_000_000, "validate_every": 1_000_000, "save_every": 10, "log_every": 1}}


@pytest.fixture
def launch(start_session: Callable[..., "subprocess.Popen[str]"]) -> Launch:
    """Start ``mt train`` under torchrun with two processes."""

    def start(*arguments: object, options: tuple[str, ...] = (), script: Path | None = None) -> "subprocess.Popen[str]":
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
        what = ["-m", "transformer_mt"] if script is None else [script]
        return start_session([*run, *what, "train", *arguments], text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return start


def ranks(launcher: int) -> list[int]:
    """The process ids of the ranks, by the command lines below /proc."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == launcher:
                children.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(children)


def told(errors: str) -> list[str]:
    return [line for line in errors.split("\n") if line.startswith("error:")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "checkpoints" / pointed(run, "last") / "model.safetensors")


def test_every_pair_of_a_batch_is_in_exactly_one_share() -> None:
    """For any number of buckets and ranks, also when there are more ranks than pairs; shares cost about the same."""
    lengths = np.random.default_rng(0).integers(20, 25, 200)  # buckets are about equal
    pieces = Pieces.of([[7] * int(n) for n in lengths])
    for size in (1, 2, 3, 8):
        for counts in ([1], [2, 1], [40], [40, 40], [40, 39, 38, 41, 12], [7] * 9):
            edges = np.cumsum([0, *counts])
            buckets = [Bucket(pieces, pieces, np.arange(a, b)) for a, b in pairwise(edges)]
            shares = [Group(rank, size).share(buckets) for rank in range(size)]
            rows = sorted(row for share in shares for bucket in share for row in bucket.rows.tolist())
            assert rows == list(range(int(edges[-1])))
            if min(counts) >= 30:
                tokens = [sum(bucket.tokens for bucket in share) for share in shares]
                assert max(tokens) < 1.35 * min(tokens)


SPY = """import sys, torch
from transformer_mt import __main__ as mt
from transformer_mt.training import trainer

def seen(self, clip=trainer.Trainer._clip):
    own = torch.cat([p.grad.flatten() for p in self.model.parameters()])
    norm = clip(self)
    if self.group.leads and not hasattr(trainer, "done"):
        trainer.done = True
        torch.save(self._shards.gradients.sum(0) if self._shards else own, {path!r})
    return norm

trainer.Trainer._clip = seen
mt.main()
"""


@pytest.mark.parametrize("guided", [False, True])
def test_two_ranks_train_as_one_does(launch: Launch, toy_text: Path, tmp_path: Path, guided: bool) -> None:
    """The same order of pairs; the first loss and gradient within 1e-6, all losses within 1e-4; validated once."""
    sections = EXACT
    if guided:
        text = [toy_text / "train.xx", toy_text / "train.yy", tmp_path / "train.align"]
        text[2].write_text("0-0\n" * len(text[0].read_text().splitlines()))
        corpus = dict(zip(("source", "target", "alignment"), map(str, text), strict=True))
        sections = {**EXACT, "data": {"train": corpus}, "training": {**EXACT["training"], "guided_alignment": 0.5}}
    runs, losses, gradients, said = (tmp_path / "one", tmp_path / "two"), [], [], ""
    for run, size in zip(runs, ("1", "2"), strict=True):
        config, script = run.with_suffix(".yaml"), run.with_suffix(".py")
        config.write_text(yaml.safe_dump(toy_tree(toy_text, run, **sections)))
        script.write_text(SPY.format(path=str(run.with_suffix(".pt"))))
        process = launch(config, script=script, options=("--nproc-per-node", size))
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        losses.append([event["loss"] for event in events(run) if event["event"] == "train"])
        gradients.append(torch.load(run.with_suffix(".pt"), weights_only=True))
    assert said.count("training 0.") == 1  # one of them speaks
    steps = [[(event["event"], event["step"]) for event in events(run)] for run in runs]
    assert steps[0] == steps[1]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-6)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-6
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert json.loads((runs[1] / "exit.json").read_text())["code"] == 0


def test_more_ranks_than_pairs_end_as_well(launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    """Batches of one or two pairs, the last ones uneven: a share may be empty, and nothing hangs."""
    training = {"batch_tokens": 12, "max_steps": 12, "precision": "float32", "validate_every": 12}
    process = launch(toy_config(training=training))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert pointed(tmp_path / "run", "last") == "step-000012"


def test_a_run_of_two_ranks_goes_on_with_one(mt: Mt, launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    config, run = toy_config(**EXACT), tmp_path / "run"
    process = launch(config, "--set", "training.max_steps=10")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    resumed = mt("train", config, "--resume", "--set", "training.max_steps=20")
    assert resumed.code == 0, resumed.err
    assert "resuming after step 10" in resumed.err
    assert [event["step"] for event in events(run) if event["event"] == "train"] == list(range(1, 21))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_ends_all_at_one_step(
    mt: Mt, launch: Launch, toy_config: Write, tmp_path: Path, number: signal.Signals
) -> None:
    config, run = toy_config(**ENDLESS), tmp_path / "run"
    process = launch(config)
    wait_for(lambda: len(events(run)) >= 3, process)
    workers = ranks(process.pid)
    assert len(workers) == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    ending = json.loads((run / "exit.json").read_text())
    assert ending["code"] == 128 + number
    assert pointed(run, "last") == f"step-{ending['step']:06}"
    assert len(told(errors)) == 1, errors
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    resumed = mt("train", config, "--resume", "--set", f"training.max_steps={ending['step'] + 2}")
    assert resumed.code == 0, resumed.err


SIGNALLED = """import os, signal
from transformer_mt import __main__ as mt
from transformer_mt.training.trainer import Trainer

place = Trainer.{place}

def signalled(self, *arguments, **options):
    if {before}:
        os.kill(os.getpid(), signal.SIGTERM)
    result = place(self, *arguments, **options)
    if not {before} and self.progress.step == 4:
        os.kill(os.getpid(), signal.SIGTERM)
    return result

if os.environ["RANK"] == "1":
    Trainer.{place} = signalled
mt.main()
"""


@pytest.mark.parametrize(
    ("place", "before"), [("update", "arguments[1] == 4"), ("_confer", "False"), ("save", "True"), ("save", "False")]
)
def test_a_signal_to_one_rank_alone_stops_both(
    launch: Launch, toy_config: Write, tmp_path: Path, place: str, before: str
) -> None:
    """Wherever it comes: before all have conferred, after it, or while the first rank saves."""
    script, run = tmp_path / "signalled.py", tmp_path / "run"
    script.write_text(SIGNALLED.format(place=place, before=before))
    training = {**ENDLESS["training"], "save_every": 4}
    process = launch(toy_config(**{**ENDLESS, "training": training}), script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    ending = json.loads((run / "exit.json").read_text())
    assert ending["code"] == 143, errors
    assert 4 <= ending["step"] <= 5
    assert pointed(run, "last") == f"step-{ending['step']:06}", errors
    assert len(told(errors)) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_other(mt: Mt, launch: Launch, toy_config: Write, tmp_path: Path, rank: int) -> None:
    config, run = toy_config(**ENDLESS), tmp_path / "run"
    process = launch(config)
    wait_for(lambda: pointed(run, "last") != "", process)
    workers, begun = ranks(process.pid), time.monotonic()
    os.kill(workers[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begun < 60
    assert process.returncode != 0
    assert f"local_rank: {rank}" in errors  # torchrun names it
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    resumed = mt("train", config, "--resume", "--set", "training.max_steps=1")
    assert resumed.code == 0, resumed.err


def test_ranks_save_and_end_when_torchrun_is_killed(launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    """They run in sessions of their own, and would train on for ever."""
    run = tmp_path / "run"
    process = launch(toy_config(**ENDLESS))
    wait_for(lambda: len(events(run)) >= 3, process)
    workers = ranks(process.pid)
    process.kill()
    wait_for(lambda: not any(Path(f"/proc/{worker}/exe").exists() for worker in workers))
    ending = json.loads((run / "exit.json").read_text())
    assert ending["code"] == 143
    assert pointed(run, "last") == f"step-{ending['step']:06}"


def test_a_restarted_group_resumes_by_itself(launch: Launch, toy_text: Path, toy_config: Write, tmp_path: Path) -> None:
    """The weights become those of a run that was not interrupted, bit by bit."""
    sections = {**EXACT, "training": {**EXACT["training"], "max_steps": 40, "save_every": 5}}
    whole = tmp_path / "whole"
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(toy_tree(toy_text, whole, **sections)))
    process = launch(tmp_path / "whole.yaml")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    run = tmp_path / "run"
    process = launch(toy_config(**sections), options=("--max-restarts", "1"))
    wait_for(lambda: len(events(run)) >= 12, process)
    os.kill(ranks(process.pid)[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, errors
    assert "resuming after step" in errors
    assert events(run) == events(whole)
    assert all(torch.equal(weight, weights(whole)[name]) for name, weight in weights(run).items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--set seed=${RANK}", "rank 1: seed is 1 but 0 in rank 0"),
        ("--set training.learning_rate=0.00${RANK}1", "training.learning_rate is 0.0011 but 0.0001 in rank 0"),
    ],
)
def test_ranks_that_are_configured_otherwise_end_at_the_start(
    launch: Launch, toy_config: Write, tmp_path: Path, change: str, named: str
) -> None:
    script = tmp_path / "differs.py"
    script.write_text(
        "import os, sys, shlex\nfrom transformer_mt import __main__ as mt\n"
        f"sys.argv += shlex.split({change!r}.replace('${{RANK}}', os.environ['RANK']))\nmt.main()\n"
    )
    process = launch(toy_config(), script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert len(told(errors)) == 1, errors
    assert named in told(errors)[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["nowhere.yaml"], ["{config}", "--set", "training.speed=9"]], ids=["file", "key"])
def test_a_mistake_in_what_all_ranks_are_given_is_one_error(
    launch: Launch, toy_config: Write, words: list[str]
) -> None:
    """The others say it as theirs: it may be in what one of them is given alone."""
    process = launch(*(word.format(config=toy_config()) for word in words))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert len(told(errors)) == 1, errors
    said = told(errors)[0].removeprefix("error: ")
    assert [line for line in errors.splitlines() if line.startswith("rank 1: ")] in ([], [f"rank 1: {said}"])


def test_the_leader_tells_of_a_mistake_though_others_find_it_first(launch: Launch, tmp_path: Path) -> None:
    """Torchrun ends it as soon as another has ended."""
    script = tmp_path / "late.py"
    script.write_text(
        "import os, time\nfrom transformer_mt import __main__ as mt\n"
        "time.sleep(3 * (os.environ['RANK'] == '0'))\nmt.main()\n"
    )
    process = launch("nowhere.yaml", script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert told(errors) == ["error: nowhere.yaml: no such file; check the path"], errors


FAULT = """import datetime, os, sys, time
from transformer_mt import __main__ as mt
from transformer_mt.checkpoint import Checkpoints
from transformer_mt.training import distributed
from transformer_mt.errors import SystemFault
from transformer_mt.training.gradient import Gradient

distributed._STEP = datetime.timedelta(seconds=10)
rank, gradient, save = int(os.environ["RANK"]), Gradient.add, Checkpoints.save

def add(self, buckets, step, tokens):
    loss = gradient(self, buckets, step, tokens)
    if rank == 1 and step == {hangs}:
        time.sleep(1000)
    if rank == 1 and step in {bad}:
        self.model.projection.grad.fill_(float("{value}"))
    return loss

def failing(self, *arguments, **options):
    if {full}:
        raise SystemFault(f"{{self.directory}}: No space left on device; make room")
    assert rank == 0
    save(self, *arguments, **options)

Gradient.add, Checkpoints.save = add, failing
mt.main()
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_bad_gradient_in_one_rank_is_skipped_by_all(
    launch: Launch, toy_config: Write, tmp_path: Path, value: str
) -> None:
    script, run = tmp_path / "bad.py", tmp_path / "run"
    script.write_text(FAULT.format(bad={3, 5}, value=value, full=False, hangs=0))
    process = launch(toy_config(**EXACT), script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "step 3: the loss or gradient is not finite; skipped" in errors
    state = json.loads((run / "checkpoints" / "step-000060" / "training.json").read_text())
    assert state["skipped"] == 2
    assert all(weight.isfinite().all() for weight in weights(run).values())


def test_three_bad_steps_in_one_rank_end_all_with_5(launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    script, run = tmp_path / "bad.py", tmp_path / "run"
    script.write_text(FAULT.format(bad={13, 14, 15}, value="nan", full=False, hangs=0))
    process = launch(toy_config(**EXACT), script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert len(told(errors)) == 1, errors
    assert "step 15" in told(errors)[0]
    assert json.loads((run / "exit.json").read_text())["code"] == 5
    assert pointed(run, "last") == "step-000010"


def test_a_full_disk_ends_all_with_6(launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    script, run = tmp_path / "full.py", tmp_path / "run"
    script.write_text(FAULT.format(bad=set(), value="nan", full="self.directory.exists()", hangs=0))
    process = launch(toy_config(**EXACT), script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert len(told(errors)) == 1, errors
    assert "No space left" in told(errors)[0]
    assert json.loads((run / "exit.json").read_text())["code"] == 6
    assert errors.count("exitcode  : 6") >= 1  # of the rank that torchrun calls the first


def test_a_rank_that_hangs_ends_the_other(launch: Launch, toy_config: Write, tmp_path: Path) -> None:
    """After two minutes, here ten seconds; what waits for the leader's validation may wait longer."""
    script, run = tmp_path / "hangs.py", tmp_path / "run"
    script.write_text(FAULT.format(bad=set(), value="nan", full=False, hangs=12))
    begun = time.monotonic()
    process = launch(toy_config(**EXACT), script=script)
    wait_for(lambda: bool(list(run.glob("exit.json"))), process)
    assert time.monotonic() - begun < 60
    assert json.loads((run / "exit.json").read_text())["code"] == 6
    assert pointed(run, "last") == "step-000010"


def _may_make_namespaces() -> bool:
    made = subprocess.run(["ip", "netns", "add", "mt-probe"], capture_output=True, check=False) if _has_ip() else None
    if made is None or made.returncode:
        return False
    subprocess.run(["ip", "netns", "del", "mt-probe"], capture_output=True, check=False)
    return True


def _has_ip() -> bool:
    return any((Path(folder) / "ip").exists() for folder in os.environ["PATH"].split(":"))


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable, with the addresses 10.77.0.1 and 10.77.0.2."""
    if not _may_make_namespaces():
        pytest.skip("needs root and iproute2, to make network namespaces")
    names = (f"mt-a-{os.getpid()}", f"mt-b-{os.getpid()}")

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "mt-cable0", "netns", names[0], "type", "veth", "peer", "mt-cable1", "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", f"mt-cable{number}")
            for device in ("lo", f"mt-cable{number}"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_two_machines_train_together(two_hosts: tuple[str, str], toy_config: Write, tmp_path: Path) -> None:
    """With addresses of their own and a common file system, by the line that the README shows."""
    config, run = toy_config(**EXACT), tmp_path / "run"
    processes: list[Any] = []
    for number, host in enumerate(two_hosts):
        command = [
            "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
            "--nproc-per-node", "1", "--node-rank", str(number), "--master-addr", "10.77.0.1", "--master-port", "29511",
            "-m", "transformer_mt", "train", str(config),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"mt-cable{number}"}
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    try:
        errors = [process.communicate(timeout=2 * PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert pointed(run, "last") == "step-000060"
    assert "2 processes" in errors[0]
    assert "training 0." not in errors[1]


def test_a_refused_command_does_not_become_a_resume(launch: Launch, tiny_run: Path, tmp_path: Path) -> None:
    """When torchrun tries again, the run is still somebody's who did not ask to go on with it."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = hashes(run)
    process = launch(run, "--set", "training.max_steps=70", options=("--max-restarts", "1"))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    refusal = f"error: {run}: already holds a run; --resume goes on with it, --overwrite starts anew"
    assert told(errors) == [refusal, refusal]
    assert hashes(run) == before


KILLED_TWICE = """import os, signal
from transformer_mt import __main__ as mt
from transformer_mt.checkpoint import Checkpoints
from transformer_mt.experiment import run

attempt, prepare, save = os.environ["TORCHELASTIC_RESTART_COUNT"], run.prepare_store, Checkpoints.save

def preparing(*arguments):
    if attempt == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    prepare(*arguments)

def saving(*arguments, **options):
    save(*arguments, **options)
    if attempt == "1":
        os.kill(os.getpid(), signal.SIGKILL)

run.prepare_store, Checkpoints.save = preparing, saving
mt.main()
"""


def test_an_overwrite_is_given_again_until_it_has_begun_and_then_resumed(
    launch: Launch, tiny_run: Path, tmp_path: Path
) -> None:
    """Killed while the text is made ready, the old run is not gone on with; killed later, the new one is."""
    run, script = shutil.copytree(tiny_run, tmp_path / "run"), tmp_path / "killed.py"
    script.write_text(KILLED_TWICE)
    changes = ("--set", "training.max_steps=30", "--set", "training.log_every=1")
    process = launch(run, "--overwrite", *changes, script=script, options=("--max-restarts", "2"))
    _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, errors
    assert errors.count("resuming after step 20") == 1
    assert [event["step"] for event in events(run) if event["event"] == "train"] == list(range(1, 31))
    assert not (run / ".old").exists()
