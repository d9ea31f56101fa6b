"""Held-out records: fetched once from the producer, or out of any map-style dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from producer.computed_log import split_log
from protocol.errors import UsageError
from protocol.open_reader import open_reader
from protocol.reader import read_split
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer.holdout import Holdout
from trainer.reading import Reading
from trainer.splits import SPLITS, batches_of, batches_of_own, fetch_splits

PICTURES = Schema((Field("id", "int64"), Field("image", "uint8", (1, 4, 4)), Field("label", "int64")), label="label")


class Given:
    """A map-style dataset of what it is given."""

    def __init__(self, *samples: Any) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Any:
        return self._samples[index]


def fetched(source: NumberedRecords, run_dir: Path) -> Holdout:
    splits = {"validation": split_log(source.splits()["validation"])}
    with serving(computed(source), splits=splits) as url, open_reader(url) as reader:
        return fetch_splits(Reading(url=url), reader.describe(timeout_s=5).info, run_dir)["validation"]


def test_a_split_is_fetched_whole_and_batched_in_order(tmp_path: Path) -> None:
    batches = list(batches_of(fetched(NumberedRecords(500, 64, validation=130), tmp_path), 50))
    assert [len(batch["id"]) for batch in batches] == [50, 50, 30]
    assert torch.cat([batch["id"] for batch in batches]).tolist() == list(range(130))
    assert batches[2]["payload"].shape == (30, 64)


def test_a_split_is_fetched_once_and_again_only_where_its_content_changed(tmp_path: Path) -> None:
    file = tmp_path / SPLITS / "validation" / "manifest.json"
    fetched(NumberedRecords(500, 64, validation=130), tmp_path)
    written = file.stat().st_mtime_ns, file.stat().st_ino
    fetched(NumberedRecords(500, 64, validation=130), tmp_path)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    assert len(fetched(NumberedRecords(500, 64, validation=131), tmp_path)) == 131


def test_tuples_of_a_dataset_of_ones_own_take_the_names_of_the_streams_fields() -> None:
    picture = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    (batch,) = batches_of_own(Given((picture, 3), (picture, 4)), PICTURES, 10)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (2, 1, 4, 4)
    assert batch["image"][1].flatten().tolist() == list(range(16))
    assert batch["label"].tolist() == [3, 4]


def test_mappings_keep_their_own_names() -> None:
    (batch,) = batches_of_own(Given({"image": torch.zeros(1, 4, 4), "label": 7}), PICTURES, 10)
    assert {name: tuple(column.shape) for name, column in batch.items()} == {"image": (1, 1, 4, 4), "label": (1,)}


def test_samples_of_another_number_of_values_are_the_users_mistake() -> None:
    with pytest.raises(UsageError, match=r"samples have 3 values, the stream's records 2 \(image, label\)"):
        next(iter(batches_of_own(Given((1, 2, 3)), PICTURES, 10)))


def test_what_is_no_map_style_dataset_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="no map-style dataset"):
        batches_of_own(iter([1]), PICTURES, 10)


def test_a_producer_that_goes_away_under_a_split_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    class Enough(Exception):
        """The wait was said."""

    def said(waited_s: float) -> None:
        assert waited_s > 0
        raise Enough

    source = NumberedRecords(500, 64, validation=130)
    with open_reader(f"ipc://{tmp_path}/stream") as reader:
        with serving(computed(source), url=f"ipc://{tmp_path}/stream", splits={"v": split_log(source)}):
            description = reader.describe("v", timeout_s=5)
        with pytest.raises(Enough):
            list(read_split(reader, "v", description, on_wait=said))
