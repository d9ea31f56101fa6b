"""A thread that iterates ahead: how far, how it ends, and that it can be waited for beside others."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.trainer.lives import wait_until
from trainer.ahead import Ahead, Over


def test_what_the_thread_raises_is_raised_where_it_is_taken() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    found = iter(Ahead(items, 4))
    assert next(found) == 1
    with pytest.raises(KeyError, match="gone"):
        next(found)


def test_the_thread_runs_no_farther_ahead_than_it_may_and_ends_with_who_takes() -> None:
    made: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                made.append(len(made))
                yield made[-1]
        finally:
            closed.set()

    found = iter(Ahead(items, 4))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.1)
    assert len(made) <= 3 + 4 + 1
    found.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not any(thread.name == "headrace-reader" for thread in threading.enumerate())


def test_who_does_not_wait_gets_none_and_hears_the_bell_for_each_item_and_for_the_end() -> None:
    bell, go_on = threading.Event(), threading.Semaphore(0)

    def items() -> Iterator[str]:
        go_on.acquire()
        yield "first"
        go_on.acquire()

    ahead = Ahead(items, 4, bell=bell)
    assert ahead.next(wait=False) is None
    go_on.release()
    assert bell.wait(10)
    assert ahead.next(wait=False) == "first"
    bell.clear()
    assert ahead.next(wait=False) is None
    go_on.release()
    assert bell.wait(10)
    for _ in range(2):  # an end stays one
        with pytest.raises(Over):
            ahead.next(wait=False)
    ahead.close()


def test_while_nothing_can_be_put_ahead_somebody_is_told() -> None:
    told: list[None] = []
    ahead = Ahead(lambda: iter(range(9)), 1, while_full=lambda: told.append(None))
    wait_until(lambda: len(told) > 0, "the thread to say that it is full")
    assert list(ahead) == list(range(9))
