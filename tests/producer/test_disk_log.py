"""A log on disk: what was synced is there for readers, and for the next life of the program."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producer.append_log import LogSettings, WhenFull
from producer.disk_log import DiskLog
from producer.disk_stripes import DiskStripes
from producer.open_log import open_log
from protocol.chunk import Ragged
from protocol.dealing import Dealing
from protocol.errors import BeyondLogEnd, LogFull, RecordsLost, StreamError, StreamTimeout, UsageError
from protocol.log import KeptGroup
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo

NUMBERS = Schema((Field("n", "int64"), Field("text", "uint8", (None,))))
#: Records of which two make a stripe, and a stripe takes more than LMDB's own pages.
PAD = (1 << 21) - 8
WIDE = Schema((Field("n", "int64"), Field("pad", "uint8", (PAD,))))
STRIPE_BYTES = 1 << 22


def opened(folder: Path, schema: Schema | None = None, partitions: int = 2, **how: Any) -> DiskLog:
    log = open_log(schema, partitions, LogSettings(path=str(folder), **how), source="test")
    assert isinstance(log, DiskLog)
    return log


def wide(n: int) -> dict[str, Any]:
    return {"n": n, "pad": np.full(PAD, n % 251, np.uint8)}


def append_wide(log: DiskLog, first: int, end: int) -> None:
    for n in range(first, end):
        log.append(wide(n))


def ns(log: DiskLog, partition: int, offset: int, count: int = 1000) -> list[int]:
    column = log.read(partition, offset, count).columns["n"]
    assert isinstance(column, np.ndarray)
    return list(column.tolist())


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.002)


class AgainstAPlainList(RuleBasedStateMachine):
    """Over any number of lives, the log does what a list of all records and the number that was synced would do."""

    @initialize(partitions=st.integers(1, 4), stripe=st.integers(1, 5))
    def start(self, partitions: int, stripe: int) -> None:
        self.dealing = Dealing(partitions, stripe)
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        info = StreamInfo(incarnation="first", schema=NUMBERS, dealing=self.dealing)
        with LogFolder(self.folder, write=True) as folder:
            folder.create(STREAM, info)
        self.records: list[dict[str, Any]] = []
        self.groups: dict[str, KeptGroup] = {}
        self.trimmed = self.synced = 0
        self.log = opened(self.folder, partitions=partitions, linger=0.0)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            self.scratch.cleanup()

    @rule(data=st.data(), count=st.integers(0, 12))
    def append_columns(self, data: st.DataObject, count: int) -> None:
        first = len(self.records)
        rows = [{"n": n, "text": data.draw(st.binary(max_size=9))} for n in range(first, first + count)]
        columns = {"n": np.arange(first, first + count), "text": [row["text"] for row in rows]}
        self.log.append_columns(columns, times_ns=1000 * np.arange(first, first + count))
        self.records += rows

    @rule(text=st.binary(max_size=9))
    def append(self, text: bytes) -> None:
        record = {"n": len(self.records), "text": text}
        assert self.log.append(record, time_ns=1000 * len(self.records)) == len(self.records) + 1
        self.records.append(record)

    @rule()
    def flush(self) -> None:
        self.log.flush(timeout_s=30)
        self.synced = len(self.records)
        assert self.log.durable == self.synced

    @rule()
    def live_again(self) -> None:
        self.log.close()
        self.synced = len(self.records)
        self.log = opened(self.folder, partitions=self.dealing.partitions, linger=0.0)
        assert self.log.info.incarnation == "first"
        assert self.log.groups() == self.groups
        assert self.log.durable == self.log.records == self.synced
        assert not self.log.ended

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        self.trimmed = max(self.trimmed, data.draw(st.integers(0, self.synced)))
        self.log.trim(self.dealing.ends(self.trimmed))

    @rule(data=st.data(), name=st.sampled_from(["a", "b"]))
    def keep_or_forget_a_group(self, data: st.DataObject, name: str) -> None:
        ends = self.dealing.ends(data.draw(st.integers(0, 50)))
        group = data.draw(st.sampled_from([None, KeptGroup(durable=True, committed=ends, trained={})]))
        self.log.keep_group(name, group)
        self.groups = {key: each for key, each in {**self.groups, name: group}.items() if each is not None}

    @rule()
    def what_is_trimmed_goes(self) -> None:
        whole = self.trimmed // self.dealing.stripe * self.dealing.stripe
        until(lambda: self.log.log_start() == self.dealing.ends(whole))
        for partition, start in self.log.log_start().items():
            if start:
                with pytest.raises(RecordsLost, match=f"partition {partition} lost"):
                    self.log.read(partition, start - 1, 1)

    @precondition(lambda self: self.synced > self.trimmed)
    @rule(data=st.data(), most=st.integers(1, 10))
    def read(self, data: st.DataObject, most: int) -> None:
        partition, offset = self.dealing.locate(data.draw(st.integers(self.trimmed, self.synced - 1)))
        end = self.log.log_end()[partition]
        chunk = self.log.read(partition, offset, most)
        assert (chunk.partition, chunk.offset) == (partition, offset)
        # What is appended meanwhile may be synced in between, and then comes with it.
        assert min(most, end - offset, self.dealing.stripe_end(offset) - offset) <= chunk.count <= most
        assert chunk.end <= self.dealing.stripe_end(offset)
        texts = chunk.columns["text"]
        assert isinstance(texts, Ragged)
        for row in range(chunk.count):
            record = self.dealing.record(partition, offset + row)
            assert chunk.columns["n"][row : row + 1] == [record]
            assert texts[row : row + 1].values.tobytes() == self.records[record]["text"]
            assert chunk.time_ns(row) == 1000 * record

    @rule(data=st.data())
    def look_up_a_time(self, data: st.DataObject) -> None:
        self.flush()
        record = data.draw(st.integers(self.trimmed, self.synced))
        assert all(
            self.log.offset_at(partition, 1000 * record - 500) == offset
            for partition, offset in self.dealing.ends(record).items()
        )

    @invariant()
    def it_reaches_what_was_synced(self) -> None:
        durable = sum(self.log.log_end().values())
        assert self.log.log_end() == self.dealing.ends(durable)
        assert self.synced <= durable <= len(self.records)
        partition, offset = self.dealing.locate(len(self.records))
        with pytest.raises(BeyondLogEnd):
            self.log.read(partition, offset, 1)


TestAgainstAPlainList = AgainstAPlainList.TestCase
TestAgainstAPlainList.settings = settings(max_examples=15, stateful_step_count=30)


# --- only what is synced counts ----------------------------------------------------------------------------------


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is closed, no transaction begins."""
    opening = threading.Event()
    opening.set()
    write = DiskStripes.write

    def gated(*arguments: Any, **named: Any) -> Any:
        opening.wait()
        return write(*arguments, **named)

    monkeypatch.setattr(DiskStripes, "write", gated)
    yield opening
    opening.set()


