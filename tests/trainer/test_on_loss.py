"""Records that the stream has lost: the run stops and says which, or goes on and its ledger has each of them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producer.append_log import AppendLog, LogSettings
from producer.memory_log import MemoryLog
from producer.open_log import open_log
from protocol.dealing import Positions
from protocol.errors import RecordsLost, StreamError, StreamReplaced, UsageError
from protocol.schema import Field, Schema
from tests.trainer.forgetful import DEALING, PAYLOAD_BYTES, forgetful, log_of, payload, publish
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, ids, serving
from trainer.batch import Batch
from trainer.ledger import FATES
from trainer.loader import StreamLoader
from trainer.position import OnLoss


def train(loader: StreamLoader, batches: int = 1 << 30) -> list[Batch]:
    taken: list[Batch] = []
    for batch in loader:
        loader.mark_trained(batch)
        taken.append(batch)
        if len(taken) == batches:
            break
    return taken


def lost(loader: StreamLoader) -> Positions:
    """By partition, as the ledger has it."""
    ledger = loader.position.ledger
    return {partition: ledger.fates(partition)["lost"] for partition in ledger.start}


def missing(came: list[int], end: int) -> Positions:
    """Records of the stream that did not come, by partition; none comes twice or out of order."""
    assert came == sorted(set(came))
    partitions = [DEALING.locate(record)[0] for record in set(range(end)) - set(came)]
    return {partition: partitions.count(partition) for partition in range(DEALING.partitions)}


def test_a_run_whose_records_are_forgotten_stops_and_names_those_of_every_partition() -> None:
    with forgetful() as publisher:
        publish(publisher, 0, 100)
        loader = StreamLoader(publisher.address, batch_size=10)
        train(loader, 1)
        state = loader.state_dict()
        publish(publisher, 100, 1000)
        start = log_of(publisher).log_start()
        resumed = StreamLoader(publisher.address, batch_size=10)
        resumed.load_state_dict(state)
        with pytest.raises(RecordsLost) as caught:
            train(resumed, 1)
    assert [each[:3] for each in caught.value.lost] == [(0, 10, start[0]), (1, 0, start[1])]
    assert f"partition 1 lost {start[1]} records: offsets 0 to {start[1] - 1}" in str(caught.value)
    assert str(caught.value).startswith(f"{sum(start.values()) - 10} records in 2 partitions: partition 0 lost ")
    resumed.check_ledger()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_trains_what_there_is_and_counts_the_rest(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with forgetful() as publisher:
        publish(publisher, 0, 100)
        loader = StreamLoader(publisher.address, batch_size=7, on_loss="continue", num_workers=workers)
        batches = iter(loader)
        taken = [next(batches)]
        loader.mark_trained(taken[0])
        publish(publisher, 100, 2000)  # the window is far smaller
        publish(publisher, 2000, 2345)
        log_of(publisher).end()
        for batch in batches:
            loader.mark_trained(batch)
            taken.append(batch)
            loader.check_ledger()
        assert loader.position.ended
        assert loader.position.trained == taken[-1].positions == DEALING.ends(2345)
        assert {batch.count for batch in taken[:-1]} == {7}
        assert lost(loader) == missing(ids(taken), 2345)
        assert min(lost(loader).values()) > 500
        assert all(count <= publisher.dropped[p] for p, count in lost(loader).items())
        assert loader.position.totals()["trained"] == sum(batch.count for batch in taken)
    said = [record.message for record in caplog.records if "going on" in record.message]
    assert all("going on behind what the log forgot before it was read: " in line for line in said)
    assert all(any(f"partition {partition} lost " in line for line in said) for partition in lost(loader))


def test_a_resumed_run_agrees_about_what_was_lost() -> None:
    with forgetful() as publisher:
        publish(publisher, 0, 100)
        loader = StreamLoader(publisher.address, batch_size=10, on_loss="continue")
        taken = train(loader, 2)
        state = loader.state_dict()
        for end in (700, 1400):
            publish(publisher, len(taken) * 10 and end - 600, end)
            loader = StreamLoader(publisher.address, batch_size=10, on_loss="continue")
            loader.load_state_dict(state)
            taken += train(loader, 2)
            loader.check_ledger()
            state = loader.state_dict()
        last = taken[-1].positions
        assert loader.position.trained == last
    assert lost(loader) == {
        partition: last[partition] - sum(each[2] for batch in taken for each in batch.spans if each[0] == partition)
        for partition in last
    }


def test_what_the_log_dropped_is_what_the_only_run_has_lost_where_nothing_was_under_way() -> None:
    with forgetful() as publisher:
        publish(publisher, 0, 100)
        loader = StreamLoader(publisher.address, batch_size=10, on_loss="continue")
        train(loader, 10)
        state = loader.state_dict()
        loader.commit(state)
        publish(publisher, 100, 1500)
        resumed = StreamLoader(publisher.address, batch_size=10, on_loss="continue")
        resumed.load_state_dict(state)
        train(resumed, 1)
        assert lost(resumed) == publisher.dropped
        assert sum(publisher.dropped.values()) > 1000


@pytest.mark.parametrize("on_loss", ["stop", "continue"])
def test_a_folder_may_have_forgotten_records_as_well(tmp_path: Path, on_loss: OnLoss) -> None:
    loader = StreamLoader(f"file://{tmp_path}", batch_size=10)
    with closing(stored(tmp_path, 0, 70)):
        pass
    train(loader, 3)
    with closing(stored(tmp_path, 70, 600)) as log:
        start, dropped = log.log_start(), log.dropped
    resumed = StreamLoader(f"file://{tmp_path}", batch_size=10, on_loss=on_loss)
    resumed.load_state_dict(loader.state_dict())
    if on_loss == "stop":
        with pytest.raises(RecordsLost) as caught:
            train(resumed)
        assert [each[:3] for each in caught.value.lost] == [(0, 30, start[0]), (1, 0, start[1])]
        return
    taken = train(resumed)
    assert resumed.position.ended
    assert lost(resumed) == missing([*range(30), *ids(taken)], 600)
    assert sum(lost(resumed).values()) == sum(dropped.values()) - 30 > 100
    resumed.check_ledger()


def stored(folder: Path, first: int, end: int) -> AppendLog:
    """A log on disk that keeps few stripes."""
    schema = Schema((Field("id", "int64"), Field("payload", "uint8", (PAYLOAD_BYTES,))))
    settings = LogSettings(path=str(folder), bytes=12 << 20, full="drop-oldest")
    log = open_log(schema, DEALING.partitions, settings, source="test")
    assert log is not None
    for number in range(first, end):
        log.append({"id": number, "payload": payload([number])[0]})
    log.flush()
    return log


# --- the producer dies, and its log with it -----------------------------------------------------------------------


class Served:
    """One address, at which a log may take another's place while somebody reads."""

    def __init__(self, log: MemoryLog) -> None:
        self._serving = serving(log)
        self.url = self._serving.__enter__()

    def replace(self, log: MemoryLog) -> None:
        self.close()
        self._serving = serving(log, url=self.url)
        self._serving.__enter__()

    def close(self) -> None:
        self._serving.__exit__(None, None, None)


