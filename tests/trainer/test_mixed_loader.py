"""`MixedLoader`: several streams in one run, each of their records once, in the proportion that was asked for."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from producer.computed_log import ComputedLog
from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.errors import StreamError, UsageError
from protocol.quarantine import read_quarantine
from protocol.schema import Field, Schema
from tests.trainer.mixing import alone, by_stream, live, mixed, numbered, trained
from tests.trainer.states import through_a_checkpoint
from tests.trainer.streams import computed, serving
from trainer.loader import StreamLoader
from trainer.mixed_loader import MixedLoader
from trainer.sampling import SamplingSettings


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


def test_each_batch_has_its_share_of_each_stream_and_each_record_comes_once_in_its_streams_order(
    streams: tuple[str, str],
) -> None:
    loader = mixed(streams)
    batches = trained(loader)
    assert [[part.batch.count for part in batch.parts] for batch in batches] == [[48, 16]] * 18 + [[36, 12]]
    assert by_stream(batches) == {stream: alone(url) for stream, url in enumerate(streams)}
    assert [batch.number for batch in batches] == list(range(1, 20))
    loader.check_ledger()
    assert loader.position.ended
    assert loader.position.totals()["trained"] == 1200


def test_records_that_cannot_be_trained_on_are_kept_with_the_url_of_their_stream(tmp_path: Path) -> None:
    schema = Schema((Field("id", "int64"), Field("label", "int64")), label="label", label_range=(0, 1))

    def labelled(first: int) -> ComputedLog:
        source = ColumnSource("labelled", schema, {"id": np.arange(first, first + 2), "label": np.array([1, 9])})
        return ComputedLog(source, Dealing(1, 2), passes=1, shuffle=False)

    with serving(labelled(0)) as one, serving(labelled(10)) as other:
        aside = tmp_path / "bad.jsonl"
        loader = MixedLoader([StreamLoader(url, batch_size=1, quarantine=aside) for url in (one, other)])
        assert by_stream(trained(loader)) == {0: [0], 1: [10]}
        kept = [(each["stream"], each["partition"], each["offset"]) for each in read_quarantine(aside)]
        assert sorted(kept) == sorted([(one, 0, 1), (other, 0, 1)])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_resumed_mix_goes_on_with_the_same_batches_in_whatever_order_the_streams_are_given(
    streams: tuple[str, str], order: tuple[int, int]
) -> None:
    whole = [batch["id"] for batch in trained(mixed(streams, 24, 24))]
    first = mixed(streams, 24, 24)
    begun = trained(first, 5)
    state = through_a_checkpoint(first.state_dict())
    second = mixed((streams[order[0]], streams[order[1]]), 24, 24)
    second.load_state_dict(state)
    rest = trained(second)
    assert [batch.number for batch in (*begun, *rest)] == list(range(1, len(whole) + 1))
    if order == (0, 1):
        assert all(map(torch.equal, whole, [batch["id"] for batch in (*begun, *rest)]))
    assert [sorted(batch["id"].tolist()) for batch in (*begun, *rest)] == [sorted(ids.tolist()) for ids in whole]
    second.check_ledger()
    assert second.position.totals()["trained"] == 1200


def test_windows_of_each_stream_are_shuffled_and_gone_on_with_where_they_were(streams: tuple[str, str]) -> None:
    def begin() -> MixedLoader:
        sampling = SamplingSettings(shuffle_window=100)
        sizes = zip(streams, (48, 16), strict=True)
        return MixedLoader([StreamLoader(url, batch_size=size, sampling=sampling) for url, size in sizes])

    whole = by_stream(trained(begin()))
    first = begin()
    found = by_stream(trained(first, 5))
    second = begin()
    second.load_state_dict(through_a_checkpoint(first.state_dict()))
    for stream, ids in by_stream(trained(second)).items():
        found[stream] += ids
    second.check_ledger()
    assert found == whole
    assert {stream: sorted(ids) for stream, ids in whole.items()} == {0: list(range(900)), 1: list(range(300))}


def test_marks_are_cumulative_and_what_was_not_marked_comes_again(streams: tuple[str, str]) -> None:
    loader = mixed(streams)
    batches = list(islice(loader, 4))
    loader.mark_trained(batches[2])
    assert loader.position.batches == 3
    assert loader.in_hand()["unmarked"] == 64
    with pytest.warns(UserWarning, match="never marked"):
        again = next(iter(loader))
    assert torch.equal(again["id"], batches[3]["id"])
    with pytest.raises(UsageError, match="takes the batch that the loader gave"):
        loader.mark_trained(again.parts[0].batch)


def test_a_loader_whose_streams_have_ended_may_be_asked_again_though_a_producer_has_left() -> None:
    with ExitStack() as there:
        urls = [there.enter_context(serving(computed(numbered(records)))) for records in (100, 20)]
        loader = mixed((urls[0], urls[1]), 10, 10)
        trained(loader, 4)
        assert loader.streams[1].position.ended
        there.pop_all().close()
        with serving(computed(numbered(100)), url=urls[0]):
            assert len(trained(loader)) == 6
        assert trained(loader) == []


def test_a_stream_that_follows_is_none_that_the_run_reads_already(streams: tuple[str, str]) -> None:
    with ExitStack() as gone:
        url = gone.enter_context(serving(computed(numbered(500), rate=1000)))
        loader = MixedLoader([StreamLoader(each, batch_size=4, on_loss="continue") for each in (streams[0], url)])
        batches = iter(loader)
        loader.mark_trained(next(batches))
        gone.pop_all().close()
        with (
            serving(computed(numbered(900)), url=url),
            pytest.raises(StreamError, match="serves a stream now that this run reads already"),
        ):
            list(map(loader.mark_trained, batches))


def test_a_batch_that_is_skipped_is_skipped_of_each_stream(streams: tuple[str, str]) -> None:
    loader = mixed(streams)
    for batch in islice(loader, 3):
        if batch.number == 2:
            loader.mark_skipped(batch)
        else:
            loader.mark_trained(batch)
    totals = loader.position.totals()
    assert (totals["trained"], totals["skipped"]) == (128, 64)
    loader.check_ledger()


def test_where_another_stream_takes_the_place_of_one_what_was_lost_is_counted_and_the_rest_comes_once() -> None:
    one, gone = live(200), live(40, first=1000)
    url = gone.address
    loader = MixedLoader([StreamLoader(one.address, batch_size=5), StreamLoader(url, batch_size=5, on_loss="continue")])
    came: list[int] = []
    for batch in loader:
        loader.mark_trained(batch)
        loader.check_ledger()
        came += batch["id"].tolist()
        if batch.number == 3:
            gone.abandon()
            gone = Publisher(url)
            gone.send_columns(id=np.arange(2000, 2040))
        if 2039 in came:
            loader.stop()
    totals = loader.position.totals()
    gone.abandon()
    one.abandon()
    assert len(came) == len(set(came)) == totals["trained"]
    old = sum(1000 <= record < 1040 for record in came)
    assert old + totals["lost"] == 40
    assert set(range(2000, 2040)) <= set(came)
    assert [record for record in came if record < 1000] == list(range(len(came) - old - 40))
