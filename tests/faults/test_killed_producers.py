"""Rows 2 and 5: a producer that can be replayed is killed again and again, with its trainer and without."""

import os
import signal
import time
from pathlib import Path

import pytest

from protocol.open_reader import open_reader
from tests.faults.conftest import Row
from tests.faults.impatient_producer import GROUP_LIVES_S
from tests.trainer.counted_run import AHEAD_STEPS, LIFE_STEPS, CountedRun
from tests.trainer.lives import Nursery, end, wait, wait_until

KILLS = 50


@pytest.mark.faults
def test_fifty_lives_of_the_producer_are_one_of_the_trainer(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=20, workers=(0, 2)) as run:
        life = run.train()
        run.wait_for_steps(life, 1)
        for _ in range(KILLS):
            time.sleep(run.drawn.uniform(0, 0.2))
            run.kill_producer()
            run.wait_for_steps(life, run.moment.steps + AHEAD_STEPS)
        run.finish()
        assert run.trainer is life
        row(
            2,
            f"producer (computed log) SIGKILLed {KILLS} times and started again, {run.workers} workers",
            f"all counts 1 in each of {run.passes} passes; the trainer lived through all of it",
        )


@pytest.mark.faults
def test_fifty_times_both_are_killed_at_once(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=20, workers=(0, 1, 2, 3)) as run:
        for _ in range(KILLS):
            life = run.train()
            run.wait_for_steps(life, run.drawn.randint(0, LIFE_STEPS))
            time.sleep(run.drawn.uniform(0, 0.05))
            own = run.family(life)
            first, second = run.drawn.sample([life, run.producer], 2)
            os.kill(first.pid, signal.SIGKILL)
            os.kill(second.pid, signal.SIGKILL)
            assert wait(life) == wait(run.producer) == -signal.SIGKILL
            run.assert_nothing_left(own)
            run.producer = run.produce()
        run.finish()
        row(
            5,
            f"producer (computed log) and trainer SIGKILLed at once {KILLS} times, over 0 to 3 workers",
            f"all counts 1 in each of {run.passes} passes; workers gone and /dev/shm free in 5 s",
        )


@pytest.mark.faults
def test_a_group_that_its_producer_has_forgotten_goes_on_where_it_was(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=2, workers=(0, 2)) as run:
        life = run.train()
        run.wait_for_steps(life, 30)
        end(life)
        end(run.producer)
        run.module = ("tests.faults.impatient_producer",)
        run.producer = run.produce()
        with open_reader(run.bound) as reader:
            wait_until(lambda: reader.describe(timeout_s=60).uptime_s > GROUP_LIVES_S, "its groups to be forgotten")
        run.finish()
        row(
            5,
            f"both down for longer than a group lives ({GROUP_LIVES_S:.0f} s; 600 by default), the producer back first",
            "the run goes on from its checkpoint; all counts 1",
        )
