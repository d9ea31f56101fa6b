"""Whose records the next batch of a mix has, and who is waited for."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from protocol.errors import StreamError
from tests.trainer.mixing import alone, by_stream, live, mixed, numbered, trained
from tests.trainer.streams import computed, serving


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


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


def test_where_one_stream_ends_the_others_go_on_in_smaller_batches(
    streams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    batches = trained(mixed(streams, 16, 16))
    counts = [batch.count for batch in batches]
    assert counts == [32] * 18 + [28] + [16] * 37 + [4]
    assert by_stream(batches) == {stream: alone(url) for stream, url in enumerate(streams)}
    assert caplog.text.count("has ended") == 1


def test_a_producer_that_is_away_is_left_out_after_a_while_and_taken_in_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    source = computed(numbered(400), rate=4000)
    with serving(source) as there, ExitStack() as gone:
        url = gone.enter_context(serving(computed(numbered(300), rate=50)))  # it does not end before it is gone
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
