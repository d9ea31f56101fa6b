from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from protocol.chunk import MAX_CHUNK_BYTES, Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import (
    BeyondLogEnd,
    Lost,
    MalformedMessage,
    OutOfRange,
    OversizedMessage,
    PeerError,
    RecordsLost,
    StreamReplaced,
    UnknownMessage,
    VersionMismatch,
)
from protocol.messages import (
    Bye,
    ChunkMessage,
    Committed,
    Credit,
    End,
    Refusal,
    Reply,
    Request,
    Status,
    Subscribe,
    Welcome,
)
from protocol.reader_session import ReaderSession, State
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.subscription import Away, Ended, Event, Expired, Heard, Progress, ReaderSettings, Subscribed, Subscription

SCHEMA = Schema((Field("id", "int64"),))
INFO = StreamInfo(incarnation="stream one", schema=SCHEMA, dealing=Dealing(2, 4))
SETTINGS = ReaderSettings(
    window_bytes=12 * 8, sign_of_life_s=0.5, away_after_s=4.0, retry_first_s=0.2, retry_most_s=1.0
)


class Talk:
    """A session, the time, and what it says; the server's side is spoken by the test."""

    def __init__(self, positions: Positions | None = None, info: StreamInfo = INFO, **asked: Any) -> None:
        self.now_s, self.info = 100.0, info
        self.progress = Progress()
        tokens = count(1)
        start = {0: 0, 1: 0} if positions is None else positions
        self.session = ReaderSession(
            Subscription(split="", positions=start, **asked),
            SETTINGS,
            lambda: next(tokens),
            self.now_s,
            lambda: self.progress,
        )
        self.token = 1

    def said(self) -> list[Request]:
        said, self.session.outbox = self.session.outbox, []
        return said

    def subscribed(self) -> Subscribe:
        """The one thing that was said: from here on the server answers to it."""
        (request,) = self.said()
        assert isinstance(request, Subscribe)
        self.token = request.session
        return request

    def credit(self) -> Credit:
        (request,) = self.said()
        assert isinstance(request, Credit)
        return request

    def hear(self, reply: Reply) -> list[Event]:
        return self.session.receive(reply, self.now_s)

    def welcome(self, **changed: Any) -> list[Event]:
        facts = {"session": self.token, "info": self.info, "log_end": {0: 8, 1: 8}, **changed}
        return self.hear(Welcome(**facts))

    def chunk(self, partition: int, offset: int, end: int, **changed: Any) -> list[Event]:
        facts = {
            "session": self.token,
            "partition": partition,
            "offset": offset,
            "count": end - offset,
            "first_time_ns": offset,
            "last_time_ns": end - 1,
            "frames": (np.arange(offset, end).tobytes(),),
            **changed,
        }
        return self.hear(ChunkMessage(**facts))

    def status(self, sent: Positions, session: int | None = None, source_s: float = 0.0) -> list[Event]:
        end = {0: 99, 1: 99}
        return self.hear(
            Status(session=session or self.token, next=sent, log_end=end, save_soon=True, source_s=source_s)
        )

    def refused(self, code: str, **facts: Any) -> list[Event]:
        return self.hear(Refusal(code=code, text="because", **{"session": self.token, **facts}))

    def wait(self, seconds: float) -> list[Event]:
        self.now_s += seconds
        return self.session.advance(self.now_s)


@pytest.fixture
def talk() -> Talk:
    """Streaming, with everything said so far taken out of the way."""
    talk = Talk()
    talk.subscribed()
    talk.welcome()
    talk.said()
    return talk


def ids(events: list[Event]) -> list[int]:
    """The ids of the one chunk among the events, which holds what its numbers say."""
    (chunk,) = events
    assert isinstance(chunk, Chunk)
    found: list[int] = np.asarray(chunk.columns["id"]).tolist()
    assert found == list(range(chunk.offset, chunk.end))
    return found


