import numpy as np
import pytest

from producer.append_log import LogSettings
from producer.computed_log import ComputedLog
from producer.memory_log import MemoryLog
from producer.source import ColumnSource
from protocol.chunk import MAX_CHUNK_BYTES, Chunk, Column, Ragged
from protocol.dealing import Dealing, Positions
from protocol.log import Log
from protocol.messages import (
    Bye,
    ChunkMessage,
    Credit,
    Describe,
    Description,
    End,
    Reply,
    Status,
)
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from tests.producer.bench import ID, A, B, Bench, live, numbered, refusal, spans, stream

TEXT = Schema((Field("text", "uint8", (None,)),))

# --- links --------------------------------------------------------------------------------------------------------


def test_a_full_link_loses_no_record_and_holds_nobody_up() -> None:
    bench = Bench(stream())
    bench.subscribe(A)
    bench.subscribe(B)
    bench.full.add(A)
    bench.credit(A, {0: 8, 1: 8})
    assert len(spans(bench.credit(B, {0: 8, 1: 8}))) == 4
    bench.full.clear()
    bench.wait(bench.settings.linger_s)
    assert spans(bench.heard(A)) == [(0, 0, 4), (1, 0, 4), (0, 4, 4), (1, 4, 4)]


@pytest.mark.parametrize("with_chunks", [True, False])
def test_a_peer_that_is_gone_is_forgotten(with_chunks: bool) -> None:  # noqa: FBT001
    bench = Bench(stream())
    bench.subscribe(A)
    bench.gone.add(A)
    if with_chunks:
        bench.credit(A, {0: 8, 1: 8})
    else:
        bench.wait(1.1)
        bench.heard(A)
    assert len(bench.service.sessions) == 0


def test_readers_take_turns_however_few_chunks_a_turn_has() -> None:
    bench = Bench(stream(400))
    peers = [b"peer a", b"peer b", b"peer c"]
    for peer in peers:
        bench.subscribe(peer)
    for peer in peers:
        bench.service.receive(peer, Credit(session=1, until={0: 400, 1: 400}, trained={}, durable=False), 0.0)
    counts = dict.fromkeys(peers, 0)
    for turn in range(1, 10):
        bench.service.pump(bench.send, 0.0, most_chunks=1)
        for peer in peers:
            counts[peer] += len(spans(bench.heard(peer, most_chunks=0)))
        assert sum(counts.values()) == turn
    assert list(counts.values()) == [3, 3, 3]


def test_a_reader_that_says_nothing_for_long_is_forgotten() -> None:
    bench = Bench(stream(), silent_reader_s=60.0)
    bench.subscribe(A)
    bench.subscribe(B)
    for _ in range(7):
        bench.wait(10.0)
        bench.credit(B, {})
    assert refusal(bench.credit(A, {0: 4})).code == "no_session"
    assert len(bench.service.sessions) == 1


def test_records_that_differ_in_size_are_sent_in_chunks_that_fit() -> None:
    texts = Ragged(np.array([10, 10, 10, 95, 1, 1], "<u4"), np.zeros(127, np.uint8))
    source = ColumnSource("texts", TEXT, {"text": texts})
    bench = Bench(ComputedLog(source, Dealing(1, 8), passes=1, shuffle=False), chunk_bytes=60, linger_s=0.0)
    bench.subscribe(A, {0: 0})
    assert spans(bench.credit(A, {0: 6})) == [(0, 0, 3), (0, 3, 1), (0, 4, 2)]


class HugeLog(Log):
    """Two records: one of a size that no message may have, behind one that does fit."""

    def __init__(self) -> None:
        self.info = StreamInfo(incarnation="huge", schema=TEXT, dealing=Dealing(1, 8))

    def log_start(self) -> Positions:
        return {0: 0}

    def log_end(self) -> Positions:
        return {0: 2}

    @property
    def ended(self) -> bool:
        return True

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        lengths = np.array([1, MAX_CHUNK_BYTES], "<u4")[offset : offset + max_records]
        columns: dict[str, Column] = {"text": Ragged(lengths, np.zeros(int(lengths.sum()), np.uint8))}
        return Chunk(partition, offset, columns, 0, 0)

    def offset_at(self, partition: int, time_ns: int) -> int:
        return 0


def test_a_record_that_no_message_can_hold_is_refused_by_name() -> None:
    bench = Bench(HugeLog(), linger_s=0.0)
    bench.subscribe(A, {0: 0})
    replies = bench.credit(A, {0: 2})
    assert spans(replies) == [(0, 0, 1)]
    said = refusal(replies)
    assert said.code == "oversized"
    assert "the record at offset 1 of partition 0" in said.text
    assert said.session == 1


def test_a_log_without_room_for_another_stripe_asks_for_a_checkpoint_however_few_it_holds() -> None:
    log = MemoryLog(ID, Dealing(1, 4), LogSettings(bytes=2 * 64 + 63))
    bench = Bench(log)
    _, status = bench.subscribe(A, {0: 0})
    assert isinstance(status, Status)
    assert not status.save_soon
    log.append_columns({"id": np.arange(8)})
    assert log.filled == 1
    _, status = bench.subscribe(A, {0: 0}, session=2)
    assert isinstance(status, Status)
    assert status.save_soon


# --- the end ------------------------------------------------------------------------------------------------------


