"""Which of a mix's streams are there: each is known by what it is, and those that come late are taken in or said."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.chunk import Columns
from protocol.errors import StreamReplaced, StreamTimeout, UsageError
from protocol.keygen import make_keys
from protocol.schema import Schema
from tests.trainer.mixing import NOBODY, alone, by_stream, live, mixed, numbered, trained
from tests.trainer.states import through_a_checkpoint
from tests.trainer.streams import computed, group, serving
from trainer.loader import StreamLoader
from trainer.mixed_batch import MixedBatch
from trainer.mixed_loader import MixedLoader


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


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


# --- who is not there ---------------------------------------------------------------------------------------------


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


# --- who comes late -----------------------------------------------------------------------------------------------


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


class Unfit:
    """A stream whose records have no id. It begins when it is first called."""

    def __init__(self) -> None:
        gone = live(1)
        gone.abandon()
        self.address = gone.address
        self._publisher: Publisher | None = None

    def __call__(self) -> None:
        if self._publisher is None:
            self._publisher = Publisher(self.address)
            self._publisher.send(x=1)

    def abandon(self) -> None:
        if self._publisher is not None:
            self._publisher.abandon()


@pytest.fixture
def unfit() -> Iterator[Unfit]:
    stream = Unfit()
    yield stream
    stream.abandon()


def test_a_stream_that_comes_late_and_does_not_fit_is_left_out_and_stops_nobody(
    unfit: Unfit, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(computed(numbered(8))) as url:
        loader = mixed((url, unfit.address), 4, 4, without_after_s=0.1, on_idle=unfit)
        assert [batch.count for batch in trained(loader)] == [4, 4]
        loader.check_ledger()
    assert caplog.text.count(f"going on without the stream at {unfit.address}: ") == 1
    assert "have different records" in caplog.text


class Numbers:
    """A decoder for records that have an id."""

    def schema(self, schema: Schema) -> Schema:
        if all(field.name != "id" for field in schema.fields):
            raise ValueError("there is no id")
        return schema

    def __call__(self, columns: Columns) -> Columns:
        return columns


def test_one_that_comes_late_and_cannot_be_decoded_is_left_out_as_well(
    unfit: Unfit, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(computed(numbered(8))) as url:
        loaders = [StreamLoader(each, batch_size=4, decode=[Numbers()]) for each in (url, unfit.address)]
        assert len(trained(MixedLoader(loaders, without_after_s=0.1, on_idle=unfit))) == 2
    assert f"going on without the stream at {unfit.address}: " in caplog.text
    assert "does not go with these records: there is no id" in caplog.text


@pytest.mark.parametrize("late", ["denied", "another"])
def test_one_that_comes_late_is_left_out_if_it_lets_nobody_in_and_ends_all_if_it_is_another_and_each_record_comes_once(
    late: str, tmp_path: Path
) -> None:
    gone = live(1)
    gone.abandon()
    make_keys(tmp_path, ["trainer"], "read,commit")
    with serving(computed(numbered(400))) as url, ExitStack() as there:
        url_of_late = there.enter_context(serving(computed(numbered(100, first=1000)), url=gone.address))
        first = mixed((url, url_of_late), 4, 4)
        came = [record for batch in trained(first, 5) for record in batch["id"].tolist()]
        there.pop_all().close()
        second = mixed((url, url_of_late), 4, 4, without_after_s=0.1)
        second.load_state_dict(through_a_checkpoint(first.state_dict()))

        def come(batch: MixedBatch) -> None:
            second.mark_trained(batch)
            came.extend(batch["id"].tolist())
            if batch.number != 10:
                return
            if late == "denied":
                there.enter_context(closing(Publisher(url_of_late, keys=tmp_path / "producer", drain_timeout_s=0)))
            else:
                there.enter_context(serving(computed(numbered(100)), url=url_of_late))

        with pytest.raises(StreamReplaced) if late == "another" else nullcontext():
            list(map(come, second))
        second.check_ledger()
        assert second.in_hand() == {"buffered": 0, "unmarked": 0}
        state = through_a_checkpoint(second.state_dict())
        there.pop_all().close()
        with serving(computed(numbered(100, first=1000)), url=url_of_late):
            third = mixed((url, url_of_late), 4, 4)
            third.load_state_dict(state)
            came += [record for batch in trained(third) for record in batch["id"].tolist()]
            third.check_ledger()
    assert sorted(came) == [*range(400), *range(1000, 1100)]
