import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from protocol.errors import CheckpointDamaged, UsageError
from trainer.checkpoint import Checkpointer, CheckpointSettings
from trainer.checkpoint_files import State, listed, load, load_best, load_newest, set_aside
from trainer.model import GarmentClassifier
from trainer.snapshot import snapshot
from trainer.step import train_step
from trainer.tasks import Classification

KEEP_3 = CheckpointSettings(keep=3)


def state(samples: int, floats: int = 10) -> State:
    weights = torch.full((floats,), float(samples))
    return {"version": 1, "samples": samples, "weights": weights, "stream": {"positions": {0: samples}}}


def position(stream: Any) -> int:
    found: int = stream["positions"][0]
    return found


class Run:
    """A checkpointer in a folder, with all that it says. `gate` holds the writer at the end of a save."""

    def __init__(self, folder: Path, keep: int = 3, resumed_at: int | None = None) -> None:
        self.folder = folder
        self.committed: list[int] = []
        self.problems: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.checkpointer = Checkpointer(
            folder, CheckpointSettings(keep=keep), self.on_durable, self.problems.append, resumed_at=resumed_at
        )

    def on_durable(self, stream: Any) -> None:
        self.committed.append(position(stream))
        assert self.gate.wait(20)

    def save(self, *numbers: int, best: bool = False) -> None:
        for samples in numbers:
            self.checkpointer.save(samples, state(samples), best=best)
            if self.gate.is_set():
                self.checkpointer.flush()

    def hold_the_writer(self, samples: int) -> None:
        self.gate.clear()
        self.checkpointer.save(samples, state(samples))
        while not self.committed or self.checkpointer.durable != samples:
            time.sleep(0.001)

    def numbers(self, kind: str = "checkpoints") -> list[int]:
        return [load(path)["samples"] for path in listed(self.folder / kind)]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(folder: Path = tmp_path, **settings: Any) -> Run:
        runs.append(Run(folder, **settings))
        return runs[-1]

    yield start
    for run in runs:
        run.gate.set()
        run.checkpointer.close()


def test_the_newest_k_are_kept_and_the_positions_of_the_oldest_are_handed_on(started: Callable[..., Run]) -> None:
    run = started(keep=3)
    run.save(100, 200, 300, 400, 500)
    assert run.numbers() == [300, 400, 500]
    assert run.committed == [100, 100, 100, 200, 300]
    assert run.checkpointer.durable == 500
    newest = run.checkpointer.newest()
    assert newest is not None
    assert load(newest)["samples"] == 500
    assert run.problems == []


def test_when_positions_are_handed_on_the_checkpoint_lies_on_disk_and_older_ones_are_gone(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def look(stream: Any) -> None:
        seen.append([load(path)["samples"] for path in listed(tmp_path / "checkpoints")])

    with Checkpointer(tmp_path, CheckpointSettings(keep=2), look, pytest.fail) as checkpointer:
        for samples in (1, 2, 3):
            checkpointer.save(samples, state(samples))
            checkpointer.flush()
    assert seen == [[1], [1, 2], [2, 3]]


def test_keeping_one_is_enough_to_run(started: Callable[..., Run]) -> None:
    run = started(keep=1)
    run.save(1, 2)
    assert run.numbers() == [2]
    assert run.committed == [1, 2]


def test_training_on_after_a_save_changes_nothing_of_what_lands_on_disk(started: Callable[..., Run]) -> None:
    run = started()
    torch.manual_seed(0)
    model, task = GarmentClassifier(), Classification()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    prepared = {"input": torch.rand(8, 1, 28, 28), "target": torch.arange(8)}
    positions = {0: 1}

    def current() -> State:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "stream": {"positions": positions}}

    train_step(model, optimizer, task, prepared)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    momenta = [optimizer.state[parameter]["momentum_buffer"].clone() for parameter in model.parameters()]
    run.hold_the_writer(1)
    run.checkpointer.save(2, current())
    for _ in range(3):
        train_step(model, optimizer, task, prepared)
    optimizer.param_groups[0]["lr"] = 9.0
    positions[0] = 99
    run.gate.set()
    run.checkpointer.flush()

    found = load_newest(run.folder, pytest.fail)
    assert found is not None
    assert position(found[1]["stream"]) == 1
    assert found[1]["optimizer"]["param_groups"][0]["lr"] == 0.1
    for index, (saved, momentum) in enumerate(zip(found[1]["model"].values(), momenta, strict=True)):
        assert torch.equal(saved, weights[index])
        assert torch.equal(found[1]["optimizer"]["state"][index]["momentum_buffer"], momentum)


