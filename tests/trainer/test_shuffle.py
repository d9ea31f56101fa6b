"""Shuffled windows: each record once, in an order that neither workers nor kills change, and a ledger that adds up."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.errors import Lost, StreamError, UsageError
from protocol.schema import Field, Schema
from tests.trainer.forgetful import forgetful, publish
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from tests.trainer.test_labels import labelled
from trainer.audit import Account
from trainer.handed_out import HandedOutWindows
from trainer.loader import StreamLoader
from trainer.sampling import SamplingSettings
from trainer.shuffle import balanced
from trainer.trail import Passed
from trainer.windowed_trail import Ahead, Before, closed

RECORDS, WINDOW, BATCH = 1000, 150, 64


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """1,000 records in 8 partitions and stripes of 32, in the order of their ids."""
    with serving(computed(NumberedRecords(RECORDS, validation=0))) as url:
        yield url


def shuffled(url: str, *, workers: int = 0, batch: int = BATCH, window: int = WINDOW, **more: Any) -> StreamLoader:
    return StreamLoader(
        url, batch_size=batch, num_workers=workers, sampling=SamplingSettings(shuffle_window=window), seed=7, **more
    )


def trained(loader: StreamLoader, batches: int = RECORDS, *, mark_every: int = 1) -> list[int]:
    """The ids of the next batches; the ledger is checked after each."""
    found: list[int] = []
    for number, batch in enumerate(loader, start=1):
        found += batch["id"].tolist()
        if number % mark_every == 0:
            loader.mark_trained(batch)
        loader.check_ledger()
        if number == batches:
            break
    return found


@pytest.fixture(scope="module")
def plain(stream: str) -> list[int]:
    return trained(StreamLoader(stream, batch_size=BATCH))


@pytest.fixture(scope="module")
def whole(stream: str) -> list[int]:
    return trained(shuffled(stream))


def test_each_window_has_its_own_records_in_another_order(plain: list[int], whole: list[int]) -> None:
    for first in range(0, RECORDS, WINDOW):
        mine, its = whole[first : first + WINDOW], plain[first : first + WINDOW]
        assert sorted(mine) == sorted(its)
        assert mine != its


@pytest.mark.parametrize(
    ("workers", "batch"),
    [pytest.param(1, 64, marks=pytest.mark.faults), pytest.param(3, 64, marks=pytest.mark.slow), (0, 7), (0, 400)],
)
def test_neither_workers_nor_the_size_of_batches_change_the_order(
    stream: str, whole: list[int], workers: int, batch: int
) -> None:
    assert trained(shuffled(stream, workers=workers, batch=batch)) == whole


def test_another_seed_is_another_order(stream: str, whole: list[int]) -> None:
    sampling = SamplingSettings(shuffle_window=WINDOW)
    other = trained(StreamLoader(stream, batch_size=BATCH, sampling=sampling, seed=8))
    assert sorted(other) == sorted(whole)
    assert other != whole


@pytest.mark.parametrize("lives", [pytest.param(1, marks=pytest.mark.faults), pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_stops_anywhere_in_a_window_goes_on_there(
    stream: str, whole: list[int], seed: int, lives: int
) -> None:
    drawn = random.Random(seed)
    for _ in range(2):
        found: list[int] = []
        state: dict[str, Any] | None = None
        for life in range(lives + 1):
            loader = shuffled(stream, workers=drawn.choice([0, 0, 0, 1]), batch=20)
            if state is not None:
                loader.load_state_dict(state)
            found += trained(loader, drawn.randint(1, 12) if life < lives else RECORDS)
            state = loader.state_dict()
            assert loader.position.totals()["trained"] + sum(state["ahead"]["trained"].values()) == len(found)
        assert found == whole
        assert state is not None
        assert state["ended"]


def test_what_was_not_marked_comes_again(stream: str, whole: list[int]) -> None:
    loader = shuffled(stream, batch=20)
    found = trained(loader, 10, mark_every=4)  # 160 of 200 are marked: one window and a bit
    assert found == whole[:200]
    assert sum(loader.state_dict()["ahead"]["trained"].values()) == 160 - WINDOW
    with pytest.warns(UserWarning, match="40 records were handed out and never marked"):
        assert trained(loader) == whole[160:]
    assert loader.position.ended


def test_positions_stay_before_a_window_until_all_of_it_is_marked(stream: str) -> None:
    loader, dealing = shuffled(stream, batch=50), Dealing(8, 32)
    for number, batch in enumerate(loader, start=1):
        loader.mark_trained(batch)
        assert loader.position.trained == dealing.ends(min(RECORDS, number * 50 // WINDOW * WINDOW)) or number == 20
        assert batch.positions == dealing.ends((number - 1) * 50 // WINDOW * WINDOW)
    assert loader.position.trained == dealing.ends(RECORDS)


def test_batches_know_where_their_records_come_from(stream: str, plain: list[int]) -> None:
    dealing = Dealing(8, 32)
    for batch in shuffled(stream):
        found = [plain[dealing.record(partition, offset)] for partition, offset, _ in batch.spans]
        assert found == batch["id"].tolist()


def test_skipped_batches_are_counted_in_the_partitions_of_their_records(stream: str) -> None:
    loader, skipped = shuffled(stream, batch=20), Counter[int]()
    for number, batch in enumerate(loader):
        if number % 3:
            loader.mark_trained(batch)
        else:
            skipped.update(partition for partition, _, _ in batch.spans)
            loader.mark_skipped(batch)
        loader.check_ledger()
    assert {p: loader.position.ledger.fates(p)["skipped"] for p in range(8)} == dict(skipped)
    assert loader.position.totals()["trained"] == RECORDS - skipped.total()


def test_a_batch_that_was_skipped_stays_skipped_though_its_window_is_gone_on_with(stream: str) -> None:
    first = shuffled(stream, batch=20)
    for number, batch in enumerate(first, start=1):
        first.mark_skipped(batch) if number == 2 else first.mark_trained(batch)
        if number == 4:
            break
    state = first.state_dict()
    Account({"stream": state, "samples": 60}).check()
    second = shuffled(stream, batch=20)
    second.load_state_dict(state)
    for loader in (first, second):  # the same loader once more, and another life
        trained(loader)
        assert {loader.position.totals()[fate] for fate in ("trained", "skipped")} == {RECORDS - 20, 20}


def test_a_window_is_trained_when_its_last_record_has_come_and_not_only_with_the_next() -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(id=np.arange(100))
    assert sorted(trained(shuffled(publisher.address, window=100, batch=25), 4)) == list(range(100))
    publisher.abandon()


def test_the_newest_record_of_a_shuffled_batch_tells_its_age() -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    for first in (0, 40, 70):
        publisher.send_columns(id=np.arange(first, first + 30))
        time.sleep(0.01)  # events are apart
    single = StreamLoader(publisher.address, batch_size=1)
    times_ns = {int(batch["id"]): batch.newest_time_ns for _, batch in zip(range(90), single, strict=False)}
    assert len(set(times_ns.values())) >= 3
    for number, batch in enumerate(shuffled(publisher.address, window=30, batch=6), start=1):
        assert abs(batch.newest_time_ns - max(times_ns[each] for each in batch["id"].tolist())) <= 1
        if number == 15:
            break
    publisher.abandon()


def test_rejected_records_have_their_place_and_no_batch(tmp_path: Path, seed: int) -> None:
    records, dealing = 3000, Dealing(3, 256)
    bad = sorted({0, *range(500, 700), *random.Random(seed).sample(range(records), 40), records - 1})
    with serving(labelled(records, bad, dealing)) as url:
        first = shuffled(url, window=100, quarantine=tmp_path / "bad.jsonl")  # two windows have no other
        found = trained(first, 20)
        second = shuffled(url, window=100, quarantine=tmp_path / "bad.jsonl")
        second.load_state_dict(first.state_dict())
        found += trained(second)
    assert sorted(found) == sorted(set(range(records)) - set(bad))
    assert second.position.totals()["rejected"] == len(bad)


def test_a_live_stream_that_ends_in_a_window_gives_all_of_it() -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    loader = shuffled(publisher.address, window=100, batch=30)
    publisher.send_columns(id=np.arange(250))
    ending = threading.Thread(target=publisher.close)
    ending.start()
    assert sorted(trained(loader)) == list(range(250))
    ending.join()
    assert loader.position.ended


# --- balance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[], [3], [0, 1, 1, 0, 1, 2, 2, 0, 0]])
def test_of_each_class_as_many_are_taken_as_of_the_rarest(labels: list[int]) -> None:
    found = np.array(labels)[balanced(np.array(labels))] if labels else np.array([])
    counts = Counter(labels)
    assert Counter(found.tolist()) == dict.fromkeys(counts, min(counts.values(), default=0))


def in_windows(found: list[int], windows: npt.NDArray[np.int64]) -> list[list[int]]:
    """The ids that were trained of each window, in that order."""
    return [[each for each in found if each in set(window.tolist())] for window in windows]


def test_a_balanced_stream_counts_what_was_thinned_and_goes_on_the_same(seed: int) -> None:
    labels = (np.random.RandomState(seed % 2**32).rand(900) < 0.2).astype(np.int64)
    schema = Schema((Field("id", "int64"), Field("label", "int64")), label="label", label_range=(0, 1))
    source = ColumnSource("unbalanced", schema, {"id": np.arange(900), "label": labels})
    sampling = SamplingSettings(shuffle_window=100, balance=True)
    with serving(computed(source, partitions=4)) as url:
        windows = np.array(trained(StreamLoader(url, batch_size=16))).reshape(9, 100)
        whole = StreamLoader(url, batch_size=16, sampling=sampling)
        found = trained(whole)
        first = StreamLoader(url, batch_size=16, sampling=sampling)
        again = trained(first, 9)
        second = StreamLoader(url, batch_size=16, sampling=sampling)
        second.load_state_dict(first.state_dict())
        again += trained(second)
    assert again == found
    assert labels[found].mean() == 0.5
    halves = [labels[of_window[len(of_window) // 2 :]].mean() for of_window in in_windows(found, windows)]
    assert 0.35 < np.mean(halves) < 0.65, "the rare class is spread over each window"
    assert whole.position.totals()["thinned"] == 900 - len(found) == second.position.totals()["thinned"]


# --- what cannot be -----------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_the_window_that_it_had(stream: str) -> None:
    first = shuffled(stream)
    trained(first, 3)
    with pytest.raises(UsageError, match="shuffle_window was 150, is 100: give these again"):
        shuffled(stream, window=100).load_state_dict(first.state_dict())


def test_a_window_that_has_lost_records_since_it_was_begun_ends_a_run_that_may_not_go_on_behind_it() -> None:
    handed_out = HandedOutWindows(4)
    handed_out.begin(3, Ahead({0: 10, 1: 1}, {1: 1}, "as it was"))
    assert handed_out.is_begun("as it was", [Passed(0, 20)])
    with pytest.raises(StreamError, match="12 records of a shuffled window were trained, and others of it were lost"):
        handed_out.is_begun("another", [Passed(0, 19)])


def test_a_window_that_has_lost_records_is_closed_where_the_run_goes_on_and_every_record_has_one_fate() -> None:
    window = closed(
        [Passed(0, 5), Lost(1, 7, 12), Passed(0, 2, "held_out"), Passed(0, 3)], Ahead({0: 6, 1: 3}, {1: 1}, "")
    )
    first, lost, held, *rest = window.fates()
    assert [first, lost, held] == [Passed(0, 5), Lost(1, 7, 12), Passed(0, 2, "held_out")]
    assert rest == [Passed(0, 1), Passed(0, 2, "skipped"), Before(1, 3, "trained"), Before(1, 1, "skipped")]


def test_a_run_goes_on_behind_a_window_of_which_the_log_forgot_a_part() -> None:
    samples = 0

    def loader() -> StreamLoader:
        return shuffled(publisher.address, window=100, batch=10, on_loss="continue")

    with forgetful() as publisher:
        publish(publisher, 0, 200)
        first = loader()
        samples += len(trained(first, 3))
        publish(publisher, 200, 900)  # the oldest stripes are gone
        second = loader()
        second.load_state_dict(first.state_dict())
        samples += len(trained(second, 2))
        Account({"stream": second.state_dict(), "samples": samples}).check()
    totals = second.position.totals()
    assert totals["trained"] + second.position.ahead.rows == samples
    assert totals["lost"] > 0


def test_columns_belong_together(stream: str) -> None:
    for batch in shuffled(stream):
        assert batch["payload"][:, 0].tolist() == [record % 251 for record in batch["id"].tolist()]
