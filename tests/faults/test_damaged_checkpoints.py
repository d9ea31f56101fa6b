"""Row 13: the newest checkpoint is damaged, and the log keeps no more than what the run has committed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.trainer.counted_run import CountedRun
from tests.trainer.lives import Life, Nursery, end
from trainer.checkpoint_files import CHECKPOINTS, listed, load_newest


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def removed(file: Path) -> None:
    file.unlink()


DAMAGES: tuple[Callable[[Path], None], ...] = (truncated, flipped, emptied, removed)
FILES = ("state.pt", "manifest.json")
#: A fifth of the stream: room for what three checkpoints hold back, and no more.
LOG_BYTES = 3600 << 16
STEPS = 30


def kill_with_two(run: CountedRun, life: Life) -> list[Path]:
    """Kill it while it has two checkpoints or more (under a log that is full it keeps fewer); the newest two."""
    while True:
        run.wait(life, lambda: len(listed(run.run_dir / CHECKPOINTS)) >= 2, "two checkpoints")
        os.kill(life.pid, signal.SIGSTOP)
        own = run.family(life)
        if len(found := listed(run.run_dir / CHECKPOINTS)) >= 2:
            end(life)
            run.assert_nothing_left(own)
            return found[-2:]
        os.kill(life.pid, signal.SIGCONT)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_the_one_before_a_damaged_checkpoint_is_resumed_without_a_gap(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=3, workers=(0, 2), log_bytes=LOG_BYTES) as run:
        for damage in DAMAGES:
            for name in FILES:
                life = run.train()
                run.wait_for_steps(life, STEPS)
                before, newest = kill_with_two(run, life)
                found = load_newest(run.run_dir, pytest.fail)
                assert found is not None
                assert found[0] == newest
                damage(newest / name)
                life = run.train()
                run.wait_for_steps(life, 1)
                assert f"checkpoint {newest} is damaged: " in run.said()
                assert f"resumed from {before} at " in run.said()
                own = run.family(life)
                end(life)
                run.assert_nothing_left(own)
        run.finish()
        row(
            13,
            f"newest checkpoint damaged under a live log of {LOG_BYTES >> 20} MiB: {' and '.join(FILES)} each "
            f"{', '.join(damage.__name__ for damage in DAMAGES)}",
            f"found by digest, said; the one before was resumed {len(DAMAGES) * len(FILES)} times; all counts 1 in "
            f"each of {run.passes} passes",
        )
