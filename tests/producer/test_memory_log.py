"""A live stream's log: what was appended can be read until it is trimmed, in bounded memory."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producer.append_log import LogSettings, WhenFull
from producer.memory_log import MemoryLog
from protocol.chunk import Ragged
from protocol.dealing import Dealing, Turns
from protocol.errors import BeyondLogEnd, DataFault, LogFull, RecordsLost, StreamError, UsageError
from protocol.schema import Field, Schema

NUMBERS = Schema((Field("n", "int64"), Field("pair", "float32", (2,))))
TEXTS = Schema((Field("n", "int64"), Field("text", "uint8", (None,)), Field("boxes", "int16", (None, 2))))
ROW_BYTES = 8 + 8 + 8  # n, pair and the event time


def number_log(stripes: int, full: WhenFull = "block", partitions: int = 2, stripe: int = 4, **how: Any) -> MemoryLog:
    """A log with room for so many stripes."""
    bytes_held = LogSettings(bytes=stripes * stripe * ROW_BYTES, full=full)
    return MemoryLog(NUMBERS, Dealing(partitions, stripe), bytes_held, **how)


def number(n: int) -> dict[str, Any]:
    return {"n": n, "pair": np.array([n, -n], np.float32)}


def numbers(first: int, count: int) -> dict[str, Any]:
    n = np.arange(first, first + count)
    return {"n": n, "pair": np.stack([n, -n], axis=1).astype(np.float32)}


def ns(log: MemoryLog, partition: int, offset: int, count: int = 1000) -> list[int]:
    column = log.read(partition, offset, count).columns["n"]
    assert isinstance(column, np.ndarray)
    return list(column.tolist())


def started(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


class AgainstAPlainList(RuleBasedStateMachine):
    """The log does what a list of all records, and the numbers that say how much of it is kept, would do."""

    @initialize(
        partitions=st.integers(1, 4),
        stripe=st.integers(1, 5),
        spare=st.integers(1, 4),
        dropping=st.booleans(),
        ragged=st.booleans(),
    )
    def start(self, partitions: int, stripe: int, spare: int, *, dropping: bool, ragged: bool) -> None:
        self.dealing = Dealing(partitions, stripe)
        self.schema = TEXTS if ragged else NUMBERS
        row_bytes = 8 + 8 + 2 * (4 + 8) if ragged else ROW_BYTES
        self.max_bytes = (partitions + spare) * stripe * row_bytes + (2000 if ragged else 0)
        self.full: WhenFull = "drop-oldest" if dropping else "block"
        self.told = 0
        self.log = MemoryLog(
            self.schema, self.dealing, LogSettings(bytes=self.max_bytes, full=self.full), on_append=self.tell
        )
        self.records: list[dict[str, Any]] = []
        self.times: list[int] = []
        self.trimmed = self.dealing.ends(0)
        self.dropped = self.dealing.ends(0)
        self.ended = False

    def tell(self) -> None:
        self.told += 1

    def kept_from(self) -> int:
        """The first record in stream order that the log still has: always the first of a stripe."""
        first = sum(self.log.log_start().values())
        assert self.log.log_start() == self.dealing.ends(first)
        assert first % self.dealing.stripe == 0
        return first

    def new_record(self, n: int, data: st.DataObject) -> dict[str, Any]:
        if self.schema is NUMBERS:
            return number(n)
        boxes = np.full((data.draw(st.integers(0, 4)), 2), n, np.int16)
        return {"n": n, "text": data.draw(st.binary(max_size=30)), "boxes": boxes}

    @precondition(lambda self: not self.ended)
    @rule(data=st.data(), time_ns=st.integers(0, 50))
    def append(self, data: st.DataObject, time_ns: int) -> None:
        record, told, kept_from = self.new_record(len(self.records), data), self.told, self.kept_from()
        try:
            assert self.log.append(record, time_ns=time_ns, timeout_s=0) == len(self.records) + 1
        except LogFull:
            assert self.full == "block" or self.schema is TEXTS
            assert self.told == told
        else:
            self.records.append(record)
            self.times.append(time_ns)
            assert self.told == told + 1
        self.count_dropped(kept_from)

    @precondition(lambda self: not self.ended)
    @rule(data=st.data(), count=st.integers(0, 12), time_ns=st.integers(0, 50))
    def append_columns(self, data: st.DataObject, count: int, time_ns: int) -> None:
        rows = [self.new_record(len(self.records) + row, data) for row in range(count)]
        columns: dict[str, Any] = numbers(len(self.records), count)
        if self.schema is TEXTS:
            columns = {"n": columns["n"], **{name: [row[name] for row in rows] for name in ("text", "boxes")}}
        times, kept_from = time_ns + np.arange(count), self.kept_from()
        told_in_error = ""
        try:
            self.log.append_columns(columns, times_ns=times, timeout_s=0)
        except LogFull as error:
            told_in_error = str(error)
        appended = self.log.records - len(self.records)
        assert bool(told_in_error) == (appended < count)
        assert f"; {appended} of {count} records were appended" in told_in_error or not told_in_error
        assert self.full == "block" or self.schema is TEXTS or not told_in_error
        self.times += times[:appended].tolist()
        self.records += rows[:appended]
        self.count_dropped(kept_from)

    def count_dropped(self, kept_from: int) -> None:
        for record in range(kept_from, self.kept_from()):
            partition, offset = self.dealing.locate(record)
            self.dropped[partition] += offset >= self.trimmed[partition]

    @precondition(lambda self: not self.ended)
    @rule()
    def append_what_does_not_fit(self) -> None:
        bad = number(0) if self.schema is TEXTS else {"n": 0, "pair": np.zeros(3, np.float32)}
        with pytest.raises(DataFault):
            self.log.append(bad)
        with pytest.raises(DataFault):
            self.log.append_columns({name: [value] for name, value in bad.items()})

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        trained = data.draw(st.integers(0, len(self.records)))
        before = self.kept_from()
        self.log.trim(self.dealing.ends(trained))
        self.trimmed = {p: max(o, self.trimmed[p]) for p, o in self.dealing.ends(trained).items()}
        assert self.kept_from() == max(before, trained // self.dealing.stripe * self.dealing.stripe)

    @precondition(lambda self: len(self.records) > 50)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.log.end()
        self.ended = True
        with pytest.raises(UsageError, match="was ended"):
            self.log.append(self.new_record(0, data))

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        starts, ends = self.log.log_start(), self.log.log_end()
        partition = data.draw(st.integers(0, self.dealing.partitions - 1))
        if starts[partition] > 0:
            with pytest.raises(RecordsLost, match=f"partition {partition} lost"):
                self.log.read(partition, data.draw(st.integers(0, starts[partition] - 1)), 1)
        with pytest.raises(BeyondLogEnd):
            self.log.read(partition, ends[partition], 1)
        if starts[partition] < ends[partition]:
            offset = data.draw(st.integers(starts[partition], ends[partition] - 1))
            self.compare(partition, offset, data.draw(st.integers(1, 10)), ends[partition])

    def compare(self, partition: int, offset: int, most: int, end: int) -> None:
        chunk = self.log.read(partition, offset, most)
        count = min(most, self.dealing.stripe_end(offset) - offset, end - offset)
        assert (chunk.partition, chunk.offset, chunk.count) == (partition, offset, count)
        first = self.dealing.record(partition, offset)
        assert (chunk.first_time_ns, chunk.last_time_ns) == (self.times[first], self.times[first + count - 1])
        for name, column in chunk.columns.items():
            for row, record in enumerate(self.records[first : first + count]):
                if isinstance(column, Ragged):
                    value = column[row : row + 1].values
                    due = np.frombuffer(record[name], np.uint8) if name == "text" else record[name]
                    assert np.array_equal(value, due)
                else:
                    assert np.array_equal(column[row], record[name])

    @rule(time_ns=st.integers(-1, 70))
    def look_up_a_time(self, time_ns: int) -> None:
        starts, ends = self.log.log_start(), self.log.log_end()
        for p, end in ends.items():
            offsets = range(starts[p], end)
            late = [o for o in offsets if self.times[self.dealing.record(p, o)] >= time_ns]
            assert self.log.offset_at(p, time_ns) == (late[0] if late else end)

    @invariant()
    def it_is_what_the_list_says(self) -> None:
        assert self.log.log_end() == self.dealing.ends(len(self.records))
        assert self.log.ended == self.ended
        assert self.log.allocated_bytes <= self.max_bytes
        assert self.log.dropped == self.dropped
        assert self.full == "drop-oldest" or not any(self.dropped.values())


TestAgainstAPlainList = AgainstAPlainList.TestCase
TestAgainstAPlainList.settings = settings(max_examples=30, stateful_step_count=50)


def test_dropping_counts_exactly_what_nobody_had_trained() -> None:
    log = number_log(stripes=3, full="drop-oldest")
    log.append_columns(numbers(0, 12))
    assert log.dropped == {0: 0, 1: 0}
    log.append(number(12))
    assert log.dropped == {0: 4, 1: 0}
    assert log.log_start() == {0: 4, 1: 0}
    log.trim({0: 4, 1: 3})  # of stripe 1, three of four records were trained
    log.append_columns(numbers(13, 4))
    assert log.dropped == {0: 4, 1: 1}
    assert log.log_start() == {0: 4, 1: 4}
    with pytest.raises(RecordsLost) as lost:
        log.read(1, 1, 10)
    assert (lost.value.partition, lost.value.first, lost.value.end) == (1, 1, 4)


def test_a_trim_never_goes_back() -> None:
    log = number_log(stripes=3, full="drop-oldest")
    log.append_columns(numbers(0, 12))
    log.trim({0: 0, 1: 4})
    log.trim({0: 0, 1: 0})
    log.append_columns(numbers(12, 8))
    assert log.dropped == {0: 4, 1: 0}


def test_a_trim_beyond_the_log_end_frees_nothing_that_is_yet_to_be_written() -> None:
    log = number_log(stripes=3, full="drop-oldest")
    log.append_columns(numbers(0, 6))
    log.trim({0: 1000, 1: 1000})
    assert log.log_start() == {0: 4, 1: 0}
    log.append_columns(numbers(6, 2))
    assert ns(log, 1, 0) == [4, 5, 6, 7]
    log.append_columns(numbers(8, 12))
    assert log.dropped == {0: 0, 1: 2}


def test_trimmed_records_are_not_counted_as_dropped() -> None:
    log = number_log(stripes=3, full="drop-oldest")
    for first in range(0, 4000, 8):
        log.append_columns(numbers(first, 8))
        log.trim(log.log_end())
    assert log.dropped == {0: 0, 1: 0}


def test_a_full_log_makes_the_writer_wait_until_trainers_have_committed() -> None:
    log = number_log(stripes=3)
    writer = started(lambda: [log.append(number(n)) for n in range(400)])
    trained = 0
    while trained < 396:
        until(lambda: log.waiting == 1)
        assert log.records == trained + 12
        assert log.filled == 1
        assert ns(log, *log.info.dealing.locate(trained)) == list(range(trained, trained + 4))
        trained += 4
        log.trim(log.info.dealing.ends(trained))
        until(lambda: log.records >= min(400, trained + 12))  # noqa: B023  (awaited at once)
        if log.records == 400:
            break
    writer.join(10)
    assert log.records == 400
    assert log.dropped == {0: 0, 1: 0}


def test_writers_that_waited_together_share_the_room_that_comes_free() -> None:
    log = number_log(stripes=3)
    log.append_columns(numbers(0, 12))
    writers = []
    for first, count in ((100, 2), (200, 4), (300, 3)):
        writers.append(started(lambda first=first, count=count: log.append_columns(numbers(first, count))))  # type: ignore[misc]
        until(lambda: log.waiting == len(writers))
    log.trim({0: 4, 1: 0})
    until(lambda: log.records == 16)
    log.trim({0: 8, 1: 4})
    for writer in writers:
        writer.join(10)
    late = [n for p, first, end in ((1, 4, 8), (0, 8, 12), (1, 8, 9)) for n in ns(log, p, first, end - first)]
    assert sorted(late) == [100, 101, 200, 201, 202, 203, 300, 301, 302]


def test_waiting_ends_after_the_time_that_was_given_and_leaves_the_log_as_it_was() -> None:
    log = number_log(stripes=3)
    log.append_columns(numbers(0, 12))
    began = time.monotonic()
    with pytest.raises(LogFull, match="no room came free"):
        log.append(number(12), timeout_s=0.05)
    assert 0.05 <= time.monotonic() - began < 5
    assert log.log_end() == {0: 8, 1: 4}
    log.trim({0: 4, 1: 0})
    assert log.append(number(12), timeout_s=0) == 13


@pytest.mark.parametrize(("stop", "error"), [("close", StreamError), ("end", UsageError)])
def test_closing_and_ending_wake_a_writer_that_waits(stop: str, error: type[Exception]) -> None:
    log = number_log(stripes=3)
    log.append_columns(numbers(0, 12))
    raised: list[type[BaseException]] = []

    def write() -> None:
        try:
            log.append(number(12))
        except (StreamError, UsageError) as fault:
            raised.append(type(fault))

    writer = started(write)
    until(lambda: log.waiting == 1)
    getattr(log, stop)()
    writer.join(10)
    assert raised == [error]
    assert log.records == 12


def test_a_closed_log_holds_nothing() -> None:
    log = number_log(stripes=3)
    log.append_columns(numbers(0, 10))
    log.close()
    assert log.allocated_bytes == 0
    assert log.log_start() == log.log_end() == {0: 6, 1: 4}
    with pytest.raises(RecordsLost):
        log.read(0, 0, 1)
    with pytest.raises(StreamError, match="closed"):
        log.append(number(10))


@pytest.mark.parametrize("full", ["block", "drop-oldest"])
def test_writers_and_a_reader_in_threads_of_their_own_lose_and_double_nothing(full: WhenFull) -> None:
    log = number_log(stripes=1000, full=full, stripe=16)
    writers = [
        started(lambda base=base: [log.append(number(base + n)) for n in range(3000)])  # type: ignore[misc]
        for base in (0, 10_000, 20_000)
    ]
    seen: list[int] = []
    positions = log.log_start()
    while len(seen) < 9000:
        p = Turns(log.info.dealing, positions).partition
        if positions[p] < log.log_end()[p]:
            seen += ns(log, p, positions[p])
            positions[p] = log.info.dealing.ends(len(seen))[p]
            log.trim(positions)
    for writer in writers:
        writer.join(10)
    for base in (0, 10_000, 20_000):
        assert [n for n in seen if base <= n < base + 10_000] == list(range(base, base + 3000))
    assert log.dropped == {0: 0, 1: 0}


def test_what_was_read_never_changes_and_cannot_be_changed() -> None:
    log = MemoryLog(TEXTS, Dealing(1, 64), LogSettings(bytes=1 << 16, full="drop-oldest"))
    log.append({"n": 1, "text": b"first", "boxes": np.ones((3, 2), np.int16)})
    chunk = log.read(0, 0, 10)
    for n in range(500):
        log.append({"n": n, "text": b"x" * 40, "boxes": np.zeros((2, 2), np.int16)})
    text, boxes, n_column = chunk.columns["text"], chunk.columns["boxes"], chunk.columns["n"]
    assert isinstance(text, Ragged)
    assert isinstance(boxes, Ragged)
    assert isinstance(n_column, np.ndarray)
    assert text.values.tobytes() == b"first"
    assert boxes.values.tolist() == [[1, 1]] * 3
    assert n_column.tolist() == [1]
    for array in (text.values, text.lengths, boxes.values, n_column):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.slow
def test_memory_stays_within_the_bound_however_much_is_appended() -> None:
    schema = Schema((Field("picture", "uint8", (32, 32)), Field("text", "uint8", (None,))))
    tracemalloc.start()
    try:
        log = MemoryLog(schema, Dealing(2, 64), LogSettings(bytes=1 << 20, full="drop-oldest"))
        picture = np.zeros((32, 32), np.uint8)
        peaks = []
        for _ in range(4):
            tracemalloc.reset_peak()
            for n in range(3000):
                log.append({"picture": picture, "text": b"t" * (n % 300)})
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert log.allocated_bytes > 800_000
    assert max(peaks) < 1.15 * (1 << 20)
    assert sum(log.dropped.values()) > 10_000


def test_a_stripe_that_can_never_fit_is_refused_at_once() -> None:
    log = MemoryLog(TEXTS, Dealing(1, 4), LogSettings(bytes=1000))
    record = {"n": 0, "text": b"x" * 2000, "boxes": np.zeros((0, 2), np.int16)}
    with pytest.raises(LogFull, match="enlarge it"):
        log.append(record)
    log.append(record | {"text": b"x" * 600})
    with pytest.raises(LogFull, match="enlarge it"):
        log.append(record | {"text": b"x" * 600})
    assert log.records == 1


def test_readers_are_told_without_the_lock() -> None:
    told: list[tuple[int, bool]] = []
    log = number_log(stripes=3)
    log.on_append = lambda: told.append((sum(log.log_end().values()), log.ended))
    log.append(number(0))
    log.append_columns(numbers(1, 5))
    log.end()
    assert told == [(1, False), (4, False), (6, False), (6, True)]


def test_event_times_are_kept_record_by_record() -> None:
    now = iter(range(100, 200))
    log = number_log(stripes=3, wall_clock_ns=lambda: next(now))
    log.append(number(0))
    log.append(number(1), time_ns=5)
    log.append_columns(numbers(2, 1))
    log.append_columns(numbers(3, 3), times_ns=np.array([7, 8, 9]))
    assert [log.read(0, row, 1).first_time_ns for row in range(4)] == [100, 5, 101, 7]
    assert [log.read(1, row, 1).last_time_ns for row in range(2)] == [8, 9]


def test_every_start_is_a_stream_of_its_own() -> None:
    assert number_log(stripes=3).info.incarnation != number_log(stripes=3).info.incarnation
    assert len(number_log(stripes=3).info.incarnation) == 32


def test_a_log_that_cannot_hold_a_turn_of_stripes_is_the_users_mistake() -> None:
    number_log(stripes=3)
    with pytest.raises(UsageError, match=f"give at least {3 * 4 * ROW_BYTES} "):
        number_log(stripes=2)
    with pytest.raises(UsageError, match="choose one of block, drop-oldest"):
        number_log(stripes=3, full="forget")  # type: ignore[arg-type]