def test_the_end_is_said_once_everything_was_sent_and_again_until_the_reader_leaves() -> None:
    log = live(6)
    bench = Bench(log)
    bench.subscribe(A)
    bench.credit(A, {0: 8, 1: 8})
    assert bench.heard(A) == []
    log.end()
    assert bench.heard(A) == [End(session=1, final={0: 4, 1: 2})]
    bench.wait(1.0)
    assert bench.heard(A) == [End(session=1, final={0: 4, 1: 2})]
    bench.say(A, Bye(session=1))
    bench.wait(1.0)
    assert bench.heard(A) == []


class EndingLog(MemoryLog):
    """Gets its last record and its end in the moment after somebody has asked for its end."""

    armed = False

    def log_end(self) -> Positions:
        end = super().log_end()
        self._finish()
        return end

    @property
    def ended(self) -> bool:
        ended = super().ended
        self._finish()
        return ended

    def _finish(self) -> None:
        if self.armed:
            self.armed = False
            self.append({"id": 99})
            self.end()


@pytest.mark.parametrize("question", ["sign of life", "description"])
def test_an_end_is_never_said_to_lie_before_the_last_record(question: str) -> None:
    log = EndingLog(ID, Dealing(2, 4))
    log.append_columns({"id": np.arange(6)})
    bench = Bench(log, linger_s=0.0)
    bench.subscribe(A)
    bench.credit(A, {0: 8, 1: 8})
    log.armed = True
    if question == "sign of life":
        replies = bench.heard(A) + bench.heard(A)
        assert [each.final for each in replies if isinstance(each, End)] == [{0: 4, 1: 3}]
        assert spans(replies) == [(1, 2, 1)]
    else:
        (description,) = (each for each in bench.say(B, Describe(request=1, split="")) if isinstance(each, Description))
        assert not description.ended or description.log_end == {0: 4, 1: 3}


# --- how long a server may sleep ----------------------------------------------------------------------------------


def test_a_server_sleeps_until_a_sign_of_life_is_due_where_nobody_waits_for_anything() -> None:
    bench = Bench(live(0))
    assert bench.service.due_in_s() == 1.0
    bench.subscribe(A)
    bench.credit(A, {0: 8, 1: 8})
    assert bench.service.due_in_s() == 1.0, "an append wakes it"


def test_a_server_that_has_more_to_send_does_not_sleep() -> None:
    bench = Bench(stream(400))
    bench.subscribe(A)
    bench.service.receive(A, Credit(session=1, until={0: 200, 1: 200}, trained={}, durable=False), 0.0)
    bench.heard(A, most_chunks=2)
    assert bench.service.due_in_s() == 0.0
    bench.heard(A)
    assert bench.service.due_in_s() == 1.0


def test_a_server_tries_a_full_link_again_soon() -> None:
    bench = Bench(stream(), linger_s=0.002)
    bench.subscribe(A)
    bench.full.add(A)
    bench.credit(A, {0: 8, 1: 8})
    assert bench.service.due_in_s() == 0.002


def test_the_log_is_not_read_for_a_link_that_stays_full_and_it_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, reads, asked_s = stream(), [0], [0.0]
    read = log.read

    def counted(partition: int, offset: int, most: int) -> Chunk:
        reads[0] += 1
        return read(partition, offset, most)

    def refuse(peer: bytes, message: Reply) -> bool:
        asked_s.append(bench.now_s)
        return False

    monkeypatch.setattr(log, "read", counted)
    bench = Bench(log, linger_s=0.002, full_link_most_s=1.0, sign_of_life_s=1000.0)
    bench.subscribe(A)
    monkeypatch.setattr(bench, "send", refuse)
    bench.credit(A, {0: 8, 1: 8})
    for _ in range(10_000):
        bench.wait(0.001)
        bench.heard(A)
    assert reads == [1]
    assert len(asked_s) < 25
    assert asked_s[-1] - asked_s[-2] == pytest.approx(1.0, abs=0.01)


# --- what a reader waits for --------------------------------------------------------------------------------------


def source_s(messages: list[Reply]) -> list[float]:
    return [each.source_s for each in messages if isinstance(each, ChunkMessage | Status)]


def test_a_reader_hears_how_long_it_waited_for_records_to_come() -> None:
    log = live(0)
    bench = Bench(log, sign_of_life_s=1.0)
    bench.subscribe(A)
    bench.wait(2.0)
    assert source_s(bench.credit(A, {0: 8, 1: 8})) == [0.0], "it had no credit"
    bench.wait(3.0)
    assert source_s(bench.heard(A)) == [3.0]
    log.append_columns({"id": np.arange(8)})
    bench.wait(0.5)
    assert source_s(bench.heard(A)) == [3.5, 3.5]


class SlowLog(ComputedLog):
    """Half a second of a clock that stands still otherwise goes by in each reading."""

    clock_s = 0.0

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        self.clock_s += 0.5
        return super().read(partition, offset, max_records)


def test_a_reader_hears_how_long_it_waited_for_records_to_be_read() -> None:
    log = SlowLog(numbered(64), Dealing(2, 4), passes=1)
    bench = Bench(log, clock_s=lambda: log.clock_s, sign_of_life_s=1.0)
    bench.subscribe(A)
    assert source_s(bench.credit(A, {0: 8, 1: 8})) == [0.5, 1.0, 1.5, 2.0]
    bench.subscribe(B)
    assert source_s(bench.credit(B, {0: 4, 1: 4})) == [0.5, 1.0], "what was read before it came is not its time"
    bench.wait(1.0)
    assert source_s(bench.heard(A)) == [3.0], "while others are served it waits as well"
