"""What comes in from readers: workers that are killed or stopped are replaced, bad records named."""

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from producer.publisher import Publisher
from producer.source import ColumnSource, Indices
from protocol.chunk import Column
from protocol.errors import DataFault
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, ids, serving
from tests.trainer.thousand import RECORDS, expected_ids, numbered, take
from trainer import workers
from trainer.batch import Batch
from trainer.loader import StreamLoader


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions, as fast as they are read."""
    with serving(computed(numbered())) as url:
        yield url


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
    assert loader._iteration is not None
    assert loader._iteration._batching is not None
    readers = loader._iteration._batching._incoming._readers
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
