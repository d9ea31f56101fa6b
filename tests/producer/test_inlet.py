"""The inlet without a socket: each record once into the log, and a fault of one writer is that writer's alone."""

from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.inlet import MOST_RECORDS, Inlet, InletSettings
from producer.intake import Intake
from producer.open_log import open_log
from protocol.chunk import Column, Ragged, to_frames
from protocol.errors import UnknownMessage
from protocol.messages import (
    ColumnsMessage,
    Done,
    Greeting,
    Hello,
    Message,
    Push,
    RecordsMessage,
    Refusal,
    Reply,
    Taken,
)
from protocol.quarantine import read_quarantine
from protocol.schema import Field, Schema
from protocol.security import NOTHING, Right

NUMBERS = Schema((Field("n", "int64"),))
A, B = b"peer a", b"peer b"


class Bench:
    """An inlet, the time, and what each peer has heard since it was last asked."""

    def __init__(self, *, bad: BadRecordSettings | None = None, log: LogSettings | None = None, **how: Any) -> None:
        opened = partial(open_log, partitions=2, settings=log or LogSettings(), source="inlet")
        self.now_s = 0.0
        self.intake = Intake(opened, BadRecords(bad or BadRecordSettings()))
        self.inlet = Inlet(self.intake, InletSettings(**how))
        self.gone: set[bytes] = set()
        self._heard: list[tuple[bytes, Message]] = []

    def say(self, peer: bytes, message: Push, user: str = "") -> list[Message]:
        """What the peer hears at once."""
        self.inlet.receive(peer, message, self.now_s, user)
        return self.heard(peer)

    def heard(self, peer: bytes) -> list[Message]:
        self.now_s += 0.01
        self.inlet.advance(self.now_s)
        self.inlet.pump(self._send, self.now_s)
        mine = [message for to, message in self._heard if to == peer]
        self._heard = [(to, message) for to, message in self._heard if to != peer]
        return mine

    def hello(self, peer: bytes = A, writer: str = "a", session: int = 1, schema: Schema | None = None) -> Greeting:
        greeting, *_ = self.say(peer, Hello(session=session, writer=writer, schema=schema))
        assert isinstance(greeting, Greeting), greeting
        return greeting

    @property
    def log(self) -> AppendLog:
        assert self.intake.log is not None
        return self.intake.log

    def pushed(self, field: str = "n") -> list[Any]:
        """What lies in the log, in stream order."""
        found: list[Any] = []
        for record in range(self.log.records):
            column = self.log.read(*self.log.info.dealing.locate(record), 1).columns[field]
            found.append(bytes(column.values) if isinstance(column, Ragged) else column[0].tolist())
        return found

    def _send(self, peer: bytes, message: Reply) -> bool:
        if peer in self.gone:
            raise UnknownMessage("the peer is gone")
        self._heard.append((peer, message))
        return True


def maps(number: int, *records: dict[str, Any], session: int = 1, **changed: Any) -> RecordsMessage:
    facts: dict[str, Any] = {"session": session, "number": number, "count": len(records), **changed}
    return RecordsMessage(**facts, frames=(msgpack.packb(records),))


def numbers(first: int, end: int, session: int = 1) -> RecordsMessage:
    return maps(first, *({"n": n} for n in range(first, end)), session=session)


def columns(first: int, session: int = 1, schema: Schema = NUMBERS, **columns: Column) -> ColumnsMessage:
    frames = tuple(to_frames(schema, columns))
    return ColumnsMessage(session=session, number=first, count=len(next(iter(columns.values()))), frames=frames)


def refusal(messages: list[Message]) -> Refusal:
    (found,) = [each for each in messages if isinstance(each, Refusal)]
    return found


def taken(messages: list[Message]) -> tuple[int, int, int]:
    last = messages[-1]
    assert isinstance(last, Taken), last
    return last.due, last.durable, last.until


# --- each record once --------------------------------------------------------------------------------------------


def test_maps_and_columns_of_one_writer_are_one_sequence() -> None:
    bench = Bench()
    assert bench.hello() == Greeting(session=1, schema=None, due=0, durable=0, until=MOST_RECORDS)
    assert taken(bench.say(A, numbers(0, 3))) == (3, 3, MOST_RECORDS + 3)
    assert taken(bench.say(A, columns(3, n=np.arange(3, 8)))) == (8, 8, MOST_RECORDS + 8)
    assert bench.pushed() == list(range(8))
    assert bench.hello(session=2).schema == NUMBERS