# --- subscribing --------------------------------------------------------------------------------------------------


def test_it_asks_for_its_positions_and_repeats_what_was_trained_and_committed() -> None:
    progress = Progress(trained={0: 3, 1: 2}, committed={0: 1, 1: 0}, durable=True)
    talk = Talk({0: 5, 1: 4}, incarnation="stream one", group="run")
    talk.session = ReaderSession(talk.session.subscription, SETTINGS, lambda: 7, 0.0, lambda: progress)
    assert talk.subscribed() == Subscribe(
        session=7,
        split="",
        group="run",
        durable=True,
        incarnation="stream one",
        positions={0: 5, 1: 4},
        trained={0: 3, 1: 2},
        committed={0: 1, 1: 0},
    )


def test_it_asks_again_with_growing_pauses_until_it_is_welcome() -> None:
    talk = Talk()
    asked = [100.0]
    talk.subscribed()
    while len(asked) < 6:
        talk.now_s = talk.session.due_s()
        talk.session.advance(talk.now_s)
        talk.subscribed()
        asked.append(talk.now_s)
    assert np.diff(asked).round(3).tolist() == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert [type(event) for event in talk.welcome()] == [Subscribed, Heard]


def test_an_answer_that_is_two_seconds_under_way_is_not_overtaken_for_ever_by_the_next_attempt() -> None:
    session = ReaderSession(Subscription(split="", positions={0: 0, 1: 0}), ReaderSettings(), count(1).__next__, 0.0)
    under_way: list[tuple[float, int]] = []
    now_s = 0.0
    while session.state is not State.STREAMING:
        now_s += 0.05
        assert now_s < 30
        session.advance(now_s)
        under_way += [(now_s + 2.2, said.session) for said in session.outbox if isinstance(said, Subscribe)]
        session.outbox.clear()
        while under_way and under_way[0][0] <= now_s:
            session.receive(Welcome(session=under_way.pop(0)[1], info=INFO, log_end={0: 8, 1: 8}), now_s)


def test_each_subscription_has_a_number_of_its_own() -> None:
    talk = Talk()
    numbers = [talk.subscribed().session]
    for _ in range(3):
        talk.wait(1.0)
        numbers.append(talk.subscribed().session)
    assert len(set(numbers)) == 4


def test_the_welcome_of_a_former_subscription_is_passed_over() -> None:
    talk = Talk()
    talk.subscribed()
    talk.wait(1.0)
    talk.subscribed()
    assert talk.welcome(session=1) == []
    assert talk.session.state is State.SUBSCRIBING
    assert len(talk.welcome()) == 2


def test_once_welcome_it_knows_the_stream_and_how_far_it_reaches() -> None:
    talk = Talk()
    assert talk.welcome() == [Subscribed(INFO), Heard({0: 8, 1: 8}, save_soon=False)]
    assert talk.session.state is State.STREAMING


def test_a_second_welcome_changes_nothing(talk: Talk) -> None:
    assert talk.welcome() == []
    assert talk.said() == []


def test_another_stream_than_was_asked_for_is_refused_by_name() -> None:
    talk = Talk(incarnation="stream zero")
    with pytest.raises(StreamReplaced, match="expected stream stream zero, found stream stream one"):
        talk.welcome()


def test_a_stream_without_an_order_is_none_that_a_server_sends() -> None:
    talk = Talk()
    talk.subscribed()
    with pytest.raises(OutOfRange, match="a server sends in stream order, and this stream's is arrival"):
        talk.welcome(info=replace(INFO, order="arrival"))


def test_whatever_stream_was_found_first_is_expected_from_then_on(talk: Talk) -> None:
    talk.refused("no_session")
    assert talk.subscribed().incarnation == "stream one"
    other = StreamInfo(incarnation="stream two", schema=SCHEMA, dealing=INFO.dealing)
    with pytest.raises(StreamReplaced, match="expected stream stream one, found stream stream two"):
        talk.welcome(info=other)


