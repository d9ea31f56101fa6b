"""A log that is nearly full: a checkpoint first, then the older ones, and nothing twice that cannot help."""

from collections.abc import Iterator

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.schema import Field, Schema
from trainer.loader import StreamLoader
from trainer.room import STILL_FULL_S, TOO_SMALL, Room
from trainer.sampling import SamplingSettings

BATCH = 64
SCHEMA = Schema((Field("id", "int64"), Field("label", "int64")), label="label", label_range=(0, 1))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:*", schema=SCHEMA)
    yield publisher
    publisher.abandon()


def send(publisher: Publisher, records: int, label: int = 0) -> None:
    publisher.send_columns(id=np.arange(records), label=np.full(records, label))


class Asking:
    """A room of a loader whose log asks, each time after so many seconds."""

    def __init__(self, loader: StreamLoader) -> None:
        self.saved: list[bool] = []
        self.said: list[str] = []
        self.now_s = 0.0
        self._loader = loader
        loader.connect()
        self._room = Room(loader, self.saved.append, self.said.append, lambda: self.now_s)

    def after(self, seconds: float, *, idle: bool = False) -> list[bool]:
        """What was saved by it: whether alone."""
        before, self.now_s = len(self.saved), self.now_s + seconds
        self._loader.position.save_soon = True
        self._room.make(idle=idle)
        assert not self._loader.position.save_soon
        return self.saved[before:]


def test_what_was_not_enough_costs_the_older_checkpoints_and_is_not_done_again(publisher: Publisher) -> None:
    send(publisher, 2 * BATCH)
    loader = StreamLoader(publisher.address, batch_size=BATCH)
    asking = Asking(loader)
    assert asking.after(0) == [False]
    assert asking.after(1) == [True], "asked again soon: it was not enough"
    assert asking.after(1) == [], "it waits for another group, or for more than was trained"
    for batch in loader:
        loader.mark_trained(batch)
        break
    assert asking.after(1) == [True], "more was trained"
    assert asking.said == []


def test_a_log_that_fills_slowly_costs_no_older_checkpoint(publisher: Publisher) -> None:
    send(publisher, 3 * BATCH)
    loader = StreamLoader(publisher.address, batch_size=BATCH)
    asking = Asking(loader)
    for number, batch in enumerate(loader, start=1):
        loader.mark_trained(batch)
        assert asking.after(STILL_FULL_S + 1) == [False]
        if number == 3:
            break


def test_records_that_pass_without_a_batch_are_worth_a_checkpoint(publisher: Publisher) -> None:
    send(publisher, BATCH)
    loader = StreamLoader(publisher.address, batch_size=BATCH, sampling=SamplingSettings(thin=[1.0, 0.0]))
    asking = Asking(loader)

    def idle() -> None:
        passed = sum(loader.position.trained.values())
        if passed == BATCH:
            due = [] if asking.saved else [False]
            assert asking.after(STILL_FULL_S + 1) == due
            send(publisher, 10, label=1)
        elif passed > BATCH:
            assert asking.after(STILL_FULL_S + 1) == [False]
            loader.stop()

    loader.on_idle = idle
    for batch in loader:
        loader.mark_trained(batch)
    assert sum(loader.position.trained.values()) > BATCH


@pytest.mark.parametrize("idle", [False, True])
def test_that_nothing_can_go_on_is_said_once_where_nothing_is_under_way(publisher: Publisher, *, idle: bool) -> None:
    send(publisher, BATCH + 10)
    loader = StreamLoader(publisher.address, batch_size=BATCH)
    asking = Asking(loader)

    def rest_in_hand() -> None:
        if loader.in_hand()["buffered"] == 10 and loader.position.lag == 10:
            loader.stop()
            for _ in range(4):
                asking.after(1, idle=idle)

    loader.on_idle = rest_in_hand
    for batch in loader:
        loader.mark_trained(batch)
    assert asking.said == ([TOO_SMALL] if idle else [])