def test_what_comes_again_is_passed_over_and_what_is_half_new_is_cut() -> None:
    bench = Bench()
    bench.hello()
    for message in (numbers(0, 3), numbers(0, 3), numbers(1, 5), columns(2, n=np.arange(2, 7)), numbers(0, 7)):
        bench.say(A, message)
    assert bench.pushed() == list(range(7))


def test_a_gap_is_said_once_with_the_number_that_is_due_and_the_session_goes_on() -> None:
    bench = Bench()
    bench.hello()
    bench.say(A, numbers(0, 3))
    gap = refusal(bench.say(A, numbers(5, 7)))
    assert (gap.code, gap.first, gap.end) == ("gap", 5, 3)
    assert not [each for each in bench.say(A, numbers(7, 9)) if isinstance(each, Refusal)]
    bench.say(A, numbers(3, 5))
    assert refusal(bench.say(A, numbers(9, 10))).end == 5
    assert refusal(bench.say(B, numbers(0, 1))).code == "no_session"
    assert bench.pushed() == list(range(5))


def test_writers_have_numbers_of_their_own() -> None:
    bench = Bench()
    bench.hello(A, "a")
    bench.hello(B, "b")
    bench.say(A, numbers(0, 3))
    bench.say(B, numbers(0, 2))
    bench.say(A, numbers(3, 4))
    assert bench.pushed() == [0, 1, 2, 0, 1, 3]


def test_a_writer_that_comes_back_goes_on_and_the_connection_that_it_had_is_refused() -> None:
    bench = Bench()
    bench.hello(A)
    bench.say(A, numbers(0, 3))
    assert bench.hello(B, session=2).due == 3
    assert "another connection" in refusal(bench.heard(A)).text
    assert refusal(bench.say(A, numbers(3, 4))).code == "no_session"
    bench.say(B, numbers(3, 4, session=2))
    assert bench.pushed() == list(range(4))


def test_a_doubled_hello_changes_nothing() -> None:
    bench = Bench()
    bench.hello()
    bench.say(A, numbers(0, 3))
    assert bench.hello().due == 3
    bench.say(A, numbers(3, 4))
    assert bench.pushed() == list(range(4))


class AgainstAPlainList(RuleBasedStateMachine):
    """Whatever is sent twice, too early or by halves: the log holds what each writer has given, once and in order."""

    @initialize()
    def start(self) -> None:
        self.bench = Bench()
        self.given = {A: 0, B: 0}
        self.sessions = {A: 0, B: 0}

    @rule(peer=st.sampled_from([A, B]))
    def hello(self, peer: bytes) -> None:
        self.sessions[peer] += 1
        greeting = self.bench.hello(peer, peer.decode(), session=self.sessions[peer])
        assert greeting.due == greeting.durable == self.given[peer]

    @rule(peer=st.sampled_from([A, B]), back=st.integers(-3, 5), count=st.integers(1, 6), wide=st.booleans())
    def push(self, peer: bytes, back: int, count: int, *, wide: bool) -> None:
        first = max(0, self.given[peer] - back)
        session = self.sessions[peer]
        if wide and self.bench.intake.log is not None:
            message: Push = columns(first, session, n=np.arange(first, first + count))
        else:
            message = numbers(first, first + count, session)
        heard = self.bench.say(peer, message)
        if session == 0:
            assert refusal(heard).code == "no_session"
        elif first <= self.given[peer]:
            self.given[peer] = max(self.given[peer], first + count)

    @invariant()
    def the_log_has_what_was_given_once(self) -> None:
        if hasattr(self, "bench") and self.bench.intake.log is not None:
            want = sorted(n for count in self.given.values() for n in range(count))
            assert sorted(self.bench.pushed()) == want


TestAgainstAPlainList = AgainstAPlainList.TestCase
TestAgainstAPlainList.settings = settings(max_examples=15, stateful_step_count=15)


# --- credit, and a log that is full ------------------------------------------------------------------------------


