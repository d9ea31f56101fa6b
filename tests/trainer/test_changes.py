"""Each change of a stream is told once, when training has come to it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.change import Change
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from tests.trainer.states import through_a_checkpoint
from trainer.changes import Changes

CHANGES = (
    Change(what="dusk", at=0, until=20),
    Change(what="rain", at=30, until=35, every=10),
    Change(what="x", at=999),
)


def info(incarnation: str = "one") -> StreamInfo:
    schema = Schema((Field("x", "int8"),))
    return StreamInfo(incarnation=incarnation, schema=schema, dealing=Dealing(2, 4), changes=CHANGES)


def begin(first: int = 0) -> Changes:
    return Changes([(info(), info().dealing.ends(first))])


@settings(max_examples=50)
@given(st.lists(st.integers(1, 4), max_size=20), st.data())
def test_each_is_told_once_over_any_number_of_lives(batches: list[int], data: st.DataObject) -> None:
    told, changes, last = [], begin(), -1
    for records in batches:
        last += records
        told += changes.passed(info(), last)
        if data.draw(st.booleans()):
            state = through_a_checkpoint(changes.state_dict())
            changes = begin(data.draw(st.integers(0, last)))  # where positions stand: in a shuffled window, before it
            changes.load_state_dict(state)
    assert sorted(told) == sorted(
        turn for change in CHANGES for n in range(last + 1) for turn in change.turns(n, n + 1)
    )


def test_what_a_run_that_begins_later_has_not_seen_is_not_told() -> None:
    assert begin(first=21).passed(info(), 29) == []
    assert begin(first=20).passed(info(), 20) == [(20, "dusk ends")]


def test_a_shuffled_window_tells_what_lies_before_its_furthest_record() -> None:
    changes = begin()
    assert [record for record, _ in changes.passed(info(), 31)] == [0, 20, 30]
    assert changes.passed(info(), 7) == []
    assert changes.passed(info(), 35) == [(35, "rain ends")]


def test_the_stream_that_follows_is_told_from_its_first_record_on() -> None:
    changes = begin(first=500)
    assert changes.passed(info("two"), 3) == [(0, "dusk begins")]


def test_of_several_streams_each_is_told_by_itself() -> None:
    ends = info().dealing.ends
    changes = Changes([(info("one"), ends(0)), (info("two"), ends(25))])
    assert changes.passed(info("two"), 30) == [(30, "rain begins")]
    assert changes.passed(info("one"), 3) == [(0, "dusk begins")]
    again = Changes([(info("two"), ends(0))])
    again.load_state_dict(through_a_checkpoint(changes.state_dict()))
    assert again.passed(info("two"), 35) == [(35, "rain ends")]
    assert again.passed(info("one"), 20) == [(20, "dusk ends")]
