"""What is held out of several streams: each one's own share, whatever dies, comes late, leaves or is followed."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from producer.publisher import Publisher
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer.holdout import Holdout
from trainer.loader import StreamLoader
from trainer.mixed_loader import MixedLoader
from trainer.sampling import SamplingSettings

NOBODY = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300 others."""
    much, little = NumberedRecords(900, size=8, validation=0), NumberedRecords(300, size=8, validation=0, first=900)
    with serving(computed(much)) as one, serving(computed(little)) as other:
        yield one, other


def loader_of(url: str, folder: Path, *, most: int = 1000, window: int = 0, **options: Any) -> StreamLoader:
    sampling = SamplingSettings(holdout=0.3, holdout_records=most, shuffle_window=window)
    return StreamLoader(url, batch_size=20, sampling=sampling, held_out=folder / "held", **options)


def mixed(urls: Sequence[str], folder: Path, **options: Any) -> MixedLoader:
    """Of a run in a folder; who is not there is not waited for."""
    return MixedLoader([loader_of(url, folder, **options) for url in urls], without_after_s=0.3)


def train(loader: MixedLoader, batches: int | None = None) -> None:
    for batch in islice(loader, batches):
        loader.mark_trained(batch)


def shown(held_out: Mapping[str, Holdout]) -> dict[str, list[int]]:
    """The ids by stream, in order."""
    return {name: [int(held[row]["id"]) for row in range(len(held))] for name, held in held_out.items()}


def alone(url: str, folder: Path, most: int = 1000) -> list[int]:
    """What is held out of a stream that is read by itself."""
    loader = loader_of(url, folder, most=most)
    for batch in loader:
        loader.mark_trained(batch)
    return shown(loader.held_out_by_stream)[url]


def test_each_stream_holds_out_what_it_would_by_itself_and_the_ledgers_add_up(
    streams: tuple[str, str], tmp_path: Path
) -> None:
    loader = mixed(streams, tmp_path)
    assert loader.holds_out
    assert shown(loader.held_out_by_stream) == {url: [] for url in streams}
    train(loader)
    found = shown(loader.held_out_by_stream)
    assert found == {url: alone(url, tmp_path / url[-5:]) for url in streams}
    loader.check_ledger()
    totals = loader.position.totals()
    assert totals["held_out"] == sum(map(len, found.values()))
    assert totals["held_out"] + totals["trained"] == 1200


@pytest.mark.parametrize("window", [0, 60])
def test_a_life_that_goes_on_sees_what_its_checkpoint_saw_and_then_what_one_life_sees(
    streams: tuple[str, str], tmp_path: Path, window: int
) -> None:
    first = mixed(streams, tmp_path, most=40, window=window)
    train(first, 5)
    state, seen = first.state_dict(), shown(first.held_out_by_stream)
    train(first, 3)  # what comes after the checkpoint is of a life that ends here
    second = mixed(streams[::-1], tmp_path, most=40, window=window)
    second.load_state_dict(state)
    assert shown(second.held_out_by_stream) == seen
    train(second)
    assert shown(second.held_out_by_stream) == {url: alone(url, tmp_path / url[-5:], most=40) for url in streams}


def test_what_a_stream_has_held_out_is_there_while_it_is_late_or_left_out_and_when_it_is_back(
    streams: tuple[str, str], tmp_path: Path
) -> None:
    first = mixed(streams, tmp_path)
    train(first, 5)
    first.commit(state := first.state_dict())
    seen = shown(first.held_out_by_stream)
    train(first, 3)
    one, other = state["streams"]
    moved = {**state, "streams": [one, {**other, "url": NOBODY}]}
    late = mixed([streams[0], NOBODY], tmp_path)
    late.load_state_dict(moved)
    assert shown(late.held_out_by_stream) == {streams[0]: seen[streams[0]], NOBODY: seen[streams[1]]}
    without = mixed(streams[:1], tmp_path)
    without.load_state_dict(state)
    train(without, 3)
    found = shown(without.held_out_by_stream)
    assert found[streams[1]] == seen[streams[1]]
    assert found[streams[0]][: len(seen[streams[0]])] == seen[streams[0]] != found[streams[0]]
    back = mixed(streams, tmp_path)
    back.load_state_dict(without.state_dict())
    assert shown(back.held_out_by_stream) == found
    train(back)
    assert shown(back.held_out_by_stream) == {url: alone(url, tmp_path / url[-5:]) for url in streams}