def live(first: int, count: int, *, ended: bool = False, wide: bool = False) -> MemoryLog:
    """A live stream of so many numbers."""
    fields = [Field("id", "int64"), *([Field("payload", "uint8", (PAYLOAD_BYTES,))] * wide)]
    log = MemoryLog(Schema(tuple(fields)), DEALING)
    for number in range(first, first + count):
        log.append({"id": number, "payload": payload([number])[0]} if wide else {"id": number})
    if ended:
        log.end()
    return log


@pytest.fixture
def stream() -> Iterator[Served]:
    """45 numbers that fit a window, without an end."""
    served = Served(live(0, 45))
    yield served
    served.close()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_has_come_is_trained_before_a_run_goes_on_with_the_next_stream(
    stream: Served, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    loader = StreamLoader(stream.url, batch_size=10, on_loss="continue", num_workers=workers)
    former = loader.state_dict()["incarnation"]
    taken: list[Batch] = []
    for batch in loader:
        loader.mark_trained(batch)
        taken.append(batch)
        if len(taken) == 3:
            stream.replace(live(100, 33, ended=True))
    assert ids(taken) == [*range(45), *range(100, 133)]
    assert [batch.number for batch in taken] == list(range(1, len(taken) + 1))
    position = loader.position
    assert position.ended
    assert position.totals() == {**dict.fromkeys(FATES, 0), "trained": 78}
    assert position.received == 78
    (before,) = position.earlier
    assert (before.incarnation, before.ended, before.positions) == (former, False, DEALING.ends(45))
    assert f"stream {position.state_dict()['incarnation']} follows the stream {former}, which is gone" in caplog.text
    loader.check_ledger()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_was_heard_of_and_never_came_is_counted_as_lost(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    stream = Served(live(0, 2000, wide=True))  # more than what is under way and lies in slots
    loader = StreamLoader(stream.url, batch_size=10, on_loss="continue", num_workers=workers)
    taken: list[Batch] = []
    for batch in loader:
        loader.mark_trained(batch)
        taken.append(batch)
        if len(taken) == 3:
            stream.replace(live(5000, 50, ended=True, wide=True))
    stream.close()
    (before,) = loader.position.earlier
    former = [batch for batch in taken if batch["id"][0] < 5000]
    assert ids(taken[len(former) :]) == list(range(5000, 5050))
    gone = {partition: before.ledger.fates(partition)["lost"] for partition in before.positions}
    assert gone == missing(ids(former), 2000)
    assert before.positions == DEALING.ends(2000)
    before.ledger.check_positions(before.positions)
    for partition, count in gone.items():
        assert count > 50
        end = before.positions[partition]
        assert f"partition {partition} lost at least {count} records: offsets {end - count} to {end - 1}" in caplog.text
    loader.check_ledger()


@pytest.mark.parametrize("on_loss", ["stop", "continue"])
def test_a_run_that_was_away_when_its_producer_died(stream: Served, on_loss: OnLoss) -> None:
    loader = StreamLoader(stream.url, batch_size=10)
    train(loader, 2)
    state = loader.state_dict()
    stream.replace(live(100, 30, ended=True))
    resumed = StreamLoader(stream.url, batch_size=10, on_loss=on_loss)
    resumed.load_state_dict(state)
    if on_loss == "stop":
        with pytest.raises(StreamReplaced, match="partition 0 lost at least 25 records: offsets 20 to 44"):
            resumed.connect()
        return
    assert ids(train(resumed)) == list(range(100, 130))
    assert resumed.position.totals() == {**dict.fromkeys(FATES, 0), "trained": 50, "lost": 25}
    again = StreamLoader(stream.url, batch_size=10, on_loss="continue")
    again.load_state_dict(resumed.state_dict())
    again.connect()
    assert again.position.totals() == resumed.position.totals()
    assert [each.state_dict() for each in again.position.earlier] == resumed.state_dict()["earlier"]


def test_what_the_next_log_forgot_before_the_run_came_to_it_is_lost_too(stream: Served) -> None:
    loader = StreamLoader(stream.url, batch_size=10)
    train(loader, 4)
    with forgetful() as publisher:
        publish(publisher, 0, 1000)
        log_of(publisher).end()
        start = log_of(publisher).log_start()
        resumed = StreamLoader(publisher.address, batch_size=10, on_loss="continue", start="latest")
        resumed.load_state_dict(loader.state_dict())
        train(resumed)
        assert lost(resumed) == start


def test_what_is_marked_late_cannot_be_counted_over_two_streams(stream: Served) -> None:
    loader = StreamLoader(stream.url, batch_size=10, on_loss="continue")
    batches = iter(loader)
    first = next(batches)
    stream.replace(live(100, 10, ended=True))
    with pytest.raises(StreamReplaced, match="partition 0 lost at least 45 records"):
        list(batches)
    loader.mark_trained(first)
    with pytest.warns(UserWarning, match="35 records were handed out and never marked"):
        assert ids(train(loader))[-10:] == list(range(100, 110))
    loader.check_ledger()
    assert loader.position.totals()["lost"] == 35


def test_a_stream_of_other_records_is_not_gone_on_with(stream: Served) -> None:
    loader = StreamLoader(stream.url, batch_size=10, on_loss="continue")
    batches = iter(loader)
    loader.mark_trained(next(batches))
    stream.replace(live(0, 1, wide=True))
    with pytest.raises(StreamError, match="the records of the stream that follows are others: expected stream"):
        list(map(loader.mark_trained, batches))


def test_a_stream_that_the_run_has_read_before_another_is_not_trained_again() -> None:
    def life(url: str, state: dict[str, Any] | None) -> dict[str, Any]:
        loader = StreamLoader(url, batch_size=10, on_loss="continue")
        if state is not None:
            loader.load_state_dict(state)
        train(loader, 3)
        return loader.state_dict()

    with serving(computed(NumberedRecords(100, validation=0))) as first:
        state = life(first, None)
        with serving(computed(NumberedRecords(90, validation=0))) as second:
            state = life(second, state)
        with pytest.raises(StreamError, match=r"has read the stream .* already"):
            life(first, state)


def test_what_is_done_about_losses_is_one_of_two_things() -> None:
    with pytest.raises(UsageError, match="on_loss is one of stop, continue, not 'ignore'"):
        StreamLoader("ipc://nobody", batch_size=1, on_loss="ignore")  # type: ignore[arg-type]
