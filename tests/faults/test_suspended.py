"""Rows 8 and 9: a trainer, or its producer, is stopped for a minute and goes on."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import resident_bytes
from tests.faults.conftest import Row
from tests.trainer.counted_run import AHEAD_STEPS, BATCH, CountedRun
from tests.trainer.counting import IN_VALIDATION
from tests.trainer.lives import Life, Nursery, end, tail, wait_until
from trainer.loader import StreamLoader

#: Longer than a server keeps a silent session (60 s) and than ZeroMQ's heartbeat waits (20 s).
MINUTE_S = 65.0
#: Five seconds on an idle machine.
SAID_WITHIN_S = 20.0


class Other:
    """A group of its own on the same stream, read in a thread of the test; when its batches came."""

    def __init__(self, url: str) -> None:
        self._loader = StreamLoader(url, batch_size=BATCH)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.came_s: list[float] = []
        self.records = 0

    def _read(self) -> None:
        for batch in self._loader:
            self.came_s.append(time.monotonic())
            self.records += batch.count
            self._loader.mark_trained(batch)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """To the stream's end; where the test fails, it stops before."""
        self._thread.start()
        try:
            yield
            self._thread.join()
        finally:
            self._loader.stop()


def held(run: CountedRun, life: Life) -> int:
    """Bytes of the producer and of the trainer's workers: where records gather that the trainer does not take."""
    return sum(map(resident_bytes, (run.producer.pid, *run.family(life))))


@contextmanager
def suspended(life: Life) -> Iterator[None]:
    """Stop this process alone for a while."""
    os.kill(life.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(life.pid, signal.SIGCONT)


@pytest.mark.faults
@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_that_was_suspended_for_a_minute_goes_on_and_nobody_else_noticed(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row, workers: int
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=3, workers=[workers], rate=200) as run:
        life = run.train()
        run.wait_for_steps(life, 20)
        with (other := Other(run.url)).reading():
            wait_until(lambda: len(other.came_s) > 100, "the other one to have caught up")
            memory, first = held(run, life), len(other.came_s)
            with suspended(life):
                time.sleep(MINUTE_S)
                grown = held(run, life) - memory
                steps = run.moment.steps
            run.wait(life, lambda: run.moment.steps > steps + AHEAD_STEPS, "a step on what was not read before")
            pauses_s = np.diff(other.came_s[first:])
            run.finish()
        assert other.records == 3 * 6000
        assert len(pauses_s) > 0.9 * MINUTE_S * 200 / BATCH, "the other group got no more batches"
        assert pauses_s.max() < 2, "a batch of 50 comes each quarter of a second"
        assert grown < 64 << 20, "what is sent to a trainer that takes nothing is bounded"
        assert run.trainer is life
        assert "a worker died" not in run.said()
        row(
            8,
            f"trainer with {workers} workers SIGSTOPped for {MINUTE_S:.0f} s, another group reading beside it",
            f"all counts 1; producer and workers grew by {max(0, grown) / 2**20:.0f} MiB; the other group never waited "
            f"longer than {pauses_s.max():.2f} s for its batch (0.25 s at this rate); no worker was blamed",
        )


@pytest.mark.faults
@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_whose_producer_is_suspended_says_so_validates_and_stops_on_demand(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row, workers: int
) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=1, workers=[workers]) as run:
        slowly = ("--task.step_s", "0.1", "--validate_every", str(BATCH))  # so that records have been read ahead
        life = run.train(*slowly)
        run.wait_for_steps(life, 3)
        with suspended(run.producer):
            stopped_s = time.monotonic()
            steps, validations = run.moment.steps, run.said().count("validation")
            run.wait(life, lambda: run.moment.steps > steps, "a step on what was read ahead")
            run.wait(life, lambda: run.moment.now == IN_VALIDATION, "a validation")
            run.hear(life, "the producer is away; waiting for it")
            said_s = time.monotonic() - stopped_s
            run.hear(life, "to come back", 2)  # all that was read ahead is trained: the stop meets one that waits
            validated = run.said().count("validation") - validations
            assert validated > 0
            assert said_s < SAID_WITHIN_S
            asked_s = time.monotonic()
            assert end(life, signal.SIGTERM) == 0, tail(life)
            obeyed_s = time.monotonic() - asked_s
            assert re.search(r"stopped by SIGTERM: saved at [\d,]+ samples", tail(life))
            life = run.train(*slowly)  # one that starts while the producer is suspended
            run.hear(life, "waiting for a producer")
            assert end(life, signal.SIGTERM) == 0, tail(life)
            life = run.train(*slowly)
            time.sleep(max(0.0, MINUTE_S - (time.monotonic() - stopped_s)))
        run.finish()
        assert run.trainer is life
        row(
            9,
            f"producer SIGSTOPped for {MINUTE_S:.0f} s, trainer with {workers} workers",
            f"said after {said_s:.1f} s; {validated} validations meanwhile; SIGTERM obeyed in {obeyed_s:.1f} s with a "
            "checkpoint; a trainer that starts meanwhile waits, stops on demand and goes on afterwards; all counts 1",
        )
