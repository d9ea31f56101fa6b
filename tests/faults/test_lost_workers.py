"""Rows 6 and 7: a worker of a trainer is killed, or stopped for good."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.trainer.counted_run import CountedRun
from tests.trainer.lives import Life, Nursery, family

SAID = "a worker died and is replaced"
WITHIN_S = {signal.SIGKILL: 2.0, signal.SIGSTOP: 10.0}


def lose_worker(run: CountedRun, life: Life, number: signal.Signals) -> float:
    """Send one of its workers a signal; the seconds until it was missed. It trains on with another one."""
    known = run.said().count(SAID)
    lost = run.drawn.choice(sorted(family(run.nursery.forkserver)))
    os.kill(lost, number)
    lost_s = time.monotonic()
    run.hear(life, SAID, known + 1)
    missed_s = time.monotonic() - lost_s
    assert f"(pid {lost})" in run.said()
    run.wait(life, lambda: lost not in family(run.nursery.forkserver), "the worker to be gone")
    run.wait_for_steps(life, run.moment.steps + run.drawn.randint(1, 30))
    return missed_s


@pytest.mark.faults
@pytest.mark.parametrize(("number", "times"), [(signal.SIGKILL, 40), (signal.SIGSTOP, 6)], ids=["killed", "stopped"])
def test_a_lost_worker_is_missed_in_time_and_replaced(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row, number: signal.Signals, times: int
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=10, workers=(1, 2, 3)) as run:
        missed_s = []
        for _ in range(2):
            life = run.train()
            run.wait_for_steps(life, 1)
            missed_s += [lose_worker(run, life, number) for _ in range(times // 2)]
            if len(missed_s) < times:
                own = run.family(life)
                os.kill(life.pid, signal.SIGKILL)
                run.assert_nothing_left(own)
        run.finish()
        assert max(missed_s) < WITHIN_S[number]
        row(
            6 if number == signal.SIGKILL else 7,
            f"{times} times a worker of 1 to 3 got {number.name} under way",
            f"missed after {max(missed_s):.1f} s at most and replaced in the same life; all counts 1",
        )
