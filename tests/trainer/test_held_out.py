"""Held-out records: the newest that the weights have come past, the same ones for a life that goes on from there."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from producer.source import ColumnSource
from protocol.errors import UsageError
from protocol.log_folder import LogFolder
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from tests.trainer.streams import computed, serving
from trainer.loader import StreamLoader
from trainer.sampling import SamplingSettings

RECORDS = 3000
SOURCE = ColumnSource("numbers", Schema((Field("id", "int64"),)), {"id": np.arange(RECORDS)})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Records in an order of their own."""
    with serving(computed(SOURCE, partitions=3)) as url:
        yield url


def loader_of(url: str, folder: Path, *, most: int = RECORDS, window: int = 0, seed: int = 0) -> StreamLoader:
    sampling = SamplingSettings(holdout=0.3, holdout_records=most, shuffle_window=window)
    return StreamLoader(url, batch_size=50, sampling=sampling, held_out=folder, seed=seed)


def train(loader: StreamLoader, batches: int) -> list[int]:
    """So many batches more, each of them marked; their ids."""
    found: list[int] = []
    for number, batch in enumerate(loader, start=1):
        found += batch["id"].tolist()
        loader.mark_trained(batch)
        if number == batches:
            break
    return found


def shown(loader: StreamLoader) -> list[int]:
    held = loader.held_out
    assert held is not None
    return [int(held[row]["id"]) for row in range(len(held))]


@pytest.fixture(scope="module")
def all_of_them(url: str, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    loader = loader_of(url, tmp_path_factory.mktemp("whole") / "held")
    train(loader, RECORDS)
    assert loader.position.ended
    return shown(loader)


@pytest.mark.parametrize("window", [0, 400])
def test_only_those_are_shown_that_lie_before_what_was_marked(
    url: str, tmp_path: Path, all_of_them: list[int], window: int
) -> None:
    loader = loader_of(url, tmp_path / "held", window=window)
    assert shown(loader) == []
    for _ in range(4):
        train(loader, 9)
        passed = sum(loader.position.trained.values())
        assert shown(loader) == all_of_them[: loader.position.totals()["held_out"]]
        assert passed == loader.position.totals()["held_out"] + loader.position.totals()["trained"]


def test_the_newest_are_kept_and_no_more(url: str, tmp_path: Path, all_of_them: list[int]) -> None:
    loader = loader_of(url, tmp_path / "held", most=100)
    train(loader, 20)
    before = loader.position.totals()["held_out"]
    assert shown(loader) == all_of_them[before - 100 : before]
    train(loader, RECORDS)
    assert shown(loader) == all_of_them[-100:]


@pytest.mark.parametrize("window", [0, 400])
def test_a_life_that_goes_on_sees_what_its_checkpoint_saw_and_then_what_one_life_sees(
    url: str, tmp_path: Path, all_of_them: list[int], window: int
) -> None:
    first = loader_of(url, tmp_path / "held", most=120, window=window)
    train(first, 12)
    state, seen = first.state_dict(), shown(first)
    train(first, 7)  # what comes after the checkpoint is of a life that ends here
    second = loader_of(url, tmp_path / "held", most=120, window=window)
    second.load_state_dict(state)
    assert shown(second) == seen
    train(second, RECORDS)
    assert shown(second) == all_of_them[-120:]
    assert second.position.totals()["held_out"] == len(all_of_them)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_that_begins_anew_has_nothing_of_the_one_before(url: str, tmp_path: Path, seed: int) -> None:
    before = loader_of(url, tmp_path / "held")
    train(before, 20)
    before.state_dict()
    loader = loader_of(url, tmp_path / "held", seed=seed)
    assert shown(loader) == []
    found = train(loader, 5)
    held = shown(loader)
    assert len(held) == loader.position.totals()["held_out"] > 0
    assert set(held).isdisjoint(found)


def test_a_life_that_goes_back_sees_what_it_passes_again(url: str, tmp_path: Path) -> None:
    first = loader_of(url, tmp_path / "held", most=100)
    train(first, 5)
    early = first.state_dict()
    train(first, 25)
    first.commit(first.state_dict())  # what the early one saw may be gone
    second = loader_of(url, tmp_path / "held", most=100)
    second.load_state_dict(early)
    train(second, 10)
    assert len(shown(second)) == 100


def test_a_loader_that_saves_nothing_keeps_no_more_than_is_shown(url: str, tmp_path: Path) -> None:
    loader = loader_of(url, tmp_path / "held", most=100)
    for _ in range(5):
        train(loader, 8)
        shown(loader)
    loader.state_dict()
    assert loader.position.totals()["held_out"] > 800
    assert stored(tmp_path / "held") < 250  # what is shown, and what was read ahead


def test_where_there_is_no_room_on_disk_the_run_goes_on_and_a_later_checkpoint_has_them(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader = loader_of(url, tmp_path / "held")
    train(loader, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))
    try:
        loader.commit(loader.state_dict())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "held-out records could not be saved" in caplog.text
    assert stored(tmp_path / "held") == 0
    loader.state_dict()
    assert stored(tmp_path / "held") >= len(shown(loader)) > 0


def stored(folder: Path) -> int:
    """Records on disk."""
    (path,) = folder.iterdir()
    with LogFolder(path, write=False) as opened:
        return sum(chunk.count for chunk in StoredLog(opened, "").chunks())


def test_what_no_checkpoint_needs_any_more_leaves_the_disk(url: str, tmp_path: Path) -> None:
    loader = loader_of(url, tmp_path / "held", most=100)
    for _ in range(5):
        train(loader, 8)
        loader.commit(loader.state_dict())
    del loader
    assert 100 <= stored(tmp_path / "held") < 250


def test_a_holdout_without_a_folder_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="give held_out"):
        StreamLoader(url, batch_size=50, sampling=SamplingSettings(holdout=0.1))
