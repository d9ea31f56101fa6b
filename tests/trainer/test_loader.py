"""`StreamLoader`: every record once, in stream order, from wherever a state says."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from producer.memory_log import MemoryLog
from producer.publisher import Publisher
from producer.source import ColumnSource, Indices
from protocol.chunk import Column
from protocol.dealing import Dealing
from protocol.errors import DataFault, RecordsLost, StreamReplaced, StreamTimeout, UsageError
from protocol.log_folder import LogFolder
from protocol.open_reader import open_reader
from protocol.recording import Recording
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, group, ids, serving
from trainer import workers
from trainer.batch import Batch
from trainer.ledger import FATES
from trainer.loader import StreamLoader

RECORDS = 1000


def numbered(records: int = RECORDS) -> NumberedRecords:
    """Stripes of 32: a partition has several."""
    return NumberedRecords(records, validation=0)


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions, as fast as they are read."""
    with serving(computed(numbered())) as url:
        yield url


@pytest.fixture
def silent() -> Iterator[str]:
    """A live stream that has said 10 records and says no more."""
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(id=np.arange(10))
    yield publisher.address
    publisher.abandon()


def expected_ids() -> list[int]:
    log = computed(numbered())
    return [
        int(np.asarray(log.read(*log.info.dealing.locate(record), 1).columns["id"])[0]) for record in range(RECORDS)
    ]


def take(loader: StreamLoader, batches: int, *, mark: bool = True) -> list[Batch]:
    """The next batches; then the iteration is left."""
    taken: list[Batch] = []
    for batch in loader:
        taken.append(batch)
        if mark:
            loader.mark_trained(batch)
        if len(taken) == batches:
            break
    return taken


@contextmanager
def after(delay_s: float, action: Callable[[], object]) -> Iterator[None]:
    """Do it from another thread, a little later."""
    timer = threading.Timer(delay_s, action)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


# --- order and batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3, 12])
def test_every_record_comes_once_in_stream_order_whatever_the_workers(stream: str, workers: int) -> None:
    loader = StreamLoader(stream, batch_size=60, num_workers=workers)
    batches = take(loader, RECORDS)
    assert ids(batches) == expected_ids()
    assert [batch.count for batch in batches] == [60] * 16 + [40]
    assert [batch.number for batch in batches] == list(range(1, 18))
    assert loader.position.ended
    assert loader.position.state == "ended"
    loader.check_ledger()


@pytest.mark.parametrize("workers", [0, 3])
def test_a_recording_gives_what_the_stream_gave_and_is_gone_on_from_with_other_workers(
    stream: str, tmp_path: Path, workers: int
) -> None:
    with open_reader(stream) as reader, LogFolder(tmp_path, write=True) as folder:
        for _ in Recording(reader, folder, timeout_s=30).follow():
            continue
    first = StreamLoader(f"file://{tmp_path}", batch_size=64, num_workers=workers)
    seen = ids(take(first, 5))
    second = StreamLoader(f"file://{tmp_path}", batch_size=64, num_workers=3 - workers)
    second.load_state_dict(first.state_dict())
    for batch in second:
        seen += ids([batch])
        second.mark_trained(batch)
    second.commit(second.state_dict())
    second.check_ledger()
    assert seen == expected_ids()


def test_a_batch_says_what_it_is_made_of(stream: str) -> None:
    dealing = Dealing(8, 32)
    at = 0
    for batch in take(StreamLoader(stream, batch_size=50), 8):
        spans = [offset for partition, first, count in batch.spans for offset in range(first, first + count)]
        records = [
            dealing.record(partition, offset)
            for partition, first, count in batch.spans
            for offset in range(first, first + count)
        ]
        assert len(spans) == batch.count == 50
        assert records == list(range(at, at + 50))
        at += 50
        assert batch.positions == dealing.ends(at)
        assert abs(time.time_ns() - batch.newest_time_ns) < 60e9
        assert set(batch) == {"id", "payload", "label"}
        assert batch["payload"].shape == (50, 1 << 16)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_own_their_memory(stream: str, workers: int) -> None:
    batches, copies = [], []
    loader = StreamLoader(stream, batch_size=60, num_workers=workers)
    for batch in loader:
        batches.append(batch)
        copies.append({name: column.clone() for name, column in batch.items()})
        loader.mark_trained(batch)
    pointers = {batch["payload"].data_ptr() for batch in batches}
    assert len(pointers) == len(batches)
    for batch, copy in zip(batches, copies, strict=True):
        assert all(torch.equal(batch[name], column) for name, column in copy.items())
        assert torch.equal(batch["payload"][:, -1], (batch["id"] % 251).to(torch.uint8))