def test_a_writer_that_ignores_credit_is_refused_and_nobody_else() -> None:
    bench = Bench()
    until = bench.hello(A).until
    bench.hello(B, "b")
    beyond = ColumnsMessage(session=1, number=0, count=until + 1, frames=())
    assert refusal(bench.say(A, beyond)).text == f"records up to {until + 1} where credit ends at {until}"
    assert refusal(bench.say(A, numbers(0, 1))).code == "no_session"
    assert taken(bench.say(B, numbers(0, 1)))[0] == 1


def test_while_the_log_has_no_room_one_message_waits_and_nothing_is_taken_in() -> None:
    bench = Bench(log=LogSettings(bytes=3 * 4096 * 16))  # three stripes
    bench.hello(schema=NUMBERS)
    bench.say(A, columns(0, n=np.arange(3 * 4096 - 5)))
    assert taken(bench.say(A, columns(3 * 4096 - 5, n=np.arange(100))))[0] == 3 * 4096
    assert bench.inlet.full
    assert bench.log.taken("a") == 3 * 4096
    bench.log.trim(bench.log.log_end())
    assert taken(bench.heard(A))[0] == 3 * 4096 + 95
    assert not bench.inlet.full


def test_silence_counts_only_while_the_inlet_listens() -> None:
    bench = Bench(log=LogSettings(bytes=3 * 4096 * 16), ends=True)
    bench.hello(A, schema=NUMBERS)
    bench.hello(B, "b")
    bench.say(A, columns(0, n=np.arange(3 * 4096 + 1)))
    for _ in range(4):
        bench.now_s += 40
        bench.heard(A)
    assert bench.inlet.full
    bench.log.trim(bench.log.log_end())
    bench.say(A, Done(session=1, number=3 * 4096 + 1))
    assert not bench.log.ended
    assert taken(bench.say(B, numbers(0, 1)))[0] == 1


def test_a_log_that_refuses_what_finds_no_room_has_the_writer_told() -> None:
    bench = Bench(log=LogSettings(bytes=3 * 4096 * 16, full="fail"))
    bench.hello(schema=NUMBERS)
    full = refusal(bench.say(A, columns(0, n=np.arange(3 * 4096 + 1))))
    assert full.code == "full"
    assert "the log is full" in full.text
    assert not bench.inlet.full


def test_a_record_that_no_log_of_this_size_can_hold_is_refused_and_the_next_writer_served() -> None:
    text = Schema((Field("text", "uint8", (None,)),))
    bench = Bench(log=LogSettings(bytes=1 << 20))
    bench.hello(A, schema=text)
    bench.hello(B, "b")
    large = Ragged(np.array([2 << 20], "<u4"), np.zeros(2 << 20, np.uint8))
    assert refusal(bench.say(A, columns(0, schema=text, text=large))).code == "full"
    bench.say(B, maps(0, {"text": "short"}))
    assert bench.pushed("text") == [b"short"]


def test_what_is_durable_is_said_when_it_is(tmp_path: Path) -> None:
    bench = Bench(log=LogSettings(path=str(tmp_path), linger=0))
    bench.hello()
    heard = bench.say(A, numbers(0, 5))
    for _ in range(1000):
        if any(isinstance(each, Taken) and each.durable == 5 for each in heard):
            break
        bench.log.flush(timeout_s=30)
        heard = bench.heard(A)
    assert taken(heard) == (5, 5, MOST_RECORDS + 5)
    bench.log.close()
    again = Bench(log=LogSettings(path=str(tmp_path)))
    assert again.hello() == Greeting(session=1, schema=NUMBERS, due=5, durable=5, until=MOST_RECORDS + 5)
    again.log.close()


def test_signs_of_life_are_said_once_a_second_and_silent_writers_forgotten_after_a_minute() -> None:
    bench = Bench()
    bench.hello()
    said = 0
    for _ in range(500):
        said += len(bench.heard(A))
    assert 4 <= said <= 6
    bench.now_s += 60
    bench.heard(A)
    assert refusal(bench.say(A, numbers(0, 1))).code == "no_session"


def test_where_no_more_writers_are_served_one_that_comes_back_is() -> None:
    bench = Bench(max_writers=1)
    bench.hello(A)
    bench.say(A, numbers(0, 3))
    assert bench.hello(B, session=2).due == 3
    other = refusal(bench.say(b"peer c", Hello(session=1, writer="c")))
    assert other.text == "1 writers are served already"


