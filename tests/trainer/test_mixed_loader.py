"""`MixedLoader`: several streams in one run, each of their records once, in the proportion that was asked for."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from producer.computed_log import ComputedLog
from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.errors import StreamError, StreamTimeout, UsageError
from protocol.quarantine import read_quarantine
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedRecords
from tests.trainer.states import through_a_checkpoint
from tests.trainer.streams import computed, group, serving
from trainer.loader import StreamLoader
from trainer.mixed_batch import MixedBatch
from trainer.mixed_loader import MixedLoader
from trainer.sampling import SamplingSettings
from trainer.taps import Taps

NOBODY = "tcp://127.0.0.1:1"


def numbered(records: int, first: int = 0) -> NumberedRecords:
    return NumberedRecords(records, size=64, validation=0, first=first)


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


def mixed(streams: tuple[str, str], *sizes: int, **options: Any) -> MixedLoader:
    sizes = sizes or (48, 16)
    return MixedLoader(
        [StreamLoader(url, batch_size=size) for url, size in zip(streams, sizes, strict=True)], **options
    )


def by_stream(batches: list[MixedBatch]) -> dict[int, list[int]]:
    """The ids of each stream, in the order in which they came."""
    found: dict[int, list[int]] = {}
    for batch in batches:
        for stream, part in batch.parts:
            found.setdefault(stream, []).extend(part["id"].tolist())
    return found


def alone(url: str) -> list[int]:
    """The same of a stream that is read by itself."""
    return [record for batch in StreamLoader(url, batch_size=50) for record in batch["id"].tolist()]


def trained(loader: MixedLoader, batches: int | None = None) -> list[MixedBatch]:
    found = []
    for batch in islice(loader, batches):
        loader.mark_trained(batch)
        found.append(batch)
    return found


# --- the mix ------------------------------------------------------------------------------------------------------


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


def test_the_columns_of_a_batch_are_those_of_its_parts_one_after_the_other(streams: tuple[str, str]) -> None:
    loader = mixed(streams)
    batch = next(iter(loader))
    assert list(batch) == ["id", "payload", "label"]
    assert len(batch) == 3
    assert batch.count == 64
    for name in batch:
        assert torch.equal(batch[name], torch.cat([part.batch[name] for part in batch.parts]))
    assert batch["id"] is batch["id"]
    assert batch.newest_time_ns == max(part.batch.newest_time_ns for part in batch.parts)
    with pytest.raises(KeyError):
        batch["other"]


def test_where_one_stream_ends_the_others_go_on_in_smaller_batches(
    streams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    batches = trained(mixed(streams, 16, 16))
    counts = [batch.count for batch in batches]
    assert counts == [32] * 18 + [28] + [16] * 37 + [4]
    assert by_stream(batches) == {stream: alone(url) for stream, url in enumerate(streams)}
    assert caplog.text.count("has ended") == 1


def test_texts_of_all_streams_are_collated_together() -> None:
    schema = Schema((Field("id", "int64"), Field("text", "uint8", (None,))))
    with Publisher("tcp://127.0.0.1:*", schema=schema) as one, Publisher("tcp://127.0.0.1:*", schema=schema) as other:
        for number in range(4):
            one.send(id=number, text=np.full(number + 1, 7, np.uint8))
            other.send(id=10 + number, text=np.full(9, 8, np.uint8))
        loader = mixed((one.address, other.address), 2, 1)
        batch = next(iter(loader))
        assert batch.parts[1].batch["text"].tolist() == [[8] * 9], "a part may be looked at first"
        assert list(batch) == ["id", "text", "text.lengths"]
        assert batch["text"].tolist() == [[7] + [0] * 8, [7, 7] + [0] * 7, [8] * 9]
        assert batch["text.lengths"].tolist() == [1, 2, 9]
        one.abandon()
        other.abandon()


def test_a_stream_that_is_given_twice_or_has_other_records_is_refused(streams: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="each of them once"):
        mixed((streams[0], streams[0]))
    other_name = streams[0].replace("127.0.0.1", "localhost")
    with pytest.raises(UsageError, match="are the same stream: give each stream once"):
        mixed((streams[0], other_name)).connect()
    with Publisher("tcp://127.0.0.1:*") as other:
        other.send(x=1)
        with pytest.raises(UsageError, match=f"{streams[0]} and {other.address} have different records"):
            mixed((streams[0], other.address)).connect()
        other.abandon()


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


# --- positions ----------------------------------------------------------------------------------------------------


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


def test_a_stream_may_be_left_out_for_a_life_and_be_new_in_another(streams: tuple[str, str]) -> None:
    only = mixed(streams[:1], 48)  # type: ignore[arg-type]
    found = by_stream(trained(only, 2))
    both = mixed(streams)
    both.load_state_dict(through_a_checkpoint(only.state_dict()))
    for stream, ids in by_stream(trained(both, 3)).items():
        found.setdefault(stream, []).extend(ids)
    without = mixed(streams[1:], 16)  # type: ignore[arg-type]
    without.load_state_dict(through_a_checkpoint(both.state_dict()))
    found[1] += by_stream(trained(without, 2))[0]
    again = mixed(streams)
    again.load_state_dict(through_a_checkpoint(without.state_dict()))
    for stream, ids in by_stream(trained(again)).items():
        found[stream] += ids
    assert found == {stream: alone(url) for stream, url in enumerate(streams)}
    assert again.position.totals()["trained"] == 1200


def test_a_run_that_has_read_one_stream_goes_on_with_another_beside_it(streams: tuple[str, str]) -> None:
    single = StreamLoader(streams[0], batch_size=50)
    found = []
    for batch in islice(single, 4):
        single.mark_trained(batch)
        found += batch["id"].tolist()
    both = mixed(streams)
    state = through_a_checkpoint(single.state_dict())
    both.load_state_dict(state)
    parts = by_stream(trained(both, 1))
    both.commit(state)  # the oldest checkpoint that is kept may be from before
    assert sum(group(streams[0], single.group).committed.values()) == 200
    for stream, ids in by_stream(trained(both)).items():
        parts[stream] += ids
    assert found + parts[0] == alone(streams[0])
    assert parts[1] == alone(streams[1])


def test_a_stream_is_known_by_what_it_is_wherever_it_is_served(streams: tuple[str, str]) -> None:
    first = mixed(streams)
    found = by_stream(trained(first, 3))
    with serving(computed(numbered(900))) as elsewhere:
        second = mixed((elsewhere, streams[1]))
        second.load_state_dict(through_a_checkpoint(first.state_dict()))
        for stream, ids in by_stream(trained(second)).items():
            found[stream] += ids
    assert found == {stream: alone(url) for stream, url in enumerate(streams)}


def test_streams_that_have_changed_places_are_not_taken_for_each_other(streams: tuple[str, str]) -> None:
    first = mixed(streams)
    found = by_stream(trained(first, 3))
    state = through_a_checkpoint(first.state_dict())
    one, other = state["streams"]
    one["url"], other["url"] = other["url"], one["url"]
    second = mixed(streams)
    second.load_state_dict(state)
    for stream, ids in by_stream(trained(second)).items():
        found[stream] += ids
    assert found == {stream: alone(url) for stream, url in enumerate(streams)}


@pytest.mark.parametrize("batches", [3, None], ids=["in its middle", "ended"])
def test_a_stream_that_was_read_alone_is_not_taken_for_one_that_is_given_before_it(batches: int | None) -> None:
    with serving(computed(numbered(300))) as url, serving(computed(numbered(300, first=1000))) as new:
        single = StreamLoader(url, batch_size=30)
        came = []
        for batch in islice(single, batches):
            single.mark_trained(batch)
            came += batch["id"].tolist()
        both = mixed((new, url), 30, 30)
        both.load_state_dict(through_a_checkpoint(single.state_dict()))
        came += [record for batch in trained(both) for record in batch["id"].tolist()]
        both.check_ledger()
        assert sorted(came) == [*range(300), *range(1000, 1300)]


def test_a_stream_that_has_moved_is_waited_for_before_another_takes_its_place() -> None:
    with serving(computed(numbered(300, first=1000))) as other:
        with serving(computed(numbered(300))) as url:
            first = mixed((url, other), 30, 30)
            came = [record for batch in trained(first, 4) for record in batch["id"].tolist()]
            state = through_a_checkpoint(first.state_dict())
            del first
        with ExitStack() as later, serving(computed(numbered(300, first=2000)), url=url):
            moved = live(1)
            moved.abandon()

            def move(_waited_s: float) -> None:
                later.enter_context(serving(computed(numbered(300)), url=moved.address))

            loaders = [StreamLoader(each, batch_size=30, on_loss="continue") for each in (url, other, moved.address)]
            second = MixedLoader(loaders, on_wait=move)
            second.load_state_dict(state)
            came += [record for batch in trained(second) for record in batch["id"].tolist()]
        second.check_ledger()
        assert second.position.totals()["lost"] == 0
        assert sorted(came) == [*range(300), *range(1000, 1300), *range(2000, 2300)]


def test_a_stream_that_another_has_followed_is_not_read_again() -> None:
    with serving(computed(numbered(60))) as url:
        single = StreamLoader(url, batch_size=30)
        for batch in single:
            single.mark_trained(batch)
        state = through_a_checkpoint(single.state_dict())
    with serving(computed(numbered(60, first=1000)), url=url), serving(computed(numbered(60))) as elsewhere:
        follows = StreamLoader(url, batch_size=30)
        follows.load_state_dict(state)
        follows.mark_trained(next(iter(follows)))
        both = mixed((url, elsewhere), 30, 30)
        both.load_state_dict(through_a_checkpoint(follows.state_dict()))
        with pytest.raises(UsageError, match=f"at {elsewhere} was read in this run before another one followed it"):
            both.connect()


def test_a_run_that_is_forked_has_a_group_of_its_own_at_every_producer(streams: tuple[str, str]) -> None:
    first = mixed(streams, group="first")
    trained(first, 3)
    second = mixed(streams)
    second.load_state_dict({**first.state_dict(), "group": "second"})
    trained(second, 1)
    second.commit(second.state_dict())
    for url, records in zip(streams, (4 * 48, 4 * 16), strict=True):
        assert sum(group(url, "second").committed.values()) == records
        assert sum(group(url, "first").committed.values()) == 0


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


def test_each_producer_hears_what_a_durable_checkpoint_has_of_its_stream(streams: tuple[str, str]) -> None:
    loader = mixed(streams, group="both")
    trained(loader, 2)
    state = loader.state_dict()
    trained(loader, 1)
    loader.commit(state)
    for url, records in zip(streams, (96, 32), strict=True):
        assert sum(group(url, "both").committed.values()) == records


# --- who is waited for --------------------------------------------------------------------------------------------


def live(records: int, first: int = 0) -> Publisher:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(id=np.arange(first, first + records))
    return publisher


def test_in_the_streams_order_a_silent_stream_is_waited_for_and_a_stop_is_obeyed_meanwhile() -> None:
    one, other = live(100), live(10)
    loader = mixed((one.address, other.address), 4, 4)
    loader.on_idle = loader.stop
    assert [batch.count for batch in trained(loader)] == [8, 8]
    assert loader.in_hand()["unmarked"] == 0
    assert "records of" in loader.awaited
    assert other.address in loader.awaited
    loader.check_ledger()
    one.abandon()
    other.abandon()


def test_in_arrival_order_a_silent_stream_stops_nobody() -> None:
    one, other = live(400), live(20)
    loader = mixed((one.address, other.address), 4, 4, order="arrival")
    loader.on_idle = loader.stop
    batches = trained(loader)
    assert all(len(batch.parts) == 1 for batch in batches)
    assert {stream: sorted(ids) for stream, ids in by_stream(batches).items()} == {
        0: list(range(400)),
        1: list(range(20)),
    }
    one.abandon()
    other.abandon()


def test_in_arrival_order_streams_that_have_something_take_turns(streams: tuple[str, str]) -> None:
    bell = threading.Event()
    loaders = [StreamLoader(url, batch_size=4) for url in streams]
    with closing(Taps(loaders, bell)) as taps:
        taps.open(0)
        taps.open(1)
        turns = []
        for _ in range(10):
            while taps.waited_for:
                bell.clear()
                taps.poll()
                assert not taps.waited_for or bell.wait(10)
            turns += [part.stream for part in taps.take(taps.next_turn())]
    assert turns == [0, 1] * 5


def test_a_stream_that_comes_late_is_taken_in_and_a_checkpoint_is_asked_for(
    streams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = live(100)
    late: list[Publisher] = []
    address = live(1)
    url = address.address
    address.abandon()

    def begin() -> None:
        if not late:
            late.append(Publisher(url))
            late[0].send_columns(id=np.arange(1000, 1008))
        one.send_columns(id=np.arange(4))

    loader = mixed((one.address, url), 4, 4, without_after_s=0.1, on_idle=begin)
    batches = []
    for batch in loader:
        loader.mark_trained(batch)
        batches.append(batch)
        if len(batch.parts) == 2:
            break
        if len(batches) == 25:
            assert not loader.position.save_soon
    assert "no producer at" in caplog.text
    assert [batch.count for batch in batches[:25]] == [4] * 25
    assert loader.position.save_soon
    one.abandon()
    for each in late:
        each.abandon()


def test_a_stream_that_comes_late_and_does_not_fit_is_left_out_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = live(1)
    late.abandon()
    unfit: list[Publisher] = []

    def begin() -> None:
        if not unfit:
            unfit.append(Publisher(late.address))
            unfit[0].send(x=1)

    with serving(computed(numbered(8))) as url:
        loader = mixed((url, late.address), 4, 4, without_after_s=0.1, on_idle=begin)
        assert [batch.count for batch in trained(loader)] == [4, 4]
        loader.check_ledger()
    assert caplog.text.count(f"going on without the stream at {late.address}: ") == 1
    assert "have different records" in caplog.text
    unfit[0].abandon()


def test_a_producer_that_is_away_is_left_out_after_a_while_and_taken_in_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    source = computed(numbered(400), rate=4000)
    with serving(source) as there, ExitStack() as gone:
        url = gone.enter_context(serving(computed(numbered(300), rate=4000)))
        loader = mixed((there, url), 4, 4, without_after_s=1)
        sizes, states = [], []
        for batch in loader:
            loader.mark_trained(batch)
            sizes.append(len(batch.parts))
            if len(sizes) == 3:
                gone.close()
            if sizes[-2:] == [2, 1]:
                states.append(loader.position.state)
                gone.enter_context(serving(computed(numbered(300)), url=url))
    assert sizes[:3] == [2] * 3
    assert states[0].startswith(f"streaming, {url} away ")
    assert f"the producer at {url} is away: going on without it, in smaller batches" in caplog.text
    assert f"the producer at {url} is back: its records are in the batches again" in caplog.text
    assert loader.position.totals()["trained"] == 700
    assert loader.position.ended
    loader.check_ledger()


def test_who_asks_for_it_keeps_the_mix_whatever_that_takes() -> None:
    with serving(computed(numbered(900), rate=6000)) as there, ExitStack() as gone:
        url = gone.enter_context(serving(computed(numbered(300), rate=2000)))
        loader = mixed((there, url), on_away="wait", without_after_s=0)

        def begin_again() -> None:
            loader.on_idle = None
            gone.enter_context(serving(computed(numbered(300)), url=url))

        batches = []
        for batch in loader:
            loader.mark_trained(batch)
            batches.append(batch)
            if batch.number == 3:
                gone.close()
                loader.on_idle = begin_again
        assert [[part.batch.count for part in batch.parts] for batch in batches] == [[48, 16]] * 18 + [[36, 12]]
        assert by_stream(batches) == {0: alone(there), 1: alone(url)}


@pytest.mark.faults
@pytest.mark.parametrize("order", ["stream", "arrival"])
@pytest.mark.parametrize("gone", ["one", "both"])
def test_who_asks_for_it_stops_where_a_producer_is_away(order: Any, gone: str) -> None:
    one, other = live(100), live(10)
    loader = mixed((one.address, other.address), 4, 4, on_away="stop", without_after_s=1, order=order)
    trained(loader, 1)
    other.abandon()
    if gone == "both":
        one.abandon()
    with pytest.raises(StreamError, match=r"the producer at .* has been away for"):
        trained(loader)
    if gone == "one":
        one.abandon()
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


def test_streams_none_of_which_is_there_are_waited_for_as_long_as_one_is() -> None:
    loader = mixed((NOBODY, "tcp://127.0.0.1:2"), 1, 1, connect_timeout_s=0.3)
    with pytest.raises(StreamTimeout, match=r"no producer answered at tcp://127.0.0.1:1 and tcp://127.0.0.1:2"):
        loader.connect()


def test_who_asks_for_it_is_told_that_a_stream_is_not_there(streams: tuple[str, str]) -> None:
    with pytest.raises(StreamTimeout, match=NOBODY):
        mixed((streams[0], NOBODY), 4, 4, on_away="stop", without_after_s=0.2).connect()
    with pytest.raises(StreamTimeout, match=NOBODY):
        mixed((streams[0], NOBODY), 4, 4, on_away="wait", connect_timeout_s=0.5).connect()


def test_a_stream_that_is_not_there_costs_no_run_that_can_begin_without_it_its_time_out(
    streams: tuple[str, str],
) -> None:
    loader = mixed((streams[0], NOBODY), 4, 4, connect_timeout_s=1.0, without_after_s=1.2)
    loader.connect()
    assert [each.url for each in loader.present] == [streams[0]]
