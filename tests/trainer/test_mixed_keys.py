"""Keys of a mix: one folder for all streams or one for each, and what becomes of a stream that lets nobody in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.errors import AccessDenied, UsageError
from protocol.keygen import make_keys
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer.loader import StreamLoader
from trainer.loading import Loader
from trainer.mix import MixSettings, keys_of
from trainer.mixed_loader import MixedLoader
from trainer.opening import check_mix, open_loader
from trainer.settings import TrainSettings

ONE, OTHER = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"


def live(folder: Path, name: str, first: int, address: str = "tcp://127.0.0.1:*") -> Publisher:
    """Records for those who have this producer's keys; without a name for all."""
    if name:
        make_keys(folder / name, ["trainer"], "read,commit")
    publisher = Publisher(address, keys=folder / name / "producer" if name else "")
    publisher.send_columns(id=np.arange(first, first + 10))
    return publisher


def opened(publishers: list[Publisher], keys: str, run_dir: Path) -> Loader:
    """What the settings of a run make of it."""
    settings = TrainSettings(stream=",".join(each.address for each in publishers), keys=keys, batch_size=9)
    options: dict[str, Any] = {"state": None, "run_dir": run_dir, "group": "run", "on_wait": lambda _waited_s: None}
    return open_loader(settings, MixSettings(), **options)


def test_each_stream_may_have_keys_of_its_own_or_none(tmp_path: Path) -> None:
    publishers = [live(tmp_path, "one", 0), live(tmp_path, "other", 10), live(tmp_path, "", 20)]
    loader = opened(publishers, f"{tmp_path}/one/trainer,{tmp_path}/other/trainer,", tmp_path)
    for batch in loader:
        assert batch["id"].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
        loader.stop()
    with pytest.raises(AccessDenied, match=r"has another key than .*one/trainer"):
        opened(publishers[:2], f"{tmp_path}/one/trainer", tmp_path).connect()
    for each in publishers:
        each.abandon()


def test_folders_are_one_for_all_or_as_many_as_streams() -> None:
    assert keys_of("a", [ONE, OTHER]) == ["a", "a"]
    assert keys_of("a,b", [ONE, OTHER]) == ["a", "b"]
    assert keys_of("a,", [ONE, OTHER]) == ["a", ""]
    assert keys_of("a,b", [ONE]) == ["a,b"]
    with pytest.raises(UsageError, match="--keys a,b,c: give one folder for all streams, or one for each, 2 in all"):
        check_mix(TrainSettings(stream=f"{ONE},{OTHER}", keys="a,b,c"), MixSettings())


def test_a_stream_that_comes_late_and_lets_nobody_in_is_left_out_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late = live(tmp_path, "", 0)
    late.abandon()
    came: list[Publisher] = []

    def begin() -> None:
        if not came:
            came.append(live(tmp_path, "late", 0, late.address))

    source = NumberedRecords(8, size=64, validation=0)
    with serving(computed(source)) as url:
        loaders = [StreamLoader(each, batch_size=4) for each in (url, late.address)]
        loader = MixedLoader(loaders, without_after_s=0.1, on_idle=begin)
        for batch in loader:
            loader.mark_trained(batch)
        assert loader.position.totals()["trained"] == 8
        assert loader.position.streams[1].state == "left out"
    assert caplog.text.count(f"going on without the stream at {late.address}: ") == 1
    assert "asks for keys: give --keys DIR" in caplog.text
    came[0].abandon()
