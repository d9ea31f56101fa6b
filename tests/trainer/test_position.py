"""A run stands where batches were marked: what is trained, skipped, and in a state."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.errors import StreamTimeout, UsageError
from tests.trainer.streams import computed, group, ids, serving
from tests.trainer.thousand import RECORDS, expected_ids, numbered, take
from trainer.ledger import FATES
from trainer.loader import StreamLoader


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions, as fast as they are read."""
    with serving(computed(numbered())) as url:
        yield url


def test_a_state_holds_what_was_marked_not_what_was_handed_out(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first, *_ = take(loader, 3, mark=False)
    assert loader.in_hand()["unmarked"] == 180
    loader.mark_trained(first)
    assert loader.state_dict()["positions"] == first.positions
    assert loader.state_dict()["batches"] == 1
    assert loader.in_hand()["unmarked"] == 120
    assert loader.position.lag == RECORDS - 60
    loader.check_ledger()


def test_marking_is_cumulative_and_marking_twice_changes_nothing(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first, _, third = take(loader, 3, mark=False)
    loader.mark_trained(third)
    assert loader.position.trained == third.positions
    loader.mark_trained(first)
    assert loader.position.trained == third.positions
    assert loader.position.ledger.totals()["trained"] == 180
    loader.check_ledger()


def test_a_batch_that_was_skipped_has_passed_and_is_not_trained(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=10)
    _, second, third = take(loader, 3, mark=False)
    loader.mark_skipped(second)
    assert loader.position.totals() == {**dict.fromkeys(FATES, 0), "trained": 10, "skipped": 10}
    loader.check_ledger()
    loader.mark_trained(third)
    state = loader.state_dict()
    assert state["positions"] == third.positions
    assert sum(state["ledger"]["trained"]) == 20
    resumed = StreamLoader(stream, batch_size=10)
    resumed.load_state_dict(state)
    assert ids(take(resumed, 1)) == expected_ids()[30:40]
    assert resumed.position.totals()["skipped"] == 10
    resumed.check_ledger()


@pytest.mark.parametrize(("before", "afterwards"), [(0, 2), (3, 0), (1, 3)])
def test_a_state_goes_on_where_it_was_taken_with_other_workers(stream: str, before: int, afterwards: int) -> None:
    loader = StreamLoader(stream, batch_size=60, num_workers=before)
    begun = take(loader, 5)
    state = loader.state_dict()
    resumed = StreamLoader(stream, batch_size=60, num_workers=afterwards)
    resumed.load_state_dict(state)
    rest = take(resumed, RECORDS)
    assert ids(begun) + ids(rest) == expected_ids()
    assert rest[0].number == 6
    assert resumed.group == loader.group
    assert resumed.position.ledger.totals()["trained"] == RECORDS
    resumed.check_ledger()


def test_a_state_is_refused_once_the_stream_was_asked_for(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    state = loader.state_dict()
    with pytest.raises(RuntimeError, match="before the first batch"):
        loader.load_state_dict(state)


def test_a_state_of_another_version_is_refused(stream: str) -> None:
    state = StreamLoader(stream, batch_size=60).state_dict()
    with pytest.raises(UsageError, match="version 99"):
        StreamLoader(stream, batch_size=60).load_state_dict({**state, "version": 99})


def test_the_producer_hears_what_was_trained_and_keeps_what_a_checkpoint_needs(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60, group="hears")
    batches = iter(loader)
    for _ in range(5):
        loader.mark_trained(next(batches))
    loader.connect()
    deadline_s = time.monotonic() + 5
    while group(stream, "hears").trained != loader.position.trained:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert not group(stream, "hears").durable
    state = loader.state_dict()
    loader.mark_trained(next(batches))
    loader.commit(state)
    known = group(stream, "hears")
    assert known.durable
    assert known.committed == state["positions"] != loader.position.trained
    batches.close()  # type: ignore[attr-defined]


def test_what_a_producer_has_confirmed_is_not_said_again_since_it_may_have_left() -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        publisher.send_columns(id=np.arange(100))
        loader = StreamLoader(publisher.address, batch_size=50)
        take(loader, 1)
        early = loader.state_dict()
        loader.commit(early)
        take(loader, 1)
        state = loader.state_dict()
        loader.commit(state)  # the last that a publisher waits for
    loader.commit(state, timeout_s=0.1)
    with pytest.raises(StreamTimeout):
        loader.commit(early, timeout_s=0.1)