def test_a_writer_that_is_gone_is_forgotten() -> None:
    bench = Bench(max_writers=1)
    bench.hello(A)
    assert "served already" in refusal(bench.say(B, Hello(session=1, writer="b"))).text
    bench.gone.add(A)
    bench.now_s += 1
    bench.heard(A)
    bench.hello(B, "b")


# --- schemas, and records that do not fit ------------------------------------------------------------------------


def test_a_writer_of_other_records_is_refused_and_both_are_named() -> None:
    bench = Bench()
    bench.hello(A, schema=NUMBERS)
    other = Schema((Field("n", "float32"), Field("m", "uint8", (3,))))
    unfit = refusal(bench.say(B, Hello(session=1, writer="b", schema=other)))
    assert unfit.code == "unfit"
    assert "records of n int64; this writer would push records of n float32, m uint8[3]" in unfit.text
    labelled = Schema(NUMBERS.fields, label="n", label_range=(0, 1))
    assert "another label" in refusal(bench.say(B, Hello(session=2, writer="b", schema=labelled))).text


def test_the_first_map_shows_the_schema() -> None:
    bench = Bench()
    bench.hello()
    array = {"dtype": "float32", "shape": [2], "data": np.array([1, 2], "<f4").tobytes()}
    bench.say(A, maps(0, {"label": 1, "x": [0.5, 1], "text": "ä", "image": array}))
    fields = (Field("label", "int64"), Field("x", "float64", (2,)), Field("text", "uint8", (None,)))
    assert bench.log.info.schema == Schema((*fields, Field("image", "float32", (2,))), label="label")
    assert bench.pushed("text") == ["ä".encode()]
    assert bench.pushed("image") == [[1, 2]]


def test_columns_need_a_schema() -> None:
    bench = Bench()
    bench.hello()
    assert "say it in hello" in refusal(bench.say(A, columns(0, n=np.arange(3)))).text


@pytest.mark.parametrize("first", [{}, {"x": []}, {"x" * 129: 1}])
def test_a_first_map_that_cannot_be_a_streams_is_refused_and_another_may_come(first: dict[str, Any]) -> None:
    bench = Bench()
    bench.hello()
    assert refusal(bench.say(A, maps(0, first))).code in ("unfit", "range")
    bench.hello()
    bench.say(A, numbers(0, 2))
    assert bench.pushed() == [0, 1]


def test_a_schema_that_no_log_of_this_size_can_hold_is_the_writers_fault() -> None:
    bench = Bench(log=LogSettings(bytes=1 << 20))
    wide = Schema((Field("x", "uint8", (1 << 24,)),))
    assert "too small" in refusal(bench.say(A, Hello(session=1, writer="a", schema=wide))).text
    bench.hello(B, "b", schema=NUMBERS)


def test_a_record_that_does_not_fit_is_said_to_its_writer_and_those_before_it_are_taken() -> None:
    bench = Bench()
    bench.hello()
    unfit = refusal(bench.say(A, maps(0, {"n": 0}, {"n": 1}, {"n": "two"}, {"n": 3})))
    assert unfit.code == "unfit"
    assert unfit.text.startswith("record 2 of a: field 'n': uint8 (3,) where int64 () is due")
    assert bench.pushed() == [0, 1]
    assert bench.hello().due == 2


@pytest.mark.parametrize("in_columns", [False, True])
def test_with_a_quarantine_it_is_kept_aside_and_its_number_is_taken(tmp_path: Path, *, in_columns: bool) -> None:
    file = tmp_path / "quarantine"
    bench = Bench(bad=BadRecordSettings(on_bad_record="quarantine", quarantine=str(file)))
    labelled = Schema((Field("label", "int64"),), label="label", label_range=(0, 9))
    bench.hello(schema=labelled)
    labels = np.array([1, 3, 12])
    message = columns(0, schema=labelled, label=labels) if in_columns else maps(0, *({"label": int(n)} for n in labels))
    assert taken(bench.say(A, message))[:2] == (3, 3)
    assert bench.pushed("label") == [1, 3]
    assert [kept["record"] for kept in read_quarantine(file)] == [{"label": 12}]


