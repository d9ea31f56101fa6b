from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import OutOfRange
from protocol.messages import Credit, End, Status, Subscribe
from protocol.server_session import Reading, ServerSession

DEALING = Dealing(2, 4)
FAR = {0: 1 << 40, 1: 1 << 40}


def session_at(positions: Positions, dealing: Dealing = DEALING, **changed: Any) -> ServerSession:
    facts: dict[str, Any] = {
        "session": 5,
        "split": "",
        "group": "run",
        "durable": False,
        "incarnation": None,
        "positions": positions,
        "trained": {},
        "committed": None,
        **changed,
    }
    return ServerSession(Subscribe(**facts), dealing, 0.0)


def credit(session: ServerSession, until: Positions, now_s: float = 0.0, **trained: Any) -> None:
    session.credit(Credit(session=5, until=until, durable=False, **{"trained": {}, **trained}), now_s)


def send(session: ServerSession, reading: Reading, now_s: float = 0.0) -> None:
    session.sent(Chunk(reading.partition, reading.offset, {"id": np.zeros(reading.count)}, 0, 0), now_s)


def sent(session: ServerSession, log_end: Positions) -> list[tuple[int, int, int]]:
    """Everything that it may send now, as (partition, offset, count)."""
    found = []
    while (reading := session.reading(log_end, 0.0, 0.0)) is not None:
        found.append((reading.partition, reading.offset, reading.count))
        send(session, reading)
    return found


def test_nothing_is_sent_without_credit() -> None:
    assert session_at({0: 0, 1: 0}).reading({0: 8, 1: 8}, 0.0, 0.0) is None


def test_whole_stripes_are_sent_in_stream_order() -> None:
    session = session_at({0: 0, 1: 0})
    credit(session, FAR)
    assert sent(session, {0: 8, 1: 6}) == [(0, 0, 4), (1, 0, 4), (0, 4, 4), (1, 4, 2)]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 60), st.integers(0, 60), st.data())
def test_it_sends_exactly_what_lies_before_log_end_and_credit(
    partitions: int, stripe: int, start: int, more: int, data: st.DataObject
) -> None:
    dealing = Dealing(partitions, stripe)
    owned = dealing.owned(data.draw(st.integers(0, partitions - 1)), partitions)
    begin, end = dealing.ends(start), dealing.ends(start + more)
    session = session_at({p: begin[p] for p in owned}, dealing)
    window = data.draw(st.integers(0, 60))
    until = dealing.advance({p: begin[p] for p in owned}, window)
    credit(session, until)
    records = []
    for partition, offset, number in sent(session, end):
        assert number <= dealing.stripe_end(offset) - offset
        records += [dealing.record(partition, each) for each in range(offset, offset + number)]
    assert records == sorted(records)
    assert len(records) == min(window, sum(end[p] - begin[p] for p in owned))
    assert all(position <= min(end[p], until[p]) for p, position in session.next.items())


def test_credit_is_cumulative_and_old_credit_changes_nothing() -> None:
    session = session_at({0: 0, 1: 0})
    credit(session, {0: 4, 1: 3})
    credit(session, {0: 4, 1: 3})
    credit(session, {0: 2, 1: 1})
    assert sent(session, FAR) == [(0, 0, 4), (1, 0, 3)]


def test_the_partition_whose_turn_it_is_holds_the_others_back() -> None:
    session = session_at({0: 0, 1: 0})
    credit(session, {0: 2, 1: 4})
    assert sent(session, FAR) == [(0, 0, 2)]


@pytest.mark.parametrize("foreign", [{"until": {2: 4}}, {"until": {}, "trained": {2: 0}}])
def test_credit_for_partitions_that_were_not_asked_for_is_refused(foreign: dict[str, Any]) -> None:
    session = session_at({0: 0, 1: 0})
    with pytest.raises(OutOfRange, match="not subscribed to"):
        credit(session, **foreign)
    assert session.reading(FAR, 0.0, 0.0) is None


def test_more_than_was_sent_cannot_have_been_trained() -> None:
    session = session_at({0: 2, 1: 0})
    credit(session, {0: 4})
    sent(session, FAR)
    assert session.believed({0: 1 << 50, 1: 0}) == {0: 4, 1: 0}


def test_small_chunks_are_a_linger_apart_and_the_first_comes_at_once() -> None:
    session = session_at({0: 0, 1: 0})
    credit(session, FAR)
    first = session.reading({0: 1, 1: 0}, 10.0, 0.5)
    assert first == Reading(0, 0, 1)
    send(session, first, 10.0)
    assert session.reading({0: 2, 1: 0}, 10.4, 0.5) is None
    assert session.reading({0: 2, 1: 0}, 10.5, 0.5) == Reading(0, 1, 1)
    assert session.reading({0: 4, 1: 0}, 10.1, 0.5) == Reading(0, 1, 3), "the end of a stripe waits for nothing"


def test_it_hungers_for_the_log_and_not_for_credit() -> None:
    session = session_at({0: 0, 1: 0})
    assert not session.hungry({0: 0, 1: 0})
    credit(session, {0: 1, 1: 0})
    assert session.hungry({0: 0, 1: 0})
    assert not session.hungry({0: 1, 1: 0})


def test_time_is_short_while_there_is_credit_and_the_log_ends_too_soon() -> None:
    session = session_at({0: 0, 1: 0})

    def short_s(log_end: Positions, seconds: float) -> float:
        before_s = session.short_s
        session.rest(log_end, 10.0)
        session.resume(10.0 + seconds)
        session.resume(20.0)
        return session.short_s - before_s

    assert short_s({0: 0, 1: 0}, 1.0) == 0, "it has no credit"
    credit(session, {0: 4, 1: 2})
    assert short_s({0: 0, 1: 0}, 1.0) == 1
    assert short_s({0: 3, 1: 0}, 0.5) == 0.5, "a part of a stripe lingers for more"
    assert short_s({0: 4, 1: 0}, 1.0) == 0, "a whole stripe is there, which somebody should send"
    sent(session, {0: 4, 1: 2})
    assert short_s({0: 4, 1: 2}, 1.0) == 0, "its credit is used up"


def test_a_status_says_what_comes_next_once_in_a_while() -> None:
    session = session_at({1: 2})
    said = [
        session.status({0: 9, 1: 7}, ended=False, save_soon=True, now_s=now_s, every_s=1.0) for now_s in (0, 0.9, 1)
    ]
    status = Status(session=5, next={1: 2}, log_end={1: 7}, save_soon=True)
    assert said == [status, None, status]


def test_the_end_is_said_at_once_and_again_until_the_reader_leaves() -> None:
    session = session_at({0: 0, 1: 0})
    credit(session, FAR)
    end = {0: 1, 1: 0}

    def said(now_s: float) -> Status | End | None:
        return session.status(end, ended=True, save_soon=False, now_s=now_s, every_s=1.0)

    assert isinstance(said(0.0), Status), "not everything has been sent"
    sent(session, end)
    going_on = session.status(end, ended=False, save_soon=False, now_s=1.0, every_s=0.0)
    assert isinstance(going_on, Status), "more may follow"
    assert [said(now_s) for now_s in (1.0, 1.1, 1.9)] == [End(session=5, final=end), None, None]
    assert said(2.0) == End(session=5, final=end)


def test_only_the_stream_itself_has_groups() -> None:
    assert session_at({0: 0}).group == "run"
    assert session_at({0: 0}, split="test").group is None