def test_readers_see_a_record_when_it_is_synced_and_not_before(tmp_path: Path, gate: threading.Event) -> None:
    log = opened(tmp_path, NUMBERS, linger=0.0)
    told = threading.Event()
    log.on_append = told.set
    gate.clear()
    log.append({"n": 0, "text": b"x"})
    with pytest.raises(StreamTimeout, match=r"1 records could not be synced within 0\.05 s"):
        log.flush(timeout_s=0.05)
    assert not told.is_set()
    assert (log.durable, log.log_end()) == (0, {0: 0, 1: 0})
    with pytest.raises(BeyondLogEnd):
        log.read(0, 0, 1)
    gate.set()
    log.flush(timeout_s=30)
    until(told.is_set)
    assert (log.durable, log.log_end()) == (1, {0: 1, 1: 0})
    assert ns(log, 0, 0) == [0]
    log.close()


def test_the_end_is_final_only_once_everything_before_it_is_synced(tmp_path: Path, gate: threading.Event) -> None:
    log = opened(tmp_path, NUMBERS, linger=0.0)
    gate.clear()
    log.append({"n": 0, "text": b"x"})
    log.end()
    assert not log.ended
    gate.set()
    until(lambda: log.ended)
    assert log.log_end() == {0: 1, 1: 0}
    log.close()


def test_a_disk_that_is_slower_than_the_source_bounds_what_waits_in_memory(
    tmp_path: Path, gate: threading.Event
) -> None:
    log = opened(tmp_path, WIDE)
    gate.clear()
    waiting = 16  # eight stripes
    for n in range(waiting):
        log.append(wide(n), timeout_s=0)
    with pytest.raises(LogFull, match="no room came free"):
        log.append(wide(waiting), timeout_s=0.05)
    gate.set()
    append_wide(log, waiting, 2 * waiting)
    log.flush(timeout_s=60)
    assert ns(log, 1, 15) == [2 * waiting - 1]
    log.close()


