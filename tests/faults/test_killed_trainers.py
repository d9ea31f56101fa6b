"""Row 1: a trainer's pid alone is killed, in a step, in validation, in a save, idle, while it starts."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.trainer.counted_run import MOMENTS, CountedRun
from tests.trainer.lives import Nursery

KILLS, BY_COMMAND_LINE = 100, 4


@pytest.mark.faults
def test_a_hundred_kills_lose_nothing_and_leave_nothing(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=30, workers=(0, 1, 2, 3)) as run:
        over: Counter[int] = Counter()
        for number in range(KILLS):
            run.kill_trainer(MOMENTS[number % len(MOMENTS)], command_line=number % (KILLS // BY_COMMAND_LINE) == 1)
            over[run.workers] += 1
        run.finish(command_line=True)
        assert "damaged" not in (tmp_path / "trainer.log").read_text(), "a kill has left half a checkpoint"
        in_moments = {moment: run.killed[moment] for moment in MOMENTS}
        assert min(in_moments.values()) > 0
        assert min(over[workers] for workers in range(4)) > 0
        said = ", ".join(f"{count} {moment}" for moment, count in in_moments.items())
        row(
            1,
            f"trainer's pid alone SIGKILLed {KILLS} times ({said}), {BY_COMMAND_LINE} through the command line, over "
            f"{', '.join(f'{workers} workers: {over[workers]}' for workers in range(4))}",
            f"all counts 1 in each of {run.passes} passes; workers gone and /dev/shm free in 5 s after each kill",
        )