def test_an_event_time_is_that_of_all_records_of_its_message() -> None:
    bench = Bench()
    bench.hello()
    bench.say(A, maps(0, {"n": 0}, {"n": 1}, time_ns=-5))
    chunk = bench.log.read(0, 0, 2)
    assert (chunk.first_time_ns, chunk.last_time_ns) == (-5, -5)


# --- ends, faults and rights -------------------------------------------------------------------------------------


def test_done_is_answered_once_all_is_durable_and_the_stream_goes_on() -> None:
    bench = Bench()
    bench.hello()
    bench.say(A, numbers(0, 3))
    assert refusal(bench.say(A, Done(session=1, number=4))).code == "gap"
    assert bench.say(A, Done(session=1, number=3)) == [
        Taken(session=1, due=3, durable=3, until=MOST_RECORDS + 3, done=True)
    ]
    assert refusal(bench.say(A, Done(session=1, number=3))).code == "no_session"
    assert not bench.log.ended


def test_the_stream_ends_where_asked_once_the_last_writer_that_is_there_is_done() -> None:
    bench = Bench(ends=True)
    bench.hello(A)
    bench.hello(B, "b")
    bench.say(A, numbers(0, 3))
    bench.say(A, Done(session=1, number=3))
    before = bench.log.ended
    bench.say(B, Done(session=1, number=0))
    assert (before, bench.log.ended) == (False, True)


def test_a_stream_that_has_ended_says_again_what_was_taken_and_takes_no_more() -> None:
    bench = Bench(ends=True)
    bench.hello()
    bench.say(A, numbers(0, 3))
    bench.say(A, Done(session=1, number=3))
    assert bench.log.ended
    for session in (2, 3):  # the answers to the first were lost
        assert bench.hello(session=session).durable == 3
        bench.say(A, numbers(0, 3, session))
        answer = bench.say(A, Done(session=session, number=3))[-1]
        assert isinstance(answer, Taken)
        assert answer.done
    bench.hello(session=4)
    assert "has ended" in refusal(bench.say(A, numbers(2, 4, session=4))).text
    bench.hello(B, "b")
    assert "has ended" in refusal(bench.say(B, columns(0, n=np.arange(1)))).text
    assert bench.pushed() == [0, 1, 2]


def test_a_writer_that_is_done_before_its_last_record_is_refused() -> None:
    bench = Bench()
    bench.hello()
    bench.say(A, numbers(0, 3))
    assert refusal(bench.say(A, Done(session=1, number=2))).code == "range"


BROKEN: dict[str, Push] = {
    "no frame": RecordsMessage(session=1, number=0, count=1, frames=()),
    "no msgpack": RecordsMessage(session=1, number=0, count=1, frames=(b"\xc1",)),
    "no record": RecordsMessage(session=1, number=0, count=0, frames=(b"\x90",)),
    "half a column": ColumnsMessage(session=1, number=0, count=2, frames=(b"12345678",)),
    "no column": ColumnsMessage(session=1, number=0, count=1, frames=()),
    "no name": Hello(session=2, writer=""),
    "a long name": Hello(session=2, writer="ä" * 65),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_malformed_ends_one_session_and_disturbs_nobody(broken: str) -> None:
    bench = Bench()
    bench.hello(A, schema=NUMBERS)
    bench.hello(B, "b")
    assert refusal(bench.say(A, BROKEN[broken])).code in ("malformed", "range")
    assert bench.inlet.outbox.refused.total() == 1
    assert taken(bench.say(B, numbers(0, 2)))[0] == 2


def test_pushing_is_a_right_of_its_own_and_whoever_loses_it_is_told() -> None:
    bench = Bench()
    rights = {"writer": Right.PUSH, "reader": Right.READ | Right.COMMIT}
    bench.inlet.rights_of = lambda user: rights[user]
    denied = refusal(bench.say(B, Hello(session=1, writer="b"), "reader"))
    assert denied.code == "denied"
    assert "hello needs the right to push" in denied.text
    bench.say(A, Hello(session=1, writer="a"), "writer")
    bench.say(A, numbers(0, 2), "writer")
    rights["writer"] = NOTHING
    assert bench.inlet.end_denied() == ["writer"]
    assert refusal(bench.heard(A)).code == "denied"
    assert refusal(bench.say(A, numbers(2, 3), "writer")).code == "no_session"
    assert bench.pushed() == [0, 1]
