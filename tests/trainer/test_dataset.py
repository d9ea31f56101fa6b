"""`StreamDataset` in anybody's DataLoader, and the thread that reads where there are no workers."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from producer.memory_log import MemoryLog
from producer.publisher import Publisher
from protocol.dealing import Dealing
from protocol.errors import StreamTimeout, UsageError
from protocol.open_reader import open_reader
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer import dataset
from trainer.dataset import ReaderItems, StreamDataset, in_thread
from trainer.shared import ProgressBoard, Slots, SlottedChunk

RECORDS = 500


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    with serving(computed(NumberedRecords(RECORDS, validation=0), partitions=3)) as url:
        yield url


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_a_plain_dataloader_gets_every_sample_once(stream: str, workers: int) -> None:
    loader: DataLoader[dict[str, torch.Tensor]] = DataLoader(StreamDataset(stream), batch_size=64, num_workers=workers)
    batches = list(loader)
    assert sorted(record for batch in batches for record in batch["id"].tolist()) == list(range(RECORDS))
    for batch in batches:
        assert batch["payload"].shape == (len(batch["id"]), 1 << 16)
        assert batch["payload"].dtype == torch.uint8
        assert torch.equal(batch["payload"][:, 0], (batch["id"] % 251).to(torch.uint8))


def test_without_workers_samples_come_in_stream_order(stream: str) -> None:
    log = computed(NumberedRecords(RECORDS, validation=0), partitions=3)
    order = [np.asarray(log.read(*log.info.dealing.locate(g), 1).columns["id"])[0] for g in range(RECORDS)]
    assert [int(sample["id"]) for sample in StreamDataset(stream)] == order


def test_texts_have_their_own_length() -> None:
    schema = Schema((Field("text", "uint8", (None,)), Field("score", "float32", ())))
    log = MemoryLog(schema, Dealing(2, 8))
    for length in range(5):
        log.append({"text": np.full(length, length, np.uint8), "score": np.float32(length)})
    log.end()
    with serving(log) as url:
        samples = list(StreamDataset(url))
    assert [sample["text"].tolist() for sample in samples] == [[n] * n for n in range(5)]
    assert [float(sample["score"]) for sample in samples] == [0, 1, 2, 3, 4]


def test_it_may_begin_with_what_comes_next() -> None:
    with Publisher("tcp://127.0.0.1:*", partitions=2) as publisher:
        publisher.send_columns(id=np.arange(10))
        samples = iter(StreamDataset(publisher.address, start="latest"))
        sender = threading.Timer(0.3, lambda: publisher.send(id=10))
        sender.start()
        assert int(next(samples)["id"]) == 10
        sender.join()
        samples.close()  # type: ignore[attr-defined]
        publisher.abandon()


def test_what_cannot_be_meant_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="is no stream"):
        StreamDataset("http://127.0.0.1")
    with pytest.raises(UsageError, match="'earliest' or 'latest'"):
        StreamDataset("tcp://127.0.0.1:1", start="noon")


def test_a_producer_that_never_comes_is_not_waited_for_for_ever() -> None:
    with pytest.raises(StreamTimeout):
        next(iter(StreamDataset("tcp://127.0.0.1:1", connect_timeout_s=0.5)))


def test_what_the_reading_thread_raises_is_raised_where_it_is_read() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    found = in_thread(items, 4)
    assert next(found) == 1
    with pytest.raises(KeyError, match="gone"):
        next(found)


def test_the_reading_thread_runs_no_farther_ahead_than_it_may_and_ends_with_its_reader() -> None:
    made: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                made.append(len(made))
                yield made[-1]
        finally:
            closed.set()

    found = in_thread(items, 4)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.1)
    assert len(made) <= 3 + 4 + 1
    found.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not any(thread.name == "headrace-reader" for thread in threading.enumerate())


def test_a_worker_with_full_slots_leaves_when_the_loader_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    log = computed(NumberedRecords(1000, validation=0), passes=0)
    positions, info = log.log_start(), log.info
    slots = Slots(workers=1, per_worker=2, schema=info.schema, rows=info.dealing.stripe)
    monkeypatch.setattr(dataset, "get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1))
    with serving(log) as url:
        connect, board = partial(open_reader, url), ProgressBoard()
        items = iter(ReaderItems(connect, info, positions, "group", board, slots))
        slotted = 0
        while slotted < 2:
            slotted += sum(isinstance(item, SlottedChunk) for item in next(items))
        slots.close()
        assert not any(isinstance(item, SlottedChunk) for rest in items for item in rest)
