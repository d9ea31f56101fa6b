"""Streams without an order among their partitions: each record is trained once, as it comes, whatever grows or goes."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import RecordsLost, StreamError, UsageError
from tests.protocol.topic import NOTHING, Topic
from tests.trainer.arriving import loader_of
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, ids, serving
from trainer.arrivals import Asked
from trainer.batch import Batch
from trainer.loader import StreamLoader
from trainer.position import OnLoss
from trainer.sampling import SamplingSettings

RECORDS = 400


@pytest.fixture
def topic(tmp_path: Path) -> Topic:
    folder = tmp_path / "topic"
    folder.mkdir()
    return Topic(folder, 3)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A stream that is dealt in stripes, to two partitions."""
    with serving(computed(NumberedRecords(RECORDS, validation=0), partitions=2)) as url:
        yield url


def take(batches: Iterator[Batch], loader: StreamLoader, most: int) -> list[int]:
    """The ids of so many batches at most, each marked and each leaving the ledger balanced."""
    found: list[int] = []
    for _ in range(most):
        if (batch := next(batches, None)) is None:
            break
        found += batch["id"].tolist()
        loader.mark_trained(batch)
        loader.check_ledger()
    return found


def fill(topic: Topic, drawn: random.Random, records: range, partitions: int) -> None:
    """The records in bursts, to any partition, with offsets between them that have none."""
    at = records.start
    while at < records.stop:
        end = min(at + drawn.randint(1, 12), records.stop)
        burst: list[int] = []
        for number in range(at, end):
            burst += [number] + [NOTHING] * (drawn.random() < 0.3) * drawn.randint(1, 3)
        topic.write(drawn.randrange(partitions), burst)
        at = end


def absent(topic: Topic) -> int:
    return sum(file.stat().st_size // 8 for file in topic.folder.glob("*.ids")) - len(topic.kept())


@pytest.mark.parametrize("workers", [(0,), pytest.param((0, 1, 3), marks=pytest.mark.faults)])
def test_each_record_is_trained_once_over_lives_while_the_stream_grows(
    topic: Topic, seed: int, workers: tuple[int, ...]
) -> None:
    drawn = random.Random(seed)
    partitions, found, state = 3, list[int](), None
    fill(topic, drawn, range(50), partitions)
    for written in range(50, RECORDS, 50):
        loader = loader_of(topic.folder, num_workers=drawn.choice(workers))
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        found += take(batches, loader, drawn.randint(0, 4))
        if drawn.random() < 0.5:
            topic.add(1)
            partitions += 1
        fill(topic, drawn, range(written, written + 50), partitions)
        found += take(batches, loader, drawn.randint(1, 5))
        state = loader.state_dict()
    topic.end()
    last = loader_of(topic.folder, num_workers=drawn.choice(workers))
    last.load_state_dict(state)  # type: ignore[arg-type]
    found += take(iter(last), last, RECORDS)
    assert last.position.ended
    assert Counter(found) == Counter(range(RECORDS)) == Counter(topic.kept())
    assert last.position.totals()["absent"] == absent(topic) > 0
    assert len(last.position.trained) == partitions > 3


def test_those_of_a_partition_come_in_their_order(topic: Topic) -> None:
    for partition in range(3):
        topic.write(partition, range(partition, 90, 3))
    topic.end()
    loader = loader_of(topic.folder)
    found = take(iter(loader), loader, 30)
    for partition in range(3):
        assert [each for each in found if each % 3 == partition] == list(range(partition, 90, 3))


def test_a_partition_that_is_silent_stops_no_other_and_one_that_is_busy_starves_none(topic: Topic) -> None:
    topic.write(1, range(0, 3000, 2))
    topic.write(2, [1, 3, 5])
    loader = loader_of(topic.folder)
    found = take(iter(loader), loader, 20)
    assert {1, 3, 5} <= set(found)
    assert loader.position.trained[0] == 0


@pytest.mark.slow
def test_a_worker_that_stands_still_does_not_stop_the_others(url: str) -> None:
    loader = StreamLoader(url, batch_size=5, num_workers=2, order="arrival")
    batches, end = iter(loader), loader.connect().log_end
    found = take(batches, loader, 1)
    assert loader._iteration is not None
    assert loader._iteration._batching is not None
    assert loader._iteration._batching._incoming._readers is not None
    worker = min(loader._iteration._batching._incoming._readers.workers.processes, key=lambda each: each.name)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    while all(end[partition] - at >= loader.batch_size for partition, at in loader.position.trained.items()):
        found += take(batches, loader, 1)
    assert not loader.position.ended
    os.kill(worker.pid, signal.SIGCONT)
    found += take(batches, loader, RECORDS)
    assert Counter(found) == Counter(range(RECORDS))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_in_hand_when_partitions_are_added_is_neither_lost_nor_read_again(topic: Topic, workers: int) -> None:
    topic.write(0, range(100))
    loader = loader_of(topic.folder, num_workers=workers)
    batches = iter(loader)
    unmarked = [next(batches) for _ in range(3)]
    topic.add(2)
    topic.write(4, range(100, 200))
    topic.end()
    rest = list(batches)
    loader.check_ledger()
    assert sorted(ids(unmarked + rest)) == list(range(200))
    for batch in unmarked + rest:
        loader.mark_trained(batch)
    assert loader.position.trained == {0: 100, 1: 0, 2: 0, 3: 0, 4: 100}
    assert loader.position.ended
    loader.check_ledger()


def test_a_partition_that_was_added_is_read_from_its_log_start(topic: Topic) -> None:
    topic.write(0, range(10))
    before = loader_of(topic.folder)
    take(iter(before), before, 2)
    topic.add(1)
    topic.write(3, range(10, 30))
    topic.forget(3, 5)
    topic.end()
    loader = loader_of(topic.folder)
    loader.load_state_dict(before.state_dict())
    assert take(iter(loader), loader, RECORDS) == list(range(15, 30))
    assert loader.position.totals()["lost"] == 0


def test_a_state_of_more_partitions_than_there_are_is_an_error(topic: Topic) -> None:
    state = loader_of(topic.folder).state_dict()
    (topic.folder / "0002.ids").unlink()
    loader = loader_of(topic.folder)
    loader.load_state_dict(state)
    with pytest.raises(StreamError, match="the state has positions in 3 partitions, and the stream topic has 2"):
        loader.connect()


@pytest.mark.parametrize("on_loss", ["stop", "continue"])
def test_what_is_forgotten_before_it_was_read_is_lost_by_partition_and_offset(topic: Topic, on_loss: OnLoss) -> None:
    topic.write(0, range(10))
    topic.write(1, range(10, 60))
    loader = loader_of(topic.folder, on_loss=on_loss)
    state = loader.state_dict()
    topic.forget(1, 20)
    topic.end()
    loader = loader_of(topic.folder, on_loss=on_loss)
    loader.load_state_dict(state)
    if on_loss == "stop":
        with pytest.raises(RecordsLost, match="partition 1 lost 20 records: offsets 0 to 19"):
            take(iter(loader), loader, RECORDS)
        return
    assert sorted(take(iter(loader), loader, RECORDS)) == topic.kept()
    assert loader.position.ledger.fates(1)["lost"] == loader.position.totals()["lost"] == 20


def test_a_shuffle_window_is_refused_where_there_is_no_order(topic: Topic, url: str) -> None:
    window = SamplingSettings(shuffle_window=100)
    with pytest.raises(UsageError, match=r"one is read in order of arrival: leave it out$"):
        loader_of(topic.folder, sampling=window).connect()
    with pytest.raises(UsageError, match=r"one is read in order of arrival: leave it out, or --order arrival$"):
        StreamLoader(url, batch_size=5, order="arrival", sampling=window).connect()


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="order is one of stream, arrival, not 'random'"):
        StreamLoader("tcp://127.0.0.1:5555", batch_size=5, order="random")  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [(0,), pytest.param((0, 1, 2), marks=pytest.mark.faults)])
