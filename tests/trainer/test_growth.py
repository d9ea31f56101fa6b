"""Streams that get partitions while they are read: whatever their cluster says of it, nobody else waits for that."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from protocol.errors import StreamReplaced
from tests.protocol.topic import Topic
from tests.trainer.arriving import loader_of
from trainer import asking
from trainer.loader import StreamLoader
from trainer.mixed_loader import MixedLoader
from trainer.position import OnLoss

SOME, MORE, MOST = range(20), range(20, 40), range(100, 400)


def made(folder: Path, name: str) -> Topic:
    (folder / name).mkdir()
    return Topic(folder / name, 2)


@pytest.fixture
def growing(tmp_path: Path) -> Topic:
    """It has 20 records and no end."""
    topic = made(tmp_path, "growing")
    topic.write(0, SOME)
    return topic


@pytest.fixture
def other(tmp_path: Path) -> Topic:
    """It has 300 records, and they are all."""
    topic = made(tmp_path, "other")
    topic.write(0, MOST)
    topic.end()
    return topic


def grow(topic: Topic) -> None:
    """It gets a partition with all that will still come, and nobody answers who asks what it is now."""
    topic.tell(0)
    topic.add(1)
    topic.write(2, MORE)


@pytest.mark.parametrize("order", ["arrival", "stream"])
def test_in_a_mix_the_others_go_on_while_nobody_says_where_partitions_begin(
    growing: Topic, other: Topic, order: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asking, "AWAY_AFTER_S", 0.2)
    loaders = [loader_of(each.folder, batch_size=5) for each in (growing, other)]
    mix = MixedLoader(loaders, order=order, without_after_s=0.1)  # type: ignore[arg-type]
    came: list[int] = []
    for batch in mix:
        mix.mark_trained(batch)
        mix.check_ledger()
        came += batch["id"].tolist()
        if batch.number == 2:
            grow(growing)
        if len(set(came) & set(MOST)) >= 200 and not growing.ended:
            assert not set(came) & set(MORE)
            growing.tell(None)
            growing.end()
    assert Counter(came) == Counter([*SOME, *MORE, *MOST])
    assert loaders[0].position.trained == {0: 20, 1: 0, 2: 20}
    assert mix.position.ended
    assert ("is away: going on without it" in caplog.text) == (order == "stream")


def trained(loader: StreamLoader, after_two: Callable[[], None] = lambda: None) -> list[int]:
    """The ids of an iteration; something happens after its second batch."""
    came: list[int] = []
    for number, batch in enumerate(loader, start=1):
        loader.mark_trained(batch)
        came += batch["id"].tolist()
        if number == 2:
            after_two()
    loader.check_ledger()
    return came


def test_a_stop_is_obeyed_while_nobody_says_it_and_another_iteration_goes_on_there(growing: Topic) -> None:
    loader = loader_of(growing.folder, batch_size=5)

    def grow_and_stop() -> None:
        grow(growing)
        loader.on_idle = loader.stop

    came = trained(loader, grow_and_stop)
    assert not set(came) & set(MORE)
    growing.tell(None)
    growing.end()
    came += trained(loader)
    assert Counter(came) == Counter([*SOME, *MORE])


def test_whoever_has_not_heard_of_the_partitions_is_asked_again(growing: Topic) -> None:
    loader = loader_of(growing.folder, batch_size=5)

    def grow_unheard() -> None:
        growing.tell(2)
        loader.on_idle = lambda: growing.tell(3)
        growing.add(1)
        growing.write(2, MORE)
        growing.end()

    assert Counter(trained(loader, grow_unheard)) == Counter([*SOME, *MORE])


@pytest.mark.parametrize("on_loss", ["stop", "continue"])
def test_one_that_is_another_stream_once_it_is_asked_is_treated_as_any_other(growing: Topic, on_loss: OnLoss) -> None:
    loader = loader_of(growing.folder, batch_size=5, on_loss=on_loss)

    def replace() -> None:
        growing.replace()
        growing.write(2, MORE)
        growing.end()
        growing.tell(None)

    loader.on_idle = replace
    if on_loss == "stop":
        with pytest.raises(StreamReplaced, match="expected stream growing, found stream growing-again"):
            trained(loader, partial(grow, growing))
        return
    came = trained(loader, partial(grow, growing))
    assert len(came) == len(set(came)) == 40 - loader.position.totals()["lost"]
    assert set(MORE) < set(came)
    assert [each.incarnation for each in loader.position.earlier] == ["growing"]