def test_it_has_no_length(stream: str) -> None:
    with pytest.raises(TypeError, match="has no len"):
        len(StreamLoader(stream, batch_size=8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 8, "num_workers": -1},
        {"batch_size": 8, "start": "middle"},
        {"batch_size": 8, "on_timeout": "shrug"},
        {"batch_size": 8, "url": "http://example.org"},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_opened(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StreamLoader(**{"url": "tcp://127.0.0.1:1", **wrong})


def test_a_run_may_start_with_what_comes_next() -> None:
    with Publisher("tcp://127.0.0.1:*", partitions=2) as publisher:
        publisher.send_columns(id=np.arange(100))
        loader = StreamLoader(publisher.address, batch_size=10, start="latest")
        loader.connect()
        publisher.send_columns(id=np.arange(100, 120))
        assert ids(take(loader, 2)) == list(range(100, 120))
        loader.commit(loader.state_dict())


def test_a_run_may_start_at_a_time_and_then_goes_on_where_it_was() -> None:
    log = MemoryLog(Schema((Field("id", "int64"),)), Dealing(2, 8))
    log.append_columns({"id": np.arange(30)}, times_ns=10**18 + 10**9 * np.arange(30))
    log.end()
    with serving(log) as url:
        loader = StreamLoader(url, batch_size=4, start="2001-09-09T01:46:53Z")  # 13 s after 10⁹ s since 1970
        first = next(iter(loader))
        assert first["id"].tolist() == [13, 14, 15, 16]
        loader.mark_trained(first)
        resumed = StreamLoader(url, batch_size=4, start="2001-09-09T01:46:53Z")
        resumed.load_state_dict(loader.state_dict())
        assert ids(resumed) == list(range(17, 30))
    with pytest.raises(UsageError, match="'noon' is no start"):
        StreamLoader(url, batch_size=4, start="noon")


def test_a_producer_that_is_not_there_is_waited_for_no_longer_than_was_said() -> None:
    waited: list[float] = []
    loader = StreamLoader("tcp://127.0.0.1:1", batch_size=8, connect_timeout_s=1, on_wait=waited.append)
    with pytest.raises(StreamTimeout, match=r"no producer answered at tcp://127\.0\.0\.1:1 within 1 s"):
        loader.connect()


# --- positions ----------------------------------------------------------------------------------------------------


def test_a_state_holds_what_was_marked_not_what_was_handed_out(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first, *_ = take(loader, 3, mark=False)
    assert loader.in_hand()["unmarked"] == 180
    loader.mark_trained(first)
    assert loader.state_dict()["positions"] == first.positions
    assert loader.state_dict()["batches"] == 1
    assert loader.in_hand()["unmarked"] == 120
    assert loader.position.lag == RECORDS - 60
    loader.check_ledger()


def test_marking_is_cumulative_and_marking_twice_changes_nothing(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first, _, third = take(loader, 3, mark=False)
    loader.mark_trained(third)
    assert loader.position.trained == third.positions
    loader.mark_trained(first)
    assert loader.position.trained == third.positions
    assert loader.position.ledger.totals()["trained"] == 180
    loader.check_ledger()


def test_a_batch_that_was_skipped_has_passed_and_is_not_trained(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=10)
    _, second, third = take(loader, 3, mark=False)
    loader.mark_skipped(second)
    assert loader.position.totals() == {**dict.fromkeys(FATES, 0), "trained": 10, "skipped": 10}
    loader.check_ledger()
    loader.mark_trained(third)
    state = loader.state_dict()
    assert state["positions"] == third.positions
    assert sum(state["ledger"]["trained"]) == 20
    resumed = StreamLoader(stream, batch_size=10)
    resumed.load_state_dict(state)
    assert ids(take(resumed, 1)) == expected_ids()[30:40]
    assert resumed.position.totals()["skipped"] == 10
    resumed.check_ledger()


@pytest.mark.parametrize(("before", "afterwards"), [(0, 2), (3, 0), (1, 3)])
def test_a_state_goes_on_where_it_was_taken_with_other_workers(stream: str, before: int, afterwards: int) -> None:
    loader = StreamLoader(stream, batch_size=60, num_workers=before)
    begun = take(loader, 5)
    state = loader.state_dict()
    resumed = StreamLoader(stream, batch_size=60, num_workers=afterwards)
    resumed.load_state_dict(state)
    rest = take(resumed, RECORDS)
    assert ids(begun) + ids(rest) == expected_ids()
    assert rest[0].number == 6
    assert resumed.group == loader.group
    assert resumed.position.ledger.totals()["trained"] == RECORDS
    resumed.check_ledger()


def test_a_state_is_refused_once_the_stream_was_asked_for(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    state = loader.state_dict()
    with pytest.raises(RuntimeError, match="before the first batch"):
        loader.load_state_dict(state)


def test_a_state_of_another_version_is_refused(stream: str) -> None:
    state = StreamLoader(stream, batch_size=60).state_dict()
    with pytest.raises(UsageError, match="version 99"):
        StreamLoader(stream, batch_size=60).load_state_dict({**state, "version": 99})


def test_a_second_iteration_starts_from_what_was_marked_and_warns(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    marked, *unmarked = take(loader, 3, mark=False)
    loader.mark_trained(marked)
    with pytest.warns(UserWarning, match="120 records were handed out and never marked"):
        again = take(loader, 2)
    assert ids(again) == ids(unmarked)
    assert [batch.number for batch in again] == [2, 3]
    loader.check_ledger()


def test_a_second_iteration_takes_over_from_one_that_is_still_open(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60)
    first = iter(loader)
    loader.mark_trained(next(first))
    second = iter(loader)
    loader.mark_trained(next(second))
    first.close()  # type: ignore[attr-defined]
    rest = list(second)
    loader.mark_trained(rest[-1])
    assert loader.position.ended
    assert loader.position.ledger.totals()["trained"] == RECORDS
    loader.check_ledger()


def test_the_producer_hears_what_was_trained_and_keeps_what_a_checkpoint_needs(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=60, group="hears")
    batches = iter(loader)
    for _ in range(5):
        loader.mark_trained(next(batches))
    loader.connect()
    deadline_s = time.monotonic() + 5
    while group(stream, "hears").trained != loader.position.trained:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert not group(stream, "hears").durable
    state = loader.state_dict()
    loader.mark_trained(next(batches))
    loader.commit(state)
    known = group(stream, "hears")
    assert known.durable
    assert known.committed == state["positions"] != loader.position.trained
    batches.close()  # type: ignore[attr-defined]


# --- a silent stream ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_on_idle_is_called_at_least_once_a_second(silent: str, workers: int) -> None:
    loader = StreamLoader(silent, batch_size=10, num_workers=workers)
    moments_s: list[float] = []

    def idle() -> None:
        if moments_s:  # until the only batch has come, workers may still be starting
            moments_s.append(time.monotonic())
        if len(moments_s) > 4:
            loader.stop()

    loader.on_idle = idle
    for batch in loader:
        loader.mark_trained(batch)
        moments_s.append(time.monotonic())
    gaps = np.diff(moments_s)
    assert len(gaps) >= 4
    assert gaps.max() < 1.2, gaps


@pytest.mark.parametrize("workers", [0, 1])
def test_a_silent_stream_can_be_stopped(silent: str, workers: int) -> None:
    loader = StreamLoader(silent, batch_size=4, num_workers=workers)
    seen: list[Batch] = []
    timer = threading.Timer(0.5, loader.stop)
    for batch in loader:
        seen.append(batch)
        loader.mark_trained(batch)
        if len(seen) == 2:
            timer.start()
    timer.join()
    assert ids(seen) == list(range(8))
    loader.check_ledger()


def test_what_had_come_for_an_unfinished_batch_comes_again_after_a_stop(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4)
    with after(0.5, loader.stop):
        take(loader, 5)
    loader.check_ledger()
    with after(0.5, loader.stop):
        take(loader, 5)
    loader.check_ledger()
    assert loader.position.ledger.totals()["trained"] == 8
    assert loader.in_hand() == {"buffered": 0, "unmarked": 0}


def test_the_ledger_balances_while_a_batch_is_half_there(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4)
    found: list[dict[str, int]] = []

    def look() -> None:
        loader.check_ledger()
        found.append(loader.in_hand())
        loader.stop()

    loader.on_idle = look
    take(loader, 5)
    assert found == [{"buffered": 2, "unmarked": 0}]


def test_silence_raises_after_the_time_that_was_given(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4, idle_timeout_s=1.2)
    with pytest.raises(StreamTimeout, match=r"no record came from .* for 1.2 s"):
        take(loader, 5)
    loader.check_ledger()


def test_silence_ends_the_iteration_where_that_was_asked_for(silent: str) -> None:
    loader = StreamLoader(silent, batch_size=4, idle_timeout_s=1.2, on_timeout="end")
    assert len(take(loader, 5)) == 2
    assert not loader.position.ended
    loader.check_ledger()


# --- another stream -----------------------------------------------------------------------------------------------


def train_live(url: str, state: dict[str, Any] | None) -> StreamLoader:
    """Train a live stream to its end, from a state on."""
    loader = StreamLoader(url, batch_size=10)
    if state is not None:
        loader.load_state_dict(state)
    loader.state_dict()  # from here on the producer waits for a commit
    take(loader, 1000)
    loader.commit(loader.state_dict())
    return loader


def publish(first: int, count: int) -> tuple[Publisher, threading.Thread]:
    """A live stream that is about to end, closed in a thread of its own."""
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2)
    publisher.send_columns(id=np.arange(first, first + count))
    closing = threading.Thread(target=publisher.close)
    return publisher, closing


def test_a_live_stream_that_was_trained_to_its_end_is_followed_by_the_next(caplog: pytest.LogCaptureFixture) -> None:
    publisher, closing = publish(0, 50)
    closing.start()
    loader = train_live(publisher.address, None)
    closing.join()
    publisher, closing = publish(50, 30)
    closing.start()
    with caplog.at_level("INFO"):
        following = train_live(publisher.address, loader.state_dict())
    closing.join()
    assert following.position.batches == 8
    assert [each.ledger.totals()["trained"] for each in following.position.earlier] == [50]
    assert following.position.totals()["trained"] == 80
    assert following.position.ledger.totals()["trained"] == 30
    assert "was trained to its end" in caplog.text
    old = loader.state_dict()["incarnation"]
    assert old in caplog.text
    loader.commit({**loader.state_dict(), "incarnation": "of a stream before"})  # nobody keeps it: no error


def test_another_stream_is_refused_by_both_names_with_what_was_lost() -> None:
    publisher, _ = publish(0, 50)
    loader = StreamLoader(publisher.address, batch_size=10)
    take(loader, 2)
    state = loader.state_dict()
    publisher.abandon()
    other, _ = publish(0, 50)
    resumed = StreamLoader(other.address, batch_size=10)
    resumed.load_state_dict(state)
    with pytest.raises(StreamReplaced):
        resumed.connect()
    with pytest.raises(StreamReplaced) as caught:  # it is no less wrong the second time
        resumed.connect()
    other.abandon()
    assert caught.value.expected == state["incarnation"]
    assert caught.value.found not in ("", caught.value.expected)
    assert str(caught.value.found) in str(caught.value)
    assert sum(lost.end - lost.first for lost in caught.value.lost) == 30
    assert "partition 0 lost at least 30 records: offsets 20 to 49" in str(caught.value)


def test_a_stream_that_is_replaced_while_it_is_read_is_refused() -> None:
    publisher, _ = publish(0, 20)
    loader = StreamLoader(publisher.address, batch_size=10)
    address = publisher.address
    batches = iter(loader)
    loader.mark_trained(next(batches))
    publisher.abandon()
    other = MemoryLog(publisher._log.info.schema, Dealing(2, 1024))  # type: ignore[union-attr]
    with serving(other, url=address), pytest.raises(StreamReplaced) as caught:
        list(batches)
    assert caught.value.expected == loader.info.incarnation
    assert "partition 0 lost at least 10 records: offsets 10 to 19" in str(caught.value)


def test_positions_that_retention_has_passed_are_refused_with_their_number() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=1 << 23, full="drop-oldest")
    publisher.send_columns(id=np.arange(10), payload=np.zeros((10, 1 << 15), np.uint8))
    loader = StreamLoader(publisher.address, batch_size=5)
    take(loader, 1)
    state = loader.state_dict()
    publisher.send_columns(id=np.arange(1000), payload=np.zeros((1000, 1 << 15), np.uint8))
    start = publisher._log.log_start()  # type: ignore[union-attr]
    resumed = StreamLoader(publisher.address, batch_size=5)
    resumed.load_state_dict(state)
    with pytest.raises(RecordsLost) as caught:
        take(resumed, 1)
    publisher.abandon()
    lost = caught.value
    assert (lost.first, lost.end) == (state["positions"][lost.partition], start[lost.partition])


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_lost_though_marking_is_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handed: list[Batch] = []
    seen: list[int] = []
    killed_s: list[float] = []
    with serving(computed(numbered(), passes=6)) as url:
        loader = StreamLoader(url, batch_size=20, num_workers=2)
        for batch in loader:
            seen += batch["id"].tolist()
            handed.append(batch)
            if len(handed) > 4:
                loader.mark_trained(handed.pop(0))
            if batch.number in (3, 83, 163):  # farther apart than what the workers have read ahead
                os.kill(worker_of(loader), signal.SIGKILL)
                killed_s.append(time.time())  # noqa: TID251  (as logging has it)
        loader.mark_trained(handed[-1])
        assert loader.position.ended
    assert np.bincount(seen).tolist() == [6] * RECORDS
    noticed_s = [said.created for said in caplog.records if "a worker died and is replaced" in said.message]
    assert len(noticed_s) == 3
    assert np.subtract(noticed_s, killed_s).max() < 4  # DataLoader by itself looks after its workers each 5 s
    loader.check_ledger()


@pytest.mark.slow
def test_stopped_workers_leave_the_loop_awake(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=20, num_workers=1)
    idle_s: list[float] = []

    def wake() -> None:
        idle_s.append(time.monotonic())
        if len(idle_s) == 2:
            os.kill(worker, signal.SIGCONT)

    batches = iter(loader)
    seen = [next(batches)]
    worker = worker_of(loader)
    os.kill(worker, signal.SIGSTOP)
    stopped_s = time.monotonic()
    loader.on_idle = wake
    for batch in batches:
        seen.append(batch)
        loader.mark_trained(batch)
    assert ids(seen) == expected_ids()
    assert np.diff([stopped_s, *idle_s])[:2].max() < 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_worker_that_is_lost_while_another_says_signs_of_life_is_replaced(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STOPPED_S", 0.5)
    with Publisher("tcp://127.0.0.1:*", partitions=2) as publisher:
        publisher.send_columns(id=np.arange(20))
        loader = StreamLoader(publisher.address, batch_size=20, num_workers=2)
        batches = iter(loader)
        seen = [next(batches)]
        lost = worker_of(loader)
        os.kill(lost, number)
        loader.on_idle = lambda: publisher.send_columns(id=np.arange(20, 40)) if worker_of(loader) != lost else None
        seen.append(next(batches))
        loader.mark_trained(seen[-1])
        publisher.abandon()
    assert ids(seen) == list(range(40))


def worker_of(loader: StreamLoader) -> int:
    """The pid of one of its workers."""
    assert loader._batching is not None
    readers = loader._batching._incoming._readers
    assert readers is not None
    return min(process.pid or 0 for process in readers.workers.processes)


class Mislabelled(NumberedRecords):
    """Record 700 bears a label that the schema rules out."""

    def take(self, indices: Indices) -> dict[str, Column]:
        columns = super().take(indices)
        labels = np.asarray(columns["label"])
        labels[indices == 700] = 10
        return {**columns, "label": labels}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_out_of_range_stops_with_its_place(workers: int) -> None:
    log = computed(Mislabelled(RECORDS, validation=0))
    place = expected_ids().index(700)
    partition, offset = log.info.dealing.locate(place)
    with serving(log) as url:
        loader = StreamLoader(url, batch_size=60, num_workers=workers)
        with pytest.raises(DataFault, match=rf"label 10 at partition {partition}, offset {offset} is outside 0 to 9"):
            take(loader, RECORDS)


def test_small_slots_and_many_small_stripes_do_not_stand_still() -> None:
    schema = Schema((Field("id", "int64", ()), Field("payload", "uint8", (1 << 18,))))
    source = ColumnSource("big", schema, {"id": np.arange(200), "payload": np.zeros((200, 1 << 18), np.uint8)})
    with serving(computed(source, partitions=7)) as url:
        loader = StreamLoader(url, batch_size=3, num_workers=3)
        assert sorted(ids(take(loader, 200))) == list(range(200))
        loader.check_ledger()


def test_what_a_producer_has_confirmed_is_not_said_again_since_it_may_have_left() -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        publisher.send_columns(id=np.arange(100))
        loader = StreamLoader(publisher.address, batch_size=50)
        take(loader, 1)
        early = loader.state_dict()
        loader.commit(early)
        take(loader, 1)
        state = loader.state_dict()
        loader.commit(state)  # the last that a publisher waits for
    loader.commit(state, timeout_s=0.1)
    with pytest.raises(StreamTimeout):
        loader.commit(early, timeout_s=0.1)