# --- credit -------------------------------------------------------------------------------------------------------


def test_credit_covers_a_window_in_stream_order() -> None:
    talk = Talk({0: 6, 1: 4})
    talk.said()
    talk.welcome()
    # Partition 1 first: its stripe of 4 to 7 comes before what 0 has left of its own.
    assert talk.credit().until == {0: 12, 1: 10}


def test_credit_is_said_again_in_full_as_a_sign_of_life(talk: Talk) -> None:
    talk.progress = Progress(trained={0: 1}, durable=True)
    for _ in range(3):
        assert talk.wait(0.5) == []
        assert talk.credit() == Credit(session=1, until={0: 8, 1: 4}, trained={0: 1}, durable=True)
        talk.status({0: 0, 1: 0})


def test_while_nothing_can_be_taken_signs_of_life_go_on_and_silence_is_not_judged(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    talk.progress = Progress(trained={0: 2})
    for _ in range(20):
        talk.now_s += 0.25
        talk.session.stay(talk.now_s)
    said = talk.said()
    assert len(said) == 10, "one each half second"
    assert {(each.trained[0], each.until[0]) for each in said if isinstance(each, Credit)} == {(2, 8)}
    assert talk.wait(0.25) == [], "five seconds are more than what makes a server that is listened to away"


def test_credit_grows_once_half_a_window_has_been_taken(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    talk.session.take(0, 4, talk.now_s)
    assert talk.said() == []
    talk.chunk(1, 0, 2)
    talk.session.take(1, 2, talk.now_s)
    assert talk.credit().until == {0: 10, 1: 8}


def test_what_was_received_and_not_taken_earns_no_credit(talk: Talk) -> None:
    for partition, offset in ((0, 0), (1, 0), (0, 4)):
        ids(talk.chunk(partition, offset, offset + 4))
    talk.wait(0.5)
    assert talk.credit().until == {0: 8, 1: 4}


def test_the_window_is_at_least_two_stripes() -> None:
    large = StreamInfo(incarnation="large", schema=Schema((Field("x", "uint8", (1000,)),)), dealing=Dealing(2, 4))
    talk = Talk(info=large)
    talk.said()
    talk.welcome()
    assert talk.credit().until == {0: 4, 1: 4}


def test_records_that_differ_in_size_are_counted_in_stripes() -> None:
    schema = Schema((Field("label", "int64"), Field("text", "uint8", (None,))))
    talk = Talk(info=StreamInfo(incarnation="ragged", schema=schema, dealing=Dealing(2, 4)))
    talk.said()
    talk.welcome()
    assert talk.credit().until == {0: 4, 1: 4}
    settings = ReaderSettings(window_bytes=32 << 20)
    session = ReaderSession(talk.session.subscription, settings, lambda: 1, 0.0)
    session.receive(Welcome(session=1, info=talk.info, log_end={}), 0.0)
    credit = session.outbox[-1]
    assert isinstance(credit, Credit)
    assert credit.until == {0: 16, 1: 16}


# --- chunks -------------------------------------------------------------------------------------------------------


def test_chunks_come_out_in_stream_order(talk: Talk) -> None:
    assert ids(talk.chunk(0, 0, 3)) == [0, 1, 2]
    assert ids(talk.chunk(0, 3, 4)) == [3]
    assert ids(talk.chunk(1, 0, 4)) == [0, 1, 2, 3]
    assert ids(talk.chunk(0, 4, 8)) == [4, 5, 6, 7]
    assert talk.said() == []


def test_a_chunk_that_came_before_is_passed_over(talk: Talk) -> None:
    talk.chunk(0, 0, 3)
    assert talk.chunk(0, 0, 3) == []
    assert talk.chunk(0, 1, 2) == []
    assert talk.said() == []


def test_what_came_before_is_cut_off_a_chunk(talk: Talk) -> None:
    talk.chunk(0, 0, 3)
    (chunk,) = talk.chunk(0, 1, 4)
    assert ids([chunk]) == [3]
    assert isinstance(chunk, Chunk)
    assert (chunk.first_time_ns, chunk.last_time_ns) == (3, 3)


def test_a_gap_makes_it_subscribe_again_from_what_it_has(talk: Talk) -> None:
    talk.chunk(0, 0, 2)
    assert talk.chunk(0, 3, 4) == []
    assert talk.subscribed().positions == {0: 2, 1: 0}
    assert talk.session.state is State.SUBSCRIBING


def test_a_chunk_out_of_turn_shows_that_another_was_lost(talk: Talk) -> None:
    assert talk.chunk(1, 0, 4) == []
    assert talk.subscribed().positions == {0: 0, 1: 0}


def test_chunks_of_a_former_session_are_passed_over(talk: Talk) -> None:
    talk.chunk(0, 3, 4)
    talk.subscribed()
    talk.welcome()
    assert talk.chunk(0, 0, 4, session=1) == []
    assert ids(talk.chunk(0, 0, 4)) == [0, 1, 2, 3]


def test_nothing_counts_before_the_welcome() -> None:
    talk = Talk()
    talk.subscribed()
    assert talk.chunk(0, 0, 4) == []
    assert talk.status({0: 0, 1: 0}) == []
    assert talk.hear(End(session=1, final={0: 0, 1: 0})) == []


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"partition": 2}, OutOfRange),
        ({"count": 0, "frames": (b"",)}, OutOfRange),
        ({"count": 5, "frames": (bytes(40),)}, OutOfRange),
        ({"offset": 8}, OutOfRange),
        ({"frames": ()}, MalformedMessage),
        ({"frames": (bytes(31),)}, MalformedMessage),
        ({"frames": (bytes(32), bytes(32))}, MalformedMessage),
    ],
    ids=[
        "a partition that was not asked for",
        "no record",
        "across the end of a stripe",
        "beyond credit",
        "no frames",
        "a byte too few",
        "a frame too many",
    ],
)
def test_a_chunk_that_breaks_the_protocol_is_the_servers_fault(
    talk: Talk, chunk: dict[str, Any], kind: type[PeerError]
) -> None:
    facts = {"partition": 0, "offset": 0, "count": 4, "first_time_ns": 0, "last_time_ns": 0, "frames": (bytes(32),)}
    with pytest.raises(kind):
        talk.hear(ChunkMessage(session=1, **{**facts, **chunk}))


