"""A source is fed into a log: each of its records once, also where its producer was killed."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.feed import Feed
from producer.open_log import INLET, open_log
from protocol.errors import DataFault, UsageError
from protocol.schema import Field, Schema
from tests.programs import Program, Programs, wait_until

NUMBERS = Schema((Field("n", "int64"),))


class Numbers:
    """Replays 0 to `count` - 1; those in `bad` are no records."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.count, self.bad = count, bad
        self.asked: list[int] = []

    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        self.asked.append(resume_at)
        for n in range(resume_at, self.count):
            yield {"m": n} if n in self.bad else {"n": n}


class Live:
    """Gives what it was given, as it comes."""

    def __init__(self, *records: Any) -> None:
        self.given = iter(records)

    def __iter__(self) -> Iterator[Any]:
        return self.given


class Declared(Live):
    """Says what a record is before there is one."""

    schema = Schema((Field("tokens", "int32", (None,)), Field("y", "int64")), "y", ("a", "b"), (0, 1))


def fed(source: Any, path: Path | str = "", bad: BadRecordSettings | None = None) -> Feed:
    feed = Feed(source, 2, LogSettings(path=str(path), linger=0), BadRecords(bad or BadRecordSettings()))
    feed.start()
    wait_until(lambda: feed.log.ended or feed.error is not None, "the end of the source")
    return feed


def column(log: AppendLog, name: str = "n") -> list[int]:
    """One field of all records, in the stream's order."""
    dealing, read, records = log.info.dealing, list[int](), log.durable
    while len(read) < records:
        partition, offset = dealing.locate(len(read))
        read += np.asarray(log.read(partition, offset, dealing.stripe).columns[name]).tolist()
    return read


def aside(folder: Path) -> BadRecordSettings:
    return BadRecordSettings(on_bad_record="quarantine", quarantine=str(folder / "quarantine.jsonl"))


# --- replaying ---------------------------------------------------------------------------------------------------


def test_a_replaying_source_goes_on_where_its_log_on_disk_has_ended(tmp_path: Path) -> None:
    first = fed(Numbers(10), tmp_path / "log")
    assert first.promise == "covers the source, which goes on at record 0"
    first.log.close()
    longer = Numbers(25)
    second = fed(longer, tmp_path / "log")
    assert second.promise == "covers the source, which goes on at record 10"
    assert longer.asked == [10]
    assert column(second.log) == list(range(25))
    second.log.close()


def test_records_that_were_kept_aside_count_as_taken(tmp_path: Path) -> None:
    fed(Numbers(10, bad=(3, 8, 9)), tmp_path / "log", aside(tmp_path)).log.close()
    longer = Numbers(14, bad=(3, 8, 9, 10))
    feed = fed(longer, tmp_path / "log", aside(tmp_path))
    assert longer.asked == [10]
    assert column(feed.log) == [0, 1, 2, 4, 5, 6, 7, 11, 12, 13]
    feed.log.close()


def test_a_record_that_has_stopped_the_stream_is_asked_for_again_once_it_is_mended(tmp_path: Path) -> None:
    stopped = fed(Numbers(10, bad=(4,)), tmp_path / "log")
    assert isinstance(stopped.error, DataFault)
    stopped.log.close()
    mended = Numbers(10)
    feed = fed(mended, tmp_path / "log")
    assert mended.asked == [4]
    assert column(feed.log) == list(range(10))
    feed.log.close()


def test_another_source_does_not_take_over_the_number(tmp_path: Path) -> None:
    class Others(Numbers):
        """Of another name."""

    fed(Numbers(10), tmp_path / "log").log.close()
    feed = fed(Others(3), tmp_path / "log")
    assert column(feed.log) == [*range(10), 0, 1, 2]
    feed.log.close()


def test_the_numbers_of_an_inlets_writers_are_not_those_of_a_source(tmp_path: Path) -> None:
    pushed = opened_by_inlet(tmp_path / "pushed")
    pushed.append({"n": 0}, writer=("Numbers", 0))
    pushed.close()
    with pytest.raises(UsageError, match=r"the log in \S+pushed was written by an inlet: give another folder"):
        fed(Numbers(10), tmp_path / "pushed")
    opened_by_inlet(tmp_path / "pushed").close()  # a refusal holds nothing
    fed(Numbers(10), tmp_path / "fed").log.close()
    with pytest.raises(UsageError, match=r"the log in \S+fed was written by Numbers: give another folder"):
        opened_by_inlet(tmp_path / "fed")
    fed(Live({"n": 0}), tmp_path / "live").log.close()
    for number in range(2):  # a live source numbers nothing, so writers may go on
        log = opened_by_inlet(tmp_path / "live")
        assert log.taken("Live") == 0
        log.append({"n": number}, writer=("camera", number))
        log.close()


def opened_by_inlet(path: Path) -> AppendLog:
    log = open_log(NUMBERS, 2, LogSettings(path=str(path)), source=INLET)
    assert log is not None
    return log


def test_in_memory_it_begins_at_0_and_a_restart_is_another_stream() -> None:
    one, other = fed(Numbers(5)), fed(Numbers(5))
    said = "covers the source from record 0 on; a restart is another stream (--log.path DIR goes on)"
    assert one.promise == other.promise == said
    assert column(one.log) == column(other.log) == list(range(5))
    assert one.log.info.incarnation != other.log.info.incarnation


