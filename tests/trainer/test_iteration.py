"""One iteration after another, also over a stream that has nothing to say."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.errors import StreamTimeout
from tests.trainer.streams import computed, ids, serving
from tests.trainer.thousand import RECORDS, numbered, take
from trainer.batch import Batch
from trainer.loader import StreamLoader


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions, as fast as they are read."""
    with serving(computed(numbered())) as url:
        yield url


@pytest.fixture
def silent() -> Iterator[str]:
    """A live stream that has said 10 records and says no more."""
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(id=np.arange(10))
    yield publisher.address
    publisher.abandon()


@contextmanager
def after(delay_s: float, action: Callable[[], object]) -> Iterator[None]:
    """Do it from another thread, a little later."""
    timer = threading.Timer(delay_s, action)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def test_a_second_iteration_starts_from_what_was_marked_and_warns(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    marked, *unmarked = take(loader, 3, mark=False)
    loader.mark_trained(marked)
    with pytest.warns(UserWarning, match="120 records were handed out and never marked"):
        again = take(loader, 2)
    assert ids(again) == ids(unmarked)
    assert [batch.number for batch in again] == [2, 3]
    loader.check_ledger()


def test_a_second_iteration_takes_over_from_one_that_is_still_open(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first = iter(loader)
    loader.mark_trained(next(first))
    second = iter(loader)
    loader.mark_trained(next(second))
    first.close()  # type: ignore[attr-defined]
    rest = list(second)
    loader.mark_trained(rest[-1])
    assert loader.position.ended
    assert loader.position.ledger.totals()["trained"] == RECORDS
    loader.check_ledger()


# --- a silent stream ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_on_idle_is_called_at_least_once_a_second(silent: str, workers: int) -> None:
    loader = StreamLoader(silent, batch_size=10, num_workers=workers)
    moments_s: list[float] = []

    def idle() -> None:
        if moments_s:  # until the only batch has come, workers may still be starting
            moments_s.append(time.monotonic())
        if len(moments_s) > 4:
            loader.stop()

    loader.on_idle = idle
    for batch in loader:
        loader.mark_trained(batch)
        moments_s.append(time.monotonic())
    gaps = np.diff(moments_s)
    assert len(gaps) >= 4
    assert gaps.max() < 1.2, gaps


@pytest.mark.parametrize("workers", [0, 1])
def test_a_silent_stream_can_be_stopped(silent: str, workers: int) -> None:
    loader = StreamLoader(silent, batch_size=4, num_workers=workers)
    seen: list[Batch] = []
    timer = threading.Timer(0.5, loader.stop)
    for batch in loader:
        seen.append(batch)
        loader.mark_trained(batch)
        if len(seen) == 2:
            timer.start()
    timer.join()
    assert ids(seen) == list(range(8))
    loader.check_ledger()


def test_what_had_come_for_an_unfinished_batch_comes_again_after_a_stop(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4)
    with after(0.5, loader.stop):
        take(loader, 5)
    loader.check_ledger()
    with after(0.5, loader.stop):
        take(loader, 5)
    loader.check_ledger()
    assert loader.position.ledger.totals()["trained"] == 8
    assert loader.in_hand() == {"buffered": 0, "unmarked": 0}


def test_the_ledger_balances_while_a_batch_is_half_there(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4)
    found: list[dict[str, int]] = []

    def look() -> None:
        loader.check_ledger()
        found.append(loader.in_hand())
        loader.stop()

    loader.on_idle = look
    take(loader, 5)
    assert found == [{"buffered": 2, "unmarked": 0}]


def test_silence_raises_after_the_time_that_was_given(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4, idle_timeout_s=1.2)
    with pytest.raises(StreamTimeout, match=r"no record came from .* for 1.2 s"):
        take(loader, 5)
    loader.check_ledger()


def test_silence_ends_the_iteration_where_that_was_asked_for(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4, idle_timeout_s=1.2, on_timeout="end")
    assert len(take(loader, 5)) == 2
    assert not loader.position.ended
    loader.check_ledger()