def test_a_chunk_of_more_bytes_than_one_may_have_is_refused(talk: Talk) -> None:
    with pytest.raises(OversizedMessage):
        talk.chunk(0, 0, 4, frames=(np.zeros(MAX_CHUNK_BYTES + 1, np.uint8).data,))


# --- status and end -----------------------------------------------------------------------------------------------


def test_a_status_says_how_far_the_log_reaches(talk: Talk) -> None:
    assert talk.status({0: 0, 1: 0}) == [Heard({0: 99, 1: 99}, save_soon=True)]


def test_a_status_that_speaks_of_what_never_came_makes_it_subscribe_again(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    assert talk.status({0: 4, 1: 1}) == []
    assert talk.subscribed().positions == {0: 4, 1: 0}


def test_a_status_may_be_behind_what_came_since(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    assert len(talk.status({0: 0, 1: 0})) == 1
    assert talk.said() == []


def test_a_status_of_a_former_session_is_passed_over(talk: Talk) -> None:
    assert talk.status({0: 50, 1: 50}, session=99) == []
    assert talk.said() == []


@pytest.mark.parametrize("positions", [{}, {0: 0}, {0: 0, 1: 0, 2: 0}])
def test_status_and_end_speak_of_the_partitions_that_were_asked_for(talk: Talk, positions: Positions) -> None:
    with pytest.raises(OutOfRange):
        talk.status(positions)
    with pytest.raises(OutOfRange):
        talk.hear(End(session=1, final=positions))


def test_the_end_comes_only_after_everything(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    assert talk.hear(End(session=1, final={0: 4, 1: 2})) == []
    assert talk.subscribed().positions == {0: 4, 1: 0}
    talk.welcome()
    talk.said()
    talk.chunk(1, 0, 2)
    assert talk.hear(End(session=talk.token, final={0: 4, 1: 2})) == [Ended({0: 4, 1: 2})]
    assert talk.session.state is State.ENDED


def test_at_the_end_it_takes_its_leave_with_what_was_trained(talk: Talk) -> None:
    talk.progress = Progress(trained={0: 0}, durable=True)
    talk.hear(End(session=1, final={0: 0, 1: 0}))
    assert talk.said() == [Credit(session=1, until={}, trained={0: 0}, durable=True), Bye(session=1)]


def test_after_the_end_nothing_is_heard_or_said(talk: Talk) -> None:
    talk.hear(End(session=1, final={0: 0, 1: 0}))
    talk.said()
    assert talk.hear(End(session=1, final={0: 0, 1: 0})) == []
    assert talk.refused("no_session") == []
    assert talk.wait(1000.0) == []
    assert talk.said() == []


def test_leaving_before_the_welcome_needs_no_last_credit() -> None:
    talk = Talk()
    talk.said()
    talk.session.leave()
    assert talk.said() == [Bye(session=1)]


# --- silence ------------------------------------------------------------------------------------------------------


def pass_time(talk: Talk, seconds: float) -> Iterator[Event]:
    """As the shell does it: whenever something is due."""
    end_s = talk.now_s + seconds
    while (due_s := talk.session.due_s()) <= end_s:
        yield from talk.wait(due_s - talk.now_s)


def test_a_silent_server_is_away_and_that_is_said_once(talk: Talk) -> None:
    (away,) = pass_time(talk, 60.0)
    assert isinstance(away, Away)
    assert 4.0 < away.silent_s <= 4.5
    assert isinstance(talk.said()[-1], Subscribe)


def test_a_server_that_comes_back_is_asked_for_what_is_missing(talk: Talk) -> None:
    talk.chunk(0, 0, 3)
    list(pass_time(talk, 10.0))
    request = talk.said()[-1]
    assert isinstance(request, Subscribe)
    assert request.positions == {0: 3, 1: 0}
    talk.token = request.session
    assert [type(event) for event in talk.welcome()] == [Subscribed, Heard]
    assert ids(talk.chunk(0, 3, 4)) == [3]
    assert len(list(pass_time(talk, 10.0))) == 1, "a second silence is said again"


@pytest.mark.parametrize("what", ["status", "chunk"])
def test_whatever_the_server_says_is_a_sign_of_life(talk: Talk, what: str) -> None:
    for turn in range(10):
        assert list(pass_time(talk, 3.0)) == []
        talk.now_s += 0.1
        if what == "status":
            talk.status({0: 0, 1: 0})
        else:
            talk.chunk(0, 0, 1 + turn // 4)


def test_a_server_is_not_blamed_for_the_readers_own_pause(talk: Talk) -> None:
    assert talk.wait(50.0) == []
    assert talk.session.state is State.STREAMING
    assert talk.credit().session == 1


def test_a_server_that_was_restarted_is_asked_again_at_once(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    assert talk.refused("no_session") == []
    assert talk.subscribed().positions == {0: 4, 1: 0}
    assert talk.refused("no_session", session=1) == [], "what is said of the former session matters no more"
    assert talk.said() == []


# --- refusals -----------------------------------------------------------------------------------------------------


def test_another_stream_in_its_place_is_an_error_that_names_both() -> None:
    talk = Talk(incarnation="stream one")
    with pytest.raises(StreamReplaced, match="expected stream stream one, found stream stream two"):
        talk.refused("replaced", incarnation="stream two")


def test_records_that_retention_has_passed_are_named_exactly(talk: Talk) -> None:
    with pytest.raises(RecordsLost) as lost:
        talk.refused("expired", partition=1, first=0, end=4)
    assert (lost.value.partition, lost.value.first, lost.value.end) == (1, 0, 4)


def test_records_that_retention_has_passed_are_named_in_every_partition_of_the_reader(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    with pytest.raises(RecordsLost) as lost:
        talk.refused("expired", partition=1, first=0, end=8, log_start={0: 8, 1: 8, 2: 4})
    assert lost.value.lost == (Lost(0, 4, 8), Lost(1, 0, 8))
    assert str(lost.value).startswith("12 records in 2 partitions: partition 0 lost 4 records: offsets 4 to 7; ")


def test_a_reader_that_passes_over_lost_records_says_which_and_asks_for_what_lies_behind() -> None:
    passing = Talk(pass_lost=True)
    passing.welcome()
    passing.said()
    passing.chunk(0, 0, 4)
    log_start = {0: 40, 1: 36, 2: 36}
    assert passing.refused("expired", partition=1, first=0, end=36, log_start=log_start) == [
        Expired((Lost(0, 4, 40), Lost(1, 0, 36)), log_start)
    ]
    assert passing.subscribed().positions == {0: 40, 1: 36}
    passing.session.take(0, 4, passing.now_s)  # what had come before is taken only now
    passing.welcome()
    assert passing.credit().until == INFO.dealing.advance({0: 40, 1: 36}, 12)
    assert passing.chunk(1, 36, 40) != []


def test_what_has_expired_since_it_was_received_is_no_loss(talk: Talk) -> None:
    talk.chunk(0, 0, 4)
    assert talk.refused("expired", partition=0, first=0, end=4) == []
    assert talk.subscribed().positions == {0: 4, 1: 0}


def test_a_log_behind_the_positions_is_an_error() -> None:
    talk = Talk({0: 50})
    with pytest.raises(BeyondLogEnd, match="because"):
        talk.refused("beyond_end", partition=0)


def test_a_version_mismatch_is_heard_though_it_names_no_session() -> None:
    talk = Talk()
    with pytest.raises(VersionMismatch, match="because"):
        talk.refused("version", session=None)


@pytest.mark.parametrize(
    ("code", "kind"), [("range", OutOfRange), ("unknown", UnknownMessage), ("of a later version", PeerError)]
)
def test_any_other_refusal_is_an_error_of_its_kind(code: str, kind: type[PeerError]) -> None:
    with pytest.raises(kind, match="the server refused the subscription: because") as error:
        Talk().refused(code)
    assert type(error.value) is kind


@pytest.mark.parametrize("code", ["expired", "replaced", "beyond_end", "range"])
def test_refusals_of_a_former_session_are_passed_over(talk: Talk, code: str) -> None:
    assert talk.refused(code, session=99, partition=0, first=0, end=9) == []


def test_answers_to_questions_are_for_others(talk: Talk) -> None:
    assert talk.hear(Committed(request=1, group="g")) == []


# --- what the server waits for ------------------------------------------------------------------------------------


def test_what_the_server_waited_for_adds_up_over_sessions_whatever_comes_late_or_twice(talk: Talk) -> None:
    talk.chunk(0, 0, 4, source_s=1.5)
    talk.status({0: 4, 1: 0}, source_s=2.0)
    talk.chunk(0, 0, 4, source_s=1.5)
    assert talk.session.source_s == 2.0
    talk.refused("no_session")
    talk.subscribed()
    talk.welcome()
    talk.status({0: 4, 1: 0}, session=1, source_s=9.0)  # of the session before
    talk.status({0: 4, 1: 0}, source_s=0.25)
    assert talk.session.source_s == 2.25