def test_a_live_source_says_that_the_promise_begins_in_the_log(tmp_path: Path) -> None:
    for path in ("", tmp_path / "log"):
        feed = fed(Live({"n": 0}), path)
        assert (feed.kind, feed.promise) == ("live", "begins in the log")
        feed.log.close()
    feed = fed(Live({"n": 7}), tmp_path / "log")
    assert column(feed.log) == [0, 7]
    feed.log.close()


KILLED = '''
import time

def numbers(pause: float, resume_at: int):
    """Every seventh is no record."""
    number = resume_at
    while True:
        yield {"m": number} if number % 7 == 3 else {"n": number}
        number += 1
        if number % 16 == 0:
            time.sleep(pause)
'''


@pytest.mark.slow
@pytest.mark.parametrize("lives", [4, pytest.param(40, marks=pytest.mark.faults)])
def test_killed_at_any_moment_its_log_has_every_record_once_and_in_order(
    started: Programs, tmp_path: Path, seed: int, lives: int
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    drawn, reached = random.Random(seed), 0
    for _ in range(lives):
        producer = started.start(
            *("producer", "--source", "killed.numbers", "--source.pause", f"{drawn.choice([1e-4, 1e-3, 4e-3])}"),
            *("--bind", f"ipc://{tmp_path}/socket", "--status_every_s", "0.01", "--log.path", "log", "--log.linger"),
            *(f"{drawn.choice([0, 5, 50])}", "--on_bad_record", "quarantine"),
            cwd=tmp_path,
        )
        wanted = reached + drawn.randrange(2000)
        wait_until(lambda: log_end(producer) > wanted, "records")  # noqa: B023  (waited for in this turn)
        producer.signal(signal.SIGKILL)
        producer.status()
        reached = log_end(producer)
    log = open_log(None, 8, LogSettings(path=str(tmp_path / "log")), source="")
    assert log is not None
    numbers = column(log)
    assert len(numbers) >= reached > 0
    assert numbers == [number for number in range(numbers[-1] + 1) if number % 7 != 3]
    log.close()


def log_end(producer: Program) -> int:
    """As its last whole status line says."""
    said = [line for line in producer.out.splitlines(keepends=True) if "log end" in line and line.endswith("\n")]
    return int(said[-1].split("log end ")[1].split("  ")[0].replace(",", "")) if said else 0


# --- what a record is --------------------------------------------------------------------------------------------


def test_a_declared_schema_is_there_before_the_first_record(tmp_path: Path) -> None:
    for path in ("", tmp_path / "log"):
        feed = fed(Declared(), path)
        assert feed.log.info.schema == Declared.schema
        assert feed.log.records == 0
        feed.log.close()
    feed = fed(Declared({"tokens": [], "y": 1}, {"tokens": [1, 2], "y": 0}))
    assert feed.error is None
    assert column(feed.log, "y") == [1, 0]


def test_records_are_held_against_a_declared_schema_from_the_first_on() -> None:
    feed = fed(Declared({"tokens": [1.5], "y": 1}))
    assert isinstance(feed.error, DataFault)
    assert "field 'tokens': float64 (1,) where int32 (None,) is due" in str(feed.error)
    assert "label 2 is out of range, 0 to 1 is due" in str(fed(Declared({"tokens": [1], "y": 2})).error)


def test_a_folder_of_another_schema_than_is_declared_is_refused(tmp_path: Path) -> None:
    fed(Numbers(3), tmp_path / "log").log.close()
    with pytest.raises(UsageError, match="holds records of another schema: give another folder"):
        fed(Declared(), tmp_path / "log")


CHANGED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"n": 1.5}, r"field 'n': float64 \(\) where int64 \(\) is due"),
    ({"n": [1, 2]}, r"field 'n': int64 \(2,\) where int64 \(\) is due"),
    ({}, "field 'n' is missing"),
    ({"n": 1, "m": 2}, "field 'm' is not in the schema"),
    ({"n": None}, "field 'n': a NoneType: give a value in every record"),
)


@pytest.mark.parametrize(("record", "said"), CHANGED)
@pytest.mark.parametrize("replays", [False, True])
def test_a_schema_that_changes_under_way_is_one_line_and_nothing_is_lost(
    tmp_path: Path, record: dict[str, Any], said: str, *, replays: bool
) -> None:
    class Changing(Numbers):
        def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
            return iter([{"n": 0}, {"n": 1}, record, {"n": 3}][resume_at:])

    feed = fed(Changing(4) if replays else Live({"n": 0}, {"n": 1}, record, {"n": 3}), tmp_path / "log")
    assert isinstance(feed.error, DataFault)
    with pytest.raises(DataFault, match=said):
        raise feed.error
    assert "\n" not in str(feed.error)
    feed.log.close()
    log = open_log(None, 2, LogSettings(path=str(tmp_path / "log")), source="")
    assert log is not None
    assert column(log) == [0, 1]
    log.close()


# --- what is no source -------------------------------------------------------------------------------------------


class Absent:
    """Has no device."""

    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        raise OSError("no device")


def test_a_source_that_fails_before_its_first_record_is_a_fault_too() -> None:
    with pytest.raises(DataFault, match="the source failed: OSError: no device"):
        fed(Absent())


def test_a_source_that_gives_nothing_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="Live gives no record: a stream needs one to begin with"):
        fed(Live())
    with pytest.raises(UsageError, match="the source gave a int: a record is a mapping of field names to values"):
        fed(Live(3))
    with pytest.raises(UsageError, match="field 3 of the first record has a name that is no text"):
        fed(Live({3: 3}))