def test_a_state_of_one_order_goes_on_in_the_other(url: str, seed: int, workers: tuple[int, ...]) -> None:
    drawn = random.Random(seed)
    found, state = list[int](), None
    orders: list[Asked] = ["arrival", "stream"]
    while len(found) < RECORDS:
        loader = StreamLoader(url, batch_size=7, num_workers=drawn.choice(workers), order=orders[len(found) % 2])
        if state is not None:
            loader.load_state_dict(state)
        found += take(iter(loader), loader, drawn.randint(1, 9))
        state = loader.state_dict()
    assert Counter(found) == Counter(range(RECORDS))


# --- held-out records -----------------------------------------------------------------------------------------------


def shown(loader: StreamLoader) -> list[int]:
    held = loader.held_out
    assert held is not None
    return [int(held[row]["id"]) for row in range(len(held))]


def test_held_out_records_are_cut_back_to_the_positions_and_the_newest_are_those_of_the_newest_events(
    topic: Topic, tmp_path: Path, seed: int
) -> None:
    drawn = random.Random(seed)
    fill(topic, drawn, range(RECORDS), 3)
    topic.end()
    sampling = SamplingSettings(holdout=0.3, holdout_records=40)

    def life() -> StreamLoader:
        return loader_of(topic.folder, sampling=sampling, held_out=tmp_path / "held")

    first = life()
    batches = iter(first)
    trained = take(batches, first, 25)
    state, seen = first.state_dict(), shown(first)
    take(batches, first, 10)  # of a life that ends here
    first.state_dict()
    second = life()
    second.load_state_dict(state)
    assert shown(second) == seen
    trained += take(iter(second), second, RECORDS)
    held = sorted(set(range(RECORDS)) - set(trained))
    assert second.position.totals()["held_out"] == len(held) == RECORDS - len(trained)
    assert shown(second) == held[-40:]
    second.commit(second.state_dict())
    third = life()
    third.load_state_dict(second.state_dict())
    assert shown(third) == held[-40:]
