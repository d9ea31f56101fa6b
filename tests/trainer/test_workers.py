"""Workers that die or stand still are noticed, and ended for sure."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import pytest

from tests.programs import wait_until
from trainer import workers
from trainer.workers import LOOK_S, STOPPED_S, WorkerDied, Workers


@pytest.fixture
def sleeping() -> Iterator[Callable[[], BaseProcess]]:
    """Starts processes that do nothing."""
    context, started = get_context("forkserver"), []

    def start() -> BaseProcess:
        started.append(context.Process(target=time.sleep, args=(600,), daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.join()


def stop(process: BaseProcess) -> None:
    os.kill(pid(process), signal.SIGSTOP)
    wait_until(lambda: list(Workers([process])._stopped()), "it to be stopped")


def pid(process: BaseProcess) -> int:
    assert process.pid is not None
    return process.pid


def test_one_that_died_is_named_at_the_next_look(sleeping: Callable[[], BaseProcess]) -> None:
    dying, other = sleeping(), sleeping()
    watched = Workers([dying, other])
    watched.look(0.0)
    dying.kill()
    dying.join()
    watched.look(LOOK_S / 2)
    with pytest.raises(WorkerDied, match=rf"\(pid {dying.pid}\)$"):
        watched.look(LOOK_S)


def test_one_that_is_stopped_is_given_up_in_time_and_forgiven_where_it_goes_on(
    sleeping: Callable[[], BaseProcess],
) -> None:
    worker = sleeping()
    watched = Workers([worker])
    stop(worker)
    watched.look(100.0)
    os.kill(pid(worker), signal.SIGCONT)
    wait_until(lambda: not list(watched._stopped()), "it to go on")
    watched.look(100.0 + STOPPED_S / 2)
    stop(worker)
    watched.look(100.0 + STOPPED_S)
    watched.look(100.0 + 2 * STOPPED_S - LOOK_S)
    with pytest.raises(WorkerDied, match=rf"\(pid {worker.pid}\): it was stopped"):
        watched.look(100.0 + 2 * STOPPED_S)


def test_none_is_left_though_one_is_stopped(sleeping: Callable[[], BaseProcess]) -> None:
    stopped, other = sleeping(), sleeping()
    stop(stopped)
    Workers([stopped, other]).end([])
    wait_until(lambda: not stopped.is_alive() and not other.is_alive(), "both to be gone")


class _Goodbye:
    """As DataLoader's iterator: it says goodbye to its workers when it is collected."""

    def __init__(self, say: Callable[[], object]) -> None:
        self._say = say

    def __del__(self) -> None:
        self._say()


def test_workers_that_work_hear_the_goodbye_and_are_not_killed_before(sleeping: Callable[[], BaseProcess]) -> None:
    worker = sleeping()
    seen: list[bool] = []
    Workers([worker]).end([_Goodbye(lambda: seen.append(worker.is_alive()))])
    assert seen == [True]
    wait_until(lambda: not worker.is_alive(), "one that has not left to be gone")


def test_a_goodbye_that_waits_for_a_lock_of_a_dead_worker_holds_nobody_up(
    sleeping: Callable[[], BaseProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LEAVE_S", 0.05)
    worker, forgotten = sleeping(), threading.Event()
    Workers([worker]).end([_Goodbye(forgotten.wait)])
    wait_until(lambda: not worker.is_alive(), "the worker to be gone")
    forgotten.set()


LEFT_OPEN = """
from trainer.workers import Workers

def iteration():
    try:
        yield
    finally:
        Workers([]).end([object()])

left_open = iteration()
next(left_open)
"""


def test_a_program_that_ends_in_the_middle_of_an_iteration_does_end() -> None:
    subprocess.run([sys.executable, "-c", LEFT_OPEN], timeout=60, check=True)
