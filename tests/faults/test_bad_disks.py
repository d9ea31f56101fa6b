"""Row 14: the disk under a run fills up, becomes read-only, or its folder is removed."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.trainer.counted_run import CountedRun
from tests.trainer.lives import Nursery
from trainer.checkpoint_files import CHECKPOINTS, listed, load_newest

#: Room for three checkpoints of 1.1 MiB, the best one, one that is written, the held-out records and the metrics.
DISK = "size=32m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small real file system, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", DISK, "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[str]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as growing, contextlib.suppress(OSError):
        while True:
            growing.write(bytes(4096))
    try:
        yield "No space left on device"
    finally:
        filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[str]:
    """A file that is open for writing keeps a disk from becoming read-only: so one that is comes over it."""
    shade = disk.with_name("read only")
    shade.mkdir(exist_ok=True)
    for command in (["--bind", str(disk)], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *command, str(shade)], check=True)
    subprocess.run(["mount", "--bind", str(shade), str(disk)], check=True)
    try:
        yield "Read-only file system"
    finally:
        subprocess.run(["umount", "--lazy", str(disk), str(shade)], check=True)


def another(run: CountedRun, newest: Path) -> Callable[[], bool]:
    """Whether there is a newer checkpoint than this one."""
    return lambda: listed(run.run_dir / CHECKPOINTS)[-1] != newest


FAULTS: tuple[Callable[[Path], AbstractContextManager[str]], ...] = (full, read_only)


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_saved_is_said_and_training_goes_on(
    tmp_path: Path,
    nursery: Nursery,
    seed: int,
    row: Row,
    disk: Path,
    fault: Callable[[Path], AbstractContextManager[str]],
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=4, workers=(0, 2)) as run:
        run.run_dir = disk / "run"
        life = run.train(command_line=True)  # with all that a run writes
        run.wait(life, lambda: len(listed(run.run_dir / CHECKPOINTS)) >= 2, "two checkpoints")
        failed = 0
        for _ in range(3):
            run.wait_for_steps(life, run.moment.steps + run.drawn.randint(1, 12))
            with fault(disk) as why:
                words = f"NOT SAVED in {run.run_dir / CHECKPOINTS}: {why}"
                run.hear(life, words, run.said().count(words) + 2)
                last_good = load_newest(run.run_dir, pytest.fail)
                assert last_good is not None
                assert f"{why}; training goes on, the last good one is {last_good[0]}" in run.said()
                run.wait_for_steps(life, run.moment.steps + 12)
                failed = run.said().count("NOT SAVED")
            run.wait(life, another(run, listed(run.run_dir / CHECKPOINTS)[-1]), "a save that works again")
        run.finish()
        assert run.trainer is life
        row(
            14,
            f"disk {fault.__name__.replace('_', '-')} three times under a run",
            f"{failed} saves said NOT SAVED and the last good one, which stayed readable; training went on, the next "
            "save worked; all counts 1",
        )


@pytest.mark.faults
def test_a_run_directory_that_is_removed_is_made_again(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=4, workers=(0, 2)) as run:
        life = run.train(command_line=True)
        for number in range(3):
            run.wait(life, lambda: len(listed(run.run_dir / CHECKPOINTS)) >= 2, "two checkpoints")
            shutil.rmtree(run.run_dir.rename(tmp_path / f"removed-{number}"))
            run.wait(life, lambda: load_newest(run.run_dir, pytest.fail) is not None, "a save that works again")
        run.finish()
        assert run.trainer is life
        row(14, "run directory removed under a run three times", "made again by the next save; all counts 1")
