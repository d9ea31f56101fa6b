"""A recording is served again: what comes when, under which identity, and that it is what was recorded."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.recorded_part import RecordedPart
from producer.replay import ReplaySettings, replayed
from producer.replayed_log import ReplayedLog
from protocol.change import Change
from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions, Turns, distance
from protocol.errors import BeyondLogEnd, UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo

SECOND_NS = 10**9
INFO = StreamInfo(
    incarnation="i",
    schema=Schema((Field("id", "int64"),)),
    dealing=Dealing(3, 4),
    records_per_pass=99,
    changes=(Change(what="invert", at=20),),
)


class Clock:
    """Seconds as the test says."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def record(path: Path, times_ns: list[int], first: int = 0) -> None:
    """Records from number `first` on, each a chunk with its event time."""
    with LogFolder(path, write=True) as folder:
        folder.create(STREAM, INFO)
        log, dealing = StoredLog(folder, STREAM), INFO.dealing
        with folder.writing() as transaction:
            for number, time_ns in enumerate(times_ns, first):
                column = np.array([number])
                log.put(transaction, Chunk(*dealing.locate(number), {"id": column}, time_ns, time_ns))
            start, end = dealing.ends(first), dealing.ends(first + len(times_ns))
            log.put_state(transaction, start=start, end=end, ended=False)