def test_a_save_never_waits_for_the_writer_and_replaces_the_one_of_its_kind_that_waits(
    started: Callable[..., Run],
) -> None:
    run = started()
    run.hold_the_writer(1)
    run.save(2, 3, 4)
    run.save(2, 3, best=True)
    assert run.numbers() == [1], "the writer is still held"
    run.gate.set()
    run.checkpointer.flush()
    assert run.numbers() == [1, 4]
    assert run.numbers("best") == [3]


def test_memory_holds_at_most_one_state_that_waits_and_one_that_is_written(
    started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started()
    run.hold_the_writer(1)
    run.save(2)

    def copied(given: State) -> State:
        assert not run.checkpointer._pending, "the state that waited is let go before the next copy is made"
        return snapshot(given)

    monkeypatch.setattr("trainer.checkpoint.snapshot", copied)
    run.save(3)
    assert len(run.checkpointer._pending) == 1


def test_the_best_lies_apart_and_the_older_one_goes_when_the_new_one_is_durable(started: Callable[..., Run]) -> None:
    run = started(keep=2)
    run.save(1, 2, 3)
    run.save(1, best=True)
    run.save(3, best=True)
    assert run.numbers("best") == [3]
    assert run.numbers() == [2, 3]
    assert run.committed == [1, 1, 2], "a best one holds nothing back and hands nothing on"
    found = load_best(run.folder, pytest.fail)
    assert found is not None
    assert found[1]["samples"] == 3


def test_saving_at_the_same_number_again_replaces_it(started: Callable[..., Run]) -> None:
    run = started()
    run.save(1)
    run.checkpointer.save(1, state(1) | {"validated": True})
    run.checkpointer.flush()
    assert run.numbers() == [1]
    found = load_newest(run.folder, pytest.fail)
    assert found is not None
    assert found[1]["validated"]


def test_closing_writes_what_still_waits(started: Callable[..., Run]) -> None:
    run = started()
    run.hold_the_writer(1)
    run.save(2)
    threading.Timer(0.05, run.gate.set).start()
    run.checkpointer.close()
    assert run.numbers() == [1, 2]
    run.checkpointer.close()


def test_the_next_life_goes_on_with_what_the_last_one_kept(started: Callable[..., Run]) -> None:
    first = started()
    first.save(1, 2, 3)
    first.checkpointer.close()
    second = started(resumed_at=3)
    second.save(4, 5)
    assert second.numbers() == [3, 4, 5]
    assert second.committed == [2, 3], "read from the checkpoints of the life before"
    assert second.problems == []


def test_what_cannot_be_resumed_any_more_holds_nothing_back(started: Callable[..., Run]) -> None:
    first = started()
    first.save(1, 2, 3)
    first.checkpointer.close()
    damaged = listed(first.folder / "checkpoints")[1]
    (damaged / "state.pt").write_bytes(b"")
    second = started(resumed_at=3)
    second.save(4)
    assert second.committed == [3]
    assert len(second.problems) == 1
    assert f"cannot be resumed any more: checkpoint {damaged} is damaged" in second.problems[0]
    second.save(5)
    assert second.committed == [3, 3]
    assert len(second.problems) == 1, "said once"


def test_a_checkpoint_is_read_back_once_not_at_every_save(
    started: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = started()
    first.save(1, 2)
    first.checkpointer.close()
    read: list[str] = []

    def counted(path: Path) -> State:
        read.append(path.name)
        return load(path)

    monkeypatch.setattr("trainer.checkpoint.load", counted)
    second = started(keep=10, resumed_at=2)
    second.save(3, 4, 5, 6)
    assert second.committed == [1, 1, 1, 1]
    assert read == ["step-000000000001"]


def test_a_run_that_goes_back_is_not_overtaken_by_what_it_left_behind(started: Callable[..., Run]) -> None:
    first = started(keep=3)
    first.save(100, 200, 300)
    first.save(200, best=True)
    first.checkpointer.close()
    second = started(keep=2, resumed_at=100)
    assert len(second.problems) == 1
    assert "goes on from 100 samples; newer checkpoints are set aside" in second.problems[0]
    second.save(150)
    assert second.numbers() == [100, 150]
    assert second.numbers("best") == [200], "the best so far, until there is a better one"


def test_what_was_set_aside_is_kept_until_the_next_life_has_saved_something(started: Callable[..., Run]) -> None:
    first = started()
    first.save(100, 200)
    first.checkpointer.close()
    aside = first.folder / "checkpoints" / "step-000000000200.superseded"
    second = started(resumed_at=100)
    second.save(200)
    assert load(aside)["samples"] == 200
    second.checkpointer.close()
    third = started(resumed_at=200)
    assert aside.exists()
    third.save(300)
    assert not aside.exists()
    assert third.numbers() == [100, 200, 300]
    third.checkpointer.close()
    fourth = started(resumed_at=100)
    fourth.checkpointer.close()
    fifth = started(resumed_at=0)
    fifth.save(50)
    assert [load(path)["samples"] for path in set_aside(fifth.folder / "checkpoints")] == [100]


def test_one_that_is_set_aside_again_under_its_old_name_is_kept_as_long(started: Callable[..., Run]) -> None:
    first = started()
    for _ in range(2):
        first.save(100, 200)
        first.checkpointer.close()
        first = started(resumed_at=100)
    first.save(150)
    assert [load(path)["samples"] for path in set_aside(first.folder / "checkpoints")] == [200]


def test_a_run_that_begins_anew_has_no_best_one_yet(started: Callable[..., Run]) -> None:
    first = started()
    first.save(100)
    first.save(100, best=True)
    first.checkpointer.close()
    second = started(resumed_at=0)
    assert second.numbers() == second.numbers("best") == []
    second.save(0)
    assert second.committed == [0]


def test_a_fault_that_is_not_the_disks_is_raised_where_somebody_hears_it(tmp_path: Path) -> None:
    def fault(stream: Any) -> None:
        raise ZeroDivisionError

    for surfacing in ("flush", "save", "close"):
        checkpointer = Checkpointer(tmp_path / surfacing, KEEP_3, fault, pytest.fail)
        checkpointer.save(1, state(1))
        while checkpointer.durable is None or checkpointer._writing:
            time.sleep(0.001)
        with pytest.raises(ZeroDivisionError):
            checkpointer.save(2, state(2)) if surfacing == "save" else getattr(checkpointer, surfacing)()
        checkpointer.close()


def test_a_state_that_no_checkpoint_can_hold_is_refused_by_the_save_itself(started: Callable[..., Run]) -> None:
    run = started()
    with pytest.raises(UsageError, match=r"cannot hold state\['path'\]"):
        run.checkpointer.save(1, state(1) | {"path": Path("x")})
    run.save(2)
    assert run.numbers() == [2]


@pytest.mark.parametrize("keep", [0, -1])
def test_a_run_keeps_at_least_one(keep: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        CheckpointSettings(keep=keep)


# ---- disks and folders


def mount(folder: Path, options: str) -> None:
    """A small real file system, where this process may mount one."""
    folder.mkdir(exist_ok=True)
    program = shutil.which("mount")
    command = [program or "mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if program is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    mount(disk, "size=1m")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(file: Path) -> None:
    """Let a file grow until its disk is full."""
    with file.open("wb", buffering=0) as growing, contextlib.suppress(OSError):
        while True:
            growing.write(bytes(4096))
    assert shutil.disk_usage(file.parent).free == 0


def assert_that_one_save_failed(run: Run, reason: str) -> None:
    assert len(run.problems) == 1
    assert "checkpoint at 200 samples NOT SAVED in " in run.problems[0]
    assert reason in run.problems[0]
    assert "the last good one is " in run.problems[0]
    assert "step-000000000100" in run.problems[0]
    assert run.committed == [100]
    assert run.checkpointer.durable == 100
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"step-000000000100"}


@pytest.mark.parametrize("floats", [10, 200_000], ids=["in the manifest", "in torch.save"])
def test_a_full_disk_is_said_and_the_next_save_works_when_there_is_room(
    started: Callable[..., Run], small_disk: Path, floats: int
) -> None:
    run = started(folder=small_disk / "run")
    run.save(100)
    filler = small_disk / "filler"
    fill(filler)
    run.checkpointer.save(200, state(200, floats))
    run.checkpointer.flush()
    assert_that_one_save_failed(run, "No space left on device")
    filler.unlink()
    run.save(300)
    assert run.numbers() == [100, 300]
    assert run.committed == [100, 100]


def test_a_file_that_may_not_grow_so_large_is_said_in_the_same_way(started: Callable[..., Run]) -> None:
    run = started()
    run.save(100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))
    try:
        run.checkpointer.save(200, state(200, floats=2 << 20))
        run.checkpointer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_that_one_save_failed(run, "File too large")
    run.save(300)
    assert run.numbers() == [100, 300]


def test_a_disk_that_becomes_read_only_is_said_and_the_run_goes_on(
    started: Callable[..., Run], small_disk: Path
) -> None:
    run = started(folder=small_disk / "run")
    run.save(100)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run.save(200)
    assert_that_one_save_failed(run, "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    run.save(300)
    assert run.numbers() == [100, 300]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_loses_its_rights_is_said_and_the_run_goes_on(started: Callable[..., Run]) -> None:
    run = started()
    run.save(100)
    (run.folder / "checkpoints").chmod(0o500)
    run.save(200)
    (run.folder / "checkpoints").chmod(0o700)
    assert_that_one_save_failed(run, "Permission denied")


def test_a_run_directory_that_cannot_be_written_is_the_users_mistake_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UsageError, match=r"cannot be used \(Read-only file system\): give another --run_dir"):
        Checkpointer(small_disk / "run", KEEP_3, pytest.fail, pytest.fail)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    Checkpointer(small_disk / "run", KEEP_3, pytest.fail, pytest.fail).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UsageError, match=r"nothing can be written into .*: give another --run_dir"):
        Checkpointer(small_disk / "run", KEEP_3, pytest.fail, pytest.fail)


def test_a_run_directory_that_is_a_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(UsageError, match="give another --run_dir"):
        Checkpointer(tmp_path / "run", KEEP_3, pytest.fail, pytest.fail)


def test_a_run_directory_that_is_removed_is_said_and_made_again(started: Callable[..., Run], tmp_path: Path) -> None:
    run = started(folder=tmp_path / "run")
    run.save(100, 200)
    shutil.rmtree(tmp_path / "run")
    run.save(300)
    assert run.numbers() == [300]
    assert run.committed == [100, 100, 300]
    assert [problem.endswith("was removed by somebody else") for problem in run.problems] == [True, True]


def test_an_old_checkpoint_that_cannot_be_removed_is_said_and_the_run_goes_on(started: Callable[..., Run]) -> None:
    run = started(keep=1)
    run.save(100)
    stuck = listed(run.folder / "checkpoints")[0]
    mount(stuck, "size=64k")
    try:
        run.save(200)
    finally:
        subprocess.run(["umount", "-l", str(stuck)], check=True)
    assert len(run.problems) == 1
    assert "an old checkpoint could not be removed" in run.problems[0]
    run.save(300)
    assert run.numbers() == [300]
    assert run.committed == [100, 100, 300]


def test_leftovers_of_a_killed_life_are_gone_when_the_next_one_starts(started: Callable[..., Run]) -> None:
    first = started()
    first.save(100)
    first.checkpointer.close()
    for kind in ("checkpoints", "best"):
        (first.folder / kind / "step-000000000200.tmp").mkdir()
        (first.folder / kind / "step-000000000200.tmp" / "state.pt").write_bytes(b"half")
    second = started()
    assert [path.name for path in (first.folder / "checkpoints").iterdir()] == ["step-000000000100"]
    assert not list((first.folder / "best").iterdir())
    second.save(200)
    assert second.numbers() == [100, 200]


# ---- killed


def save_without_end(folder: Path, start: int, report: Connection) -> None:
    """A life that saves all the time: checkpoints, best ones, and each number twice."""
    checkpointer = Checkpointer(
        folder,
        KEEP_3,
        on_durable=lambda stream: report.send((checkpointer.durable, position(stream))),
        on_problem=lambda line: report.send((line, None)),
        resumed_at=start,
    )
    samples = start
    while True:
        samples += 1
        for best in (False, True, False):
            checkpointer.save(samples, state(samples, 20_000), best=best)
            checkpointer.flush()


@pytest.mark.slow
def test_killed_at_any_moment_what_was_durable_is_resumed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.checkpoint"])
    moments = random.Random(5)
    start, committed, durable, oldest = 0, 0, 0, 0
    for _ in range(8):
        receive, send = context.Pipe(duplex=False)
        life = context.Process(target=save_without_end, args=(tmp_path, start, send))
        life.start()
        send.close()
        for _ in range(moments.randint(2, 7)):  # two for each number
            durable, oldest = receive.recv()
        time.sleep(moments.uniform(0, 0.005))
        life.kill()
        life.join()
        try:
            while True:
                durable, oldest = receive.recv()
        except EOFError:
            receive.close()
        assert oldest is not None, durable

        found = load_newest(tmp_path, pytest.fail)
        assert found is not None
        start = found[1]["samples"]
        assert durable <= start <= durable + 1
        assert bool((found[1]["weights"] == start).all())
        assert committed <= oldest <= start, "what was handed on never lies past what can be resumed"
        committed = oldest
        best = load_best(tmp_path, pytest.fail)
        assert best is None or best[1]["samples"] <= start + 1
    assert start >= 8, "each life got on"


def test_all_damaged_after_a_kill_is_an_error_that_says_so(started: Callable[..., Run]) -> None:
    run = started()
    run.save(1, 2)
    for path in listed(run.folder / "checkpoints"):
        shutil.rmtree(path)
        path.mkdir()
    with pytest.raises(CheckpointDamaged, match="none of the 2"):
        load_newest(run.folder, lambda line: None)
