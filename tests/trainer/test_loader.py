"""`StreamLoader`: every record once, in stream order, from wherever somebody says."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from producer.memory_log import MemoryLog
from producer.publisher import Publisher
from protocol.dealing import Dealing
from protocol.errors import StreamTimeout, UsageError
from protocol.log_folder import LogFolder
from protocol.open_reader import open_reader
from protocol.recording import Recording
from protocol.schema import Field, Schema
from tests.trainer.streams import computed, ids, serving
from tests.trainer.thousand import RECORDS, expected_ids, numbered, take
from trainer.loader import StreamLoader


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions, as fast as they are read."""
    with serving(computed(numbered())) as url:
        yield url


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