def there(log: ReplayedLog) -> list[int]:
    """The ids of what can be read now, in stream order."""
    start, end = log.log_start(), log.log_end()
    turns, found = Turns(log.info.dealing, start), []
    while turns.positions[turns.partition] < end[turns.partition]:
        chunk = log.read(turns.partition, turns.positions[turns.partition], 1000)
        assert (chunk.partition, chunk.offset) == (turns.partition, turns.positions[turns.partition])
        found += np.asarray(chunk.columns["id"]).tolist()
        turns.move(chunk.count)
    assert turns.positions == end
    return found


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Records 0 to 49, a second apart."""
    record(tmp_path, [SECOND_NS * number for number in range(50)])
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def part(recording: Path) -> Iterator[RecordedPart]:
    part = RecordedPart(LogFolder(recording))
    yield part
    part.close()


@settings(max_examples=15)
@given(
    gaps_ns=st.lists(st.integers(-SECOND_NS, 5 * SECOND_NS), min_size=1, max_size=60),
    first=st.integers(0, 30),
    pace=st.sampled_from([0.5, 1.0, 4.0]),
    waits_s=st.lists(st.floats(0, 50), max_size=6),
)
def test_each_record_comes_when_it_is_due_and_none_before_the_one_in_front(
    gaps_ns: list[int], first: int, pace: float, waits_s: list[float]
) -> None:
    times_ns = np.cumsum(gaps_ns).tolist()
    due_s = np.maximum.accumulate([(each - times_ns[0]) / SECOND_NS / pace for each in times_ns])
    with TemporaryDirectory() as folder:
        record(Path(folder), times_ns, first)
        clock = Clock()
        log = ReplayedLog(RecordedPart(LogFolder(Path(folder))), pace=pace, clock_s=clock)
        for wait_s in waits_s:
            clock.now_s += wait_s
            found = there(log)
            assert found == list(range(first, first + len(found)))
            passed_s = clock.now_s - Clock.now_s
            assert np.all(due_s[: len(found)] <= passed_s + 1e-5)
            assert np.all(due_s[len(found) :] > passed_s - 1e-5)
            assert log.ended == (len(found) == len(times_ns))
            due_in_s = log.due_in_s()
            assert due_in_s is None if log.ended else due_in_s == pytest.approx(due_s[len(found)] - passed_s, abs=1e-5)
        log.close()


def test_it_is_the_recorded_stream_itself(part: RecordedPart, recording: Path) -> None:
    log = ReplayedLog(part)
    assert log.info == INFO
    assert there(log) == list(range(50))
    assert log.ended
    assert log.due_in_s() is None
    chunk = log.read(1, 2, 2)
    assert (chunk.first_time_ns, chunk.last_time_ns) == (6 * SECOND_NS, 7 * SECOND_NS)
    assert log.at(20 * SECOND_NS) == INFO.dealing.ends(20)
    with pytest.raises(BeyondLogEnd):
        log.read(2, 30, 1)


def test_a_reader_that_had_more_is_gone_on_with(part: RecordedPart, clock: Clock) -> None:
    log = ReplayedLog(part, pace=2, clock_s=clock)
    log.reach(INFO.dealing.ends(30))
    assert there(log) == list(range(30))
    clock.now_s += 2.0
    assert there(log) == list(range(34))
    log.reach(INFO.dealing.ends(3))
    log.reach(dict.fromkeys(range(3), 10_000))
    assert there(log) == list(range(34))


def test_a_part_keeps_its_places_in_the_stream(recording: Path) -> None:
    for said in (
        ReplaySettings(replay=str(recording), start="10", end="30", pace=0),
        ReplaySettings(replay=str(recording), start="1970-01-01T00:00:10Z", end="1970-01-01T00:00:29.5Z", pace=0),
    ):
        log, _ = replayed(said)
        assert log.info == INFO
        assert (log.log_start(), log.log_end()) == (INFO.dealing.ends(10), INFO.dealing.ends(30))
        assert there(log) == list(range(10, 30))
        log.close()


def test_one_partition_is_a_stream_of_its_own(recording: Path) -> None:
    log, _ = replayed(ReplaySettings(replay=str(recording), partition=1, pace=0, start="5"))
    own = StreamInfo(incarnation=log.info.incarnation, schema=INFO.schema, dealing=Dealing(1, 4))
    assert log.info == own, "changes are told in the numbers of the whole stream"
    assert log.info.incarnation != INFO.incarnation
    assert there(log) == [n for n in range(50) if n // 4 % 3 == 1][5:]
    log.close()


def test_a_loop_goes_round_for_ever_under_an_identity_of_its_own(part: RecordedPart, clock: Clock) -> None:
    part.cut(7, 17)
    log = ReplayedLog(part, loop=True, pace=1, clock_s=clock)
    own = replace(INFO, incarnation=log.info.incarnation, records_per_pass=10, changes=())
    assert log.info == own, "changes are told in the numbers of the recording"
    assert log.info.incarnation != INFO.incarnation
    clock.now_s += 34.5
    assert there(log) == [7 + n % 10 for n in range(35)]
    assert not log.ended
    assert log.due_in_s() == pytest.approx(0.5)
    turns, times = Turns(INFO.dealing, log.log_start()), []
    for _ in range(35):
        times.append(log.read(turns.partition, turns.positions[turns.partition], 1).first_time_ns)
        turns.move(1)
    assert [later - earlier for earlier, later in pairwise(times)] == [SECOND_NS] * 34
    for number in (0, 9, 10, 33):
        assert log.at(times[number]) == INFO.dealing.ends(number)


def test_a_loop_without_a_pace_is_always_ahead_of_who_reads_it(part: RecordedPart) -> None:
    log = ReplayedLog(part, loop=True)
    start: Positions = log.log_start()
    for number in range(0, 2000, 23):
        log.read(*INFO.dealing.locate(number), 1)
        assert number + 50 < distance(start, log.log_end()) < number + 200
    assert not log.ended


def test_records_that_were_all_made_at_once_do_not_stop_a_loop(tmp_path: Path, clock: Clock) -> None:
    record(tmp_path, [5])
    log = ReplayedLog(RecordedPart(LogFolder(tmp_path)), loop=True, pace=1, clock_s=clock)
    clock.now_s += 1.0
    assert 0 < distance(log.log_start(), log.log_end()) < 1000
    log.close()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"partition": 3}, "--partition 3: the recording has the partitions 0 to 2"),
        ({"start": "50"}, "no record to replay from --start to --end: there are the records 0 to 49"),
        ({"start": "9", "end": "9"}, "no record to replay"),
        ({"start": "soon"}, "--start 'soon' is no place in a recording: give a record's number, a time"),
        ({"end": "-1"}, "--end '-1' is no place"),
        ({"pace": -1.0}, "--pace is 0 or more"),
        ({"pace": float("nan")}, "--pace is 0 or more"),
    ],
)
def test_a_mistake_is_one_line_with_the_mend(recording: Path, said: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        replayed(ReplaySettings(replay=str(recording), **said))  # type: ignore[arg-type]
    LogFolder(recording).close()  # it was released