def test_a_run_that_is_forked_begins_with_none(streams: tuple[str, str], tmp_path: Path) -> None:
    first = mixed(streams, tmp_path)
    train(first, 5)
    fork = mixed(streams[:1], tmp_path / "fork")
    fork.load_state_dict(first.state_dict())
    assert shown(fork.held_out_by_stream) == {streams[0]: []}


def live(count: int, first: int, address: str = "tcp://127.0.0.1:*") -> Publisher:
    """A stream with these ids, in memory."""
    publisher = Publisher(address)
    publisher.send_columns(id=np.arange(first, first + count))
    return publisher


def newest(batch: Mapping[str, torch.Tensor]) -> int:
    """The highest id of the stream that is followed, or follows."""
    return int(batch["id"][batch["id"] < 3000].max())


def test_the_newest_that_was_held_out_of_a_stream_stays_when_another_follows_it(tmp_path: Path) -> None:
    steady, gone = live(1000, 3000), live(100, 1000)
    url = gone.address
    loader = mixed([steady.address, url], tmp_path, most=30, on_loss="continue")
    before, found = list[int](), list[int]()
    for batch in loader:
        loader.mark_trained(batch)
        if batch.number == 3:
            before = shown(loader.held_out_by_stream)[url]
            gone.abandon()
            gone = live(200, 2000, url)
        found = shown(loader.held_out_by_stream)[url]
        assert found[: len(before)] == before or len(found) == 30
        if newest(batch) > 2060:
            loader.stop()
    assert min(found) < 1100 < max(found)
    state = loader.state_dict()
    loader.commit(state)
    again = mixed([steady.address, url], tmp_path, most=30, on_loss="continue")
    again.load_state_dict(state)
    assert shown(again.held_out_by_stream)[url] == found
    late = mixed([steady.address], tmp_path, most=30, on_loss="continue")
    late.load_state_dict(state)
    assert shown(late.held_out_by_stream)[url] == found
    for batch in again:
        again.mark_trained(batch)
        if newest(batch) > 2150:
            again.stop()
    assert min(shown(again.held_out_by_stream)[url]) >= 2000
    gone.abandon()
    steady.abandon()


def test_of_a_stream_that_is_gone_a_life_sees_what_its_checkpoint_saw(tmp_path: Path) -> None:
    gone = live(200, 1000)
    url = gone.address
    first = loader_of(url, tmp_path)
    batches = iter(first)
    for batch in islice(batches, 3):
        first.mark_trained(batch)
    state, seen = first.state_dict(), shown(first.held_out_by_stream)
    for batch in islice(batches, 2):
        first.mark_trained(batch)
    first.state_dict()  # of a checkpoint that is lost
    assert shown(first.held_out_by_stream) != seen
    gone.abandon()
    follower = live(40, 2000, url)
    killed, second = (loader_of(url, tmp_path, on_loss="continue") for _ in range(2))
    for loader in (killed, second):
        loader.load_state_dict(state)
        assert shown(loader.held_out_by_stream) == seen
    for batch in islice(second, 1):
        second.mark_trained(batch)
    found = shown(second.held_out_by_stream)[url]
    assert found[: len(seen[url])] == seen[url]
    assert min(found[len(seen[url]) :]) >= 2000
    again = loader_of(url, tmp_path, on_loss="continue")
    again.load_state_dict(second.state_dict())
    assert shown(again.held_out_by_stream)[url] == found
    follower.abandon()