def test_a_stripe_that_is_larger_than_what_may_wait_is_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.disk_log.UNWRITTEN_BYTES", 1 << 16)
    log = opened(tmp_path, NUMBERS, partitions=1, linger=0.0)
    most = log._kept.max_bytes
    text = np.random.default_rng(0).integers(0, 256, most // 8, np.uint8)
    for n in range(40):  # of the 256 of a stripe
        log.append({"n": n, "text": text}, timeout_s=30)
        assert log._kept.nbytes <= most
    with pytest.raises(LogFull, match=rf"at once are more than the {most} that may wait .*: give smaller records, or"):
        log.append({"n": 40, "text": np.zeros(most, np.uint8)})
    log.flush(timeout_s=30)
    assert ns(log, 0, 0) == list(range(40))
    texts = log.read(0, 0, 256).columns["text"]
    assert isinstance(texts, Ragged)
    assert all(texts[row : row + 1].values.tobytes() == text.tobytes() for row in range(40))
    for n in range(40, 300):
        log.append({"n": n, "text": text}, timeout_s=30)
    log.trim({0: 256})
    log.flush(timeout_s=30)
    until(lambda: log.log_start() == {0: 256})
    assert ns(log, 0, 256) == list(range(256, 300))
    log.close()


def test_what_gathers_within_the_linger_is_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    write = DiskStripes.write

    def counted(stripes: DiskStripes, rows: Any, *arguments: Any, **named: Any) -> Any:
        counts.append(sum(end - row for _first, _block, row, end in rows))
        return write(stripes, rows, *arguments, **named)

    monkeypatch.setattr(DiskStripes, "write", counted)
    log = opened(tmp_path, NUMBERS, linger=60_000.0)
    for n in range(100):
        log.append({"n": n, "text": b""})
    assert counts == []
    log.flush(timeout_s=30)
    assert counts == [100]
    log.close()


# --- a full log ----------------------------------------------------------------------------------------------------


def test_a_full_log_blocks_until_trainers_commit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(tmp_path, WIDE, bytes=4 * STRIPE_BYTES + (1 << 16))
    append_wide(log, 0, 16)
    until(lambda: log.filled == 1.0)
    assert log.durable == 8
    assert "is full" in caplog.text
    with pytest.raises(StreamTimeout):
        log.flush(timeout_s=0.05)
    log.trim({0: 4, 1: 2})  # three of four stripes
    until(lambda: log.durable == 14)
    assert log.log_start() == {0: 4, 1: 2}
    assert log.dropped == {0: 0, 1: 0}
    log.trim(log.log_end())
    log.flush(timeout_s=30)
    assert ns(log, 1, 6) == [14, 15]
    assert "has room again" in caplog.text
    log.close()


def test_a_full_log_that_drops_the_oldest_counts_exactly_what_was_needed(tmp_path: Path) -> None:
    log = opened(tmp_path, WIDE, bytes=4 * STRIPE_BYTES + (1 << 16), full="drop-oldest")
    append_wide(log, 0, 8)
    log.flush(timeout_s=30)
    log.trim({0: 2, 1: 1})  # the first stripe, and half of the second
    until(lambda: log.log_start() == {0: 2, 1: 0})
    append_wide(log, 8, 20)
    log.flush(timeout_s=30)
    assert log.log_start() == {0: 6, 1: 6}
    assert log.dropped == {0: 4, 1: 5}
    with pytest.raises(RecordsLost) as lost:
        log.read(1, 1, 1)
    assert (lost.value.first, lost.value.end) == (1, 6)
    log.close()


def test_a_full_log_that_fails_refuses_the_record_and_takes_the_next_once_there_is_room(tmp_path: Path) -> None:
    log = opened(tmp_path, WIDE, bytes=4 * STRIPE_BYTES + (1 << 16), full="fail")
    append_wide(log, 0, 8)
    log.flush(timeout_s=30)
    log.append(wide(8))
    with pytest.raises(LogFull, match=r"is full .*trainers must commit"):
        log.flush(timeout_s=30)
    with pytest.raises(LogFull, match="is full"):
        log.append(wide(9))
    log.trim({0: 2, 1: 2})
    log.flush(timeout_s=30)
    log.append(wide(9))
    log.flush(timeout_s=30)
    assert log.durable == 10
    log.close()


def test_what_is_older_than_is_kept_goes_whoever_needs_it(tmp_path: Path) -> None:
    now_ns = [0]
    opened(tmp_path, WIDE).close()
    log = DiskLog(
        LogFolder(tmp_path, write=True), LogSettings(path=str(tmp_path), keep=60.0), wall_clock_ns=lambda: now_ns[0]
    )
    append_wide(log, 0, 5)
    log.flush(timeout_s=30)
    now_ns[0] = 61_000_000_000
    append_wide(log, 5, 7)  # the third stripe has an old and a new record
    log.flush(timeout_s=30)
    until(lambda: log.log_start() == {0: 2, 1: 2})
    assert log.dropped == {0: 2, 1: 2}
    log.close()


def test_a_disk_without_room_stops_nothing_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        for full in ("block", "fail"):
            _fill_the_disk(small, full, caplog)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def _fill_the_disk(small: Path, full: WhenFull, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    ballast = small / "ballast"
    ballast.write_bytes(bytes(16 << 20))
    log = opened(small / full, WIDE, full=full)
    append_wide(log, 0, 6)  # 12 MiB where less than 8 are left
    until(lambda: "is full: make room" in caplog.text)
    durable = log.durable
    assert durable < 6
    if full == "fail":
        with pytest.raises(LogFull, match=r"the disk of .* is full"):
            log.append(wide(6))
    ballast.unlink()
    log.flush(timeout_s=60)
    assert log.durable == 6
    assert ns(log, 0, 0) + ns(log, 1, 0) + ns(log, 0, 2) == list(range(6))
    log.close()
    shutil.rmtree(small / full)


# --- one folder, many lives -----------------------------------------------------------------------------------------


def test_the_next_life_goes_on_inside_a_stripe(tmp_path: Path) -> None:
    log = opened(tmp_path, NUMBERS, partitions=1)
    incarnation = log.info.incarnation
    for life in range(5):
        for n in range(3):
            log.append({"n": 3 * life + n, "text": b""})
        log.end()
        log.close()
        log = opened(tmp_path, partitions=1)
        assert not log.ended, "what had ended goes on"
    assert log.info.incarnation == incarnation
    assert ns(log, 0, 0) == list(range(15))
    assert ns(log, 0, 4, 5) == [4, 5, 6, 7, 8]
    log.close()


def test_a_folder_of_other_records_or_partitions_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, NUMBERS).close()
    with pytest.raises(UsageError, match="another schema: give another folder"):
        opened(tmp_path, WIDE)
    with pytest.raises(UsageError, match="has 2 partitions, not 3: ask for 2"):
        opened(tmp_path, NUMBERS, partitions=3)
    opened(tmp_path, NUMBERS).close()  # a refusal holds nothing


def test_a_folder_that_another_process_writes_is_refused_and_free_as_soon_as_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom producer.append_log import LogSettings\nfrom producer.open_log import open_log\n"
        "from protocol.schema import Field, Schema\n"
        "log = open_log(Schema((Field('n', 'int64'),)), 2, LogSettings(path=sys.argv[1]), source='')\n"
        "log.append({'n': 1})\nlog.flush()\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    with writer:
        assert writer.stdout.readline() == "up\n"
        with pytest.raises(
            UsageError, match=rf"in use by process {writer.pid} on \S+: stop it, or give another folder"
        ):
            opened(tmp_path)
        with LogFolder(tmp_path) as folder:
            assert folder.written_now
        writer.kill()
    with LogFolder(tmp_path) as folder:
        assert not folder.written_now
    log = opened(tmp_path)
    assert ns(log, 0, 0) == [1]
    log.close()


def test_a_folder_that_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no log"):
        LogFolder(tmp_path)
    (tmp_path / "data.mdb").write_bytes(os.urandom(8192))
    with pytest.raises(UsageError, match="damaged or no log"):
        opened(tmp_path, NUMBERS)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="cannot be used"):
        opened(file, NUMBERS)


def test_a_folder_that_cannot_be_written_any_more_is_said_to_whoever_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any, **_named: Any) -> None:
        raise StreamError("the disk is on fire")

    log = opened(tmp_path, NUMBERS)
    monkeypatch.setattr(DiskStripes, "write", broken)
    log.append({"n": 0, "text": b""})
    with pytest.raises(StreamError, match="cannot be written any more: the disk is on fire"):
        log.flush(timeout_s=30)
    with pytest.raises(StreamError, match="the disk is on fire"):
        log.append({"n": 1, "text": b""})
    with caplog.at_level(logging.ERROR):
        log.close()
    assert "1 records were appended and could not be written" in caplog.text
