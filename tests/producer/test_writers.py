"""Who wrote which records: whatever part of a log is written, the numbers are those of exactly these records."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer import writers as writers_room
from producer.append_log import LogSettings
from producer.disk_log import DiskLog
from producer.memory_log import MemoryLog
from producer.open_log import open_log
from producer.writers import Writers, writers_at
from protocol.dealing import Dealing
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from tests.producer.two_writers import SCHEMA, let_in
from tests.programs import ROOT, wait_until


def opened(folder: Path, schema: Schema = SCHEMA, **how: Any) -> DiskLog:
    log = open_log(schema, 2, LogSettings(path=str(folder), **how), source="test")
    assert isinstance(log, DiskLog)
    return log


@settings(max_examples=25)
@given(st.data())
def test_whatever_part_is_written_the_numbers_are_those_of_its_records(data: st.DataObject) -> None:
    writers, given_by = Writers({}), list[str]()  # the writer of each record of the log
    passed: list[tuple[int, str]] = []  # (records of the log by then, who)
    written = 0
    for _ in range(data.draw(st.integers(1, 30))):
        name, act = data.draw(st.sampled_from("abc")), data.draw(st.sampled_from(["give", "pass over", "write"]))
        if act == "give":
            rows = data.draw(st.integers(1, 9))
            writers.give((name, writers.taken(name)), len(given_by), rows)
            given_by += [name] * rows
        elif act == "pass over":
            writers.pass_over((name, writers.taken(name)), len(given_by))
            passed.append((len(given_by), name))
        else:
            out = writers.take_out()
            written = data.draw(st.integers(written, len(given_by)))
            # Meanwhile somebody goes on.
            late = data.draw(st.sampled_from("abc"))
            writers.give((late, writers.taken(late)), len(given_by), 1)
            given_by.append(late)
            writers.settle(*writers_at(out, written))
            for each in "abc":
                known = [at for at, who in passed if who == each and at <= written]
                assert writers.durable(each) == given_by[:written].count(each) + len(known)
    for each in "abc":
        assert writers.taken(each) == given_by.count(each) + sum(who == each for _, who in passed)


def test_the_writer_that_was_silent_for_longest_is_forgotten_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writers_room, "MAX_WRITERS", 2)
    writers = Writers({})
    for record, name in enumerate(["a", "b", "a", "c", "d"]):
        writers.give((name, writers.taken(name)), record, 1)
    assert [writers.taken(name) for name in "abcd"] == [0, 0, 1, 1]
    kept, rest = writers_at(writers.take_out(), 4)
    assert kept == {"a": (2, 3), "b": None, "c": (1, 4)}, "a was forgotten behind what is written"
    writers.settle(kept, rest)
    assert writers.durable("a") == writers.taken("a") == 0, "and begins anew all the same"
    writers.settle(*writers_at(writers.take_out(), 5))
    assert [writers.durable(name) for name in "abcd"] == [0, 0, 1, 1]
    assert caplog.text.count("the one silent for longest is forgotten") == 1


def test_what_was_durable_of_a_writer_that_was_forgotten_is_nothing_once_it_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers_room, "MAX_WRITERS", 2)
    writers = Writers({"a": 7, "b": 7})
    for record, name in enumerate(["c", "a"]):  # a is forgotten, then b
        writers.give((name, writers.taken(name)), record, 1)
        assert all(writers.durable(each) <= writers.taken(each) for each in "abc")
    assert (writers.taken("a"), writers.durable("a")) == (1, 0)
    writers.settle(*writers_at(writers.take_out(), 2))
    assert [writers.durable(name) for name in "abc"] == [1, 0, 1]


def test_a_folder_knows_who_was_silent_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    for name in ("c", "a", "b", "c", "a"):
        log.append({"n": 0, "writer": 0}, writer=(name, log.taken(name)))
    log.close()
    with lmdb.open(str(tmp_path), max_dbs=8) as folder, folder.begin(write=True) as transaction:
        transaction.put(b"old", b"\x05", db=folder.open_db(b"writers", transaction))  # as it was before
    with LogFolder(tmp_path, write=True) as kept:
        assert list(kept.writers().items()) == [("old", 5), ("b", 1), ("c", 2), ("a", 2)]
    monkeypatch.setattr(writers_room, "MAX_WRITERS", 3)
    log = opened(tmp_path)
    for name in ("c", "d", "e"):
        log.append({"n": 0, "writer": 0}, writer=(name, log.taken(name)))
    assert [log.taken(name) for name in ("old", "a", "b", "c", "d", "e")] == [0, 2, 0, 3, 1, 1]
    log.close()


def test_what_a_log_in_memory_has_taken_is_durable() -> None:
    log = MemoryLog(SCHEMA, Dealing(2, 4))
    log.append({"n": 0, "writer": 0}, writer=("a", 0))
    log.pass_over(("a", 1))
    log.append_columns({"n": np.arange(9), "writer": np.zeros(9, np.int64)}, writer=("a", 2))
    assert log.taken("a") == log.durable_of("a") == 11
    assert log.taken("b") == 0


def test_a_log_that_is_full_knows_of_each_writer_what_it_has_written_and_no_more(tmp_path: Path) -> None:
    wide = Schema((Field("n", "int64"), Field("pad", "uint8", ((1 << 21) - 8,))))  # two of them make a stripe
    record = {"n": 0, "pad": np.zeros((1 << 21) - 8, np.uint8)}
    log = opened(tmp_path, wide, bytes=7 << 21, linger=0)
    for number in range(5):
        log.append(record, writer=("a", number))
        log.append(record, writer=("b", number))
    log.pass_over(("b", 5))
    wait_until(lambda: log.filled == 1.0, "the log to be full")
    of_both = log.durable_of("a") + log.durable_of("b")
    assert of_both == log.durable < 10
    assert [log.taken(name) for name in "ab"] == [5, 6], "the rest waits in memory"
    log.trim(log.log_end())
    log.flush(timeout_s=30)
    wait_until(lambda: log.durable_of("b") == 6, "what was passed over to be durable")
    log.close()
    again = opened(tmp_path, wide, bytes=7 << 21)
    assert [again.taken(name) for name in "abc"] == [again.durable_of(name) for name in "abc"] == [5, 6, 0]
    assert again.records == 10
    again.close()


def test_a_folder_of_before_has_no_writers_and_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append({"n": 0, "writer": 0})
    log.close()
    with lmdb.open(str(tmp_path), max_dbs=8) as before, before.begin(write=True) as transaction:
        transaction.drop(before.open_db(b"writers", transaction))
    with LogFolder(tmp_path) as folder:
        assert StoredLog(folder, STREAM).log_end() == {0: 1, 1: 0}
    log = opened(tmp_path)
    assert (log.records, log.taken("a")) == (1, 0)
    log.append({"n": 1, "writer": 0}, writer=("a", 0))
    log.flush(timeout_s=30)
    assert log.durable_of("a") == 1
    log.close()


def test_after_a_kill_the_numbers_are_those_of_the_records_that_are_there(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    found: list[tuple[int, int]] = []
    for _ in range(2):
        life = subprocess.Popen(
            [sys.executable, "-m", "tests.producer.two_writers", str(tmp_path), str(drawn.random())],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert life.stdout is not None
        for _ in range(drawn.randint(1, 200)):
            life.stdout.readline()
        life.send_signal(signal.SIGKILL)
        life.communicate()
        log = opened(tmp_path)
        found = list(records(log))
        for writer in (0, 1):
            numbers = range(log.taken(str(writer)))
            assert [n for n, who in found if who == writer] == list(filter(let_in, numbers))
        log.close()
    assert len(found) > 0


def records(log: DiskLog) -> Iterator[tuple[int, int]]:
    """(number, writer) of each record, in stream order."""
    stripe = log.info.dealing.stripe
    for first in range(0, log.durable, stripe):
        number, writer = log.read(*log.info.dealing.locate(first), stripe).columns.values()
        assert isinstance(number, np.ndarray)
        assert isinstance(writer, np.ndarray)
        yield from zip(number.tolist(), writer.tolist(), strict=True)
