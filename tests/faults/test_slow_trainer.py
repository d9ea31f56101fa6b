"""Row 11: a slow trainer on a fast source: memory is bounded; the writer waits, or what is dropped is counted."""

import json
import os
import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import resident_bytes
from protocol.errors import RecordsLost, lost_between
from protocol.open_reader import open_reader
from tests.faults.conftest import Row
from tests.faults.flood import LOG_BYTES
from tests.trainer.counted_run import free_address
from tests.trainer.lives import Started, end, wait, wait_until
from trainer.batch import Batch
from trainer.loader import StreamLoader

#: An hour of the rate at which a producer releases by default, 2,000 a second; each has 785 bytes.
HOUR = 3600 * 2000
BATCH = 4096
#: A process has libraries and buffers besides its log; what grows with the stream would be 5.6 GB.
BESIDE = 128 << 20


def flood(folder: Path, url: str, full: str, first: int) -> Started:
    arguments = [url, full, str(first), str(HOUR), str(folder / "go")]
    return Started("tests.faults.flood", arguments, folder / "flood.log")


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_log_that_blocks_makes_a_fast_source_wait_for_a_slow_trainer(tmp_path: Path, row: Row) -> None:
    url = free_address()
    source = flood(tmp_path, url, "block", HOUR)
    loader = StreamLoader(url, batch_size=BATCH, num_workers=2)
    expected, held = 0, []
    for batch in loader:
        assert np.array_equal(batch["id"].numpy(), np.arange(expected, expected + batch.count))
        expected += batch.count
        time.sleep(0.01)
        loader.mark_trained(batch)
        if batch.number % 50 == 0:
            held.append((resident_bytes(source.pid), held_here()))
    assert wait(source) == 0
    assert expected == HOUR
    producer, trainer = np.array(held).T
    assert producer.max() < LOG_BYTES + BESIDE
    grown = trainer.max() - trainer[0]
    assert grown < BESIDE
    row(
        11,
        f"an hour's worth of records ({HOUR:,}) from a source without a pause, log of {LOG_BYTES >> 20} MiB that "
        "blocks, trainer that sleeps in each step",
        f"each once and in order; the producer held {producer.max() >> 20} MiB at most, the trainer grew by "
        f"{grown >> 20} MiB after its first batches",
    )


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_log_that_drops_counts_exactly_what_a_slow_trainer_has_missed(tmp_path: Path, row: Row) -> None:
    url, first = free_address(), 8 * BATCH
    source = flood(tmp_path, url, "drop-oldest", first)
    loader = StreamLoader(url, batch_size=BATCH, num_workers=2, idle_timeout_s=60)
    said = tmp_path / "flood.log"
    try:
        batches = iter(loader)
        next(batches)  # it falls asleep in its first step
        (tmp_path / "go").touch()
        wait_until(lambda: said.read_text().endswith("}\n"), "the flood to have passed")
        with pytest.raises(RecordsLost) as caught:
            _train_on(loader, batches)
        resumed = StreamLoader(url, batch_size=BATCH, num_workers=2)
        resumed.load_state_dict(loader.state_dict())
        with pytest.raises(RecordsLost) as resumed_caught:  # now that nothing more is dropped
            next(iter(resumed))
        dropped = {int(partition): count for partition, count in json.loads(said.read_text()).items()}
        with open_reader(url) as reader:
            start = reader.describe(timeout_s=5).log_start
        held = resident_bytes(source.pid)
    finally:
        end(source)
    assert dropped == start
    trained = loader.position.trained
    for lost in caught.value.lost:
        assert trained[lost.partition] == lost.first < lost.end <= start[lost.partition]
    assert resumed_caught.value.lost == lost_between(trained, start)
    assert held < LOG_BYTES + BESIDE
    row(
        11,
        f"the same with a log that drops the oldest, the trainer asleep while {HOUR:,} records pass",
        f"stopped with partition and offsets; {sum(dropped.values()):,} dropped by the log's count, exactly what lay "
        f"before its start and was not trained; the producer held {held >> 20} MiB",
    )


def held_here() -> int:
    """Bytes of the trainer, which is this process, and of its workers."""
    return sum(map(resident_bytes, (os.getpid(), *(each.pid for each in active_children() if each.pid))))


def _train_on(loader: StreamLoader, batches: Iterator[Batch]) -> None:
    for batch in batches:
        loader.mark_trained(batch)
