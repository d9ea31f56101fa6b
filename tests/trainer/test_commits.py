"""Each producer of a mix hears what a durable checkpoint has of its own stream."""

from collections.abc import Iterator

import pytest

from tests.trainer.mixing import mixed, numbered, trained
from tests.trainer.streams import computed, group, serving


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


def test_each_producer_hears_what_a_durable_checkpoint_has_of_its_stream(streams: tuple[str, str]) -> None:
    loader = mixed(streams, group="both")
    trained(loader, 2)
    state = loader.state_dict()
    trained(loader, 1)
    loader.commit(state)
    for url, records in zip(streams, (96, 32), strict=True):
        assert sum(group(url, "both").committed.values()) == records


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
