"""Any map-style dataset is a source: torchvision's, a folder of pictures, somebody's own class."""

import shutil
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from producer.computed_log import ComputedLog
from producer.dataset_source import DatasetSource, source_from
from producer.source import ColumnSource, Source
from protocol.chunk import Column, Ragged
from protocol.dealing import Dealing
from protocol.errors import DataFault, UsageError
from protocol.schema import Field, Schema


class Records:
    """A dataset of somebody's own: a list of records, with whatever else it has."""

    def __init__(self, records: Sequence[Any], **attributes: Any) -> None:
        self.records = list(records)
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return self.records[index]


def ids(columns: Mapping[str, Column]) -> list[int]:
    column = columns["id"]
    assert isinstance(column, np.ndarray)
    return list(column.tolist())


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures of 6 × 5 in three classes."""
    for number in range(9):
        at = tmp_path / "pictures" / ("ant", "bee", "cat")[number % 3]
        at.mkdir(parents=True, exist_ok=True)
        picture(number).save(at / f"{number}.png")
    return tmp_path / "pictures"


def test_a_folder_of_pictures_is_a_source(folder: Path) -> None:
    source = source_from(ImageFolder(str(folder)))
    assert source.schema == Schema(
        (Field("id", "int64"), Field("image", "uint8", (3, 5, 6)), Field("label", "int64")),
        label="label",
        class_names=("ant", "bee", "cat"),
        label_range=(0, 2),
    )
    taken = source.take(np.array([8, 0]))
    assert isinstance(taken["image"], np.ndarray)
    assert np.array_equal(taken["image"][0], np.asarray(picture(8)).transpose(2, 0, 1))
    assert np.array_equal(taken["image"][1], np.asarray(picture(0)).transpose(2, 0, 1))
    assert isinstance(taken["label"], np.ndarray)
    assert taken["label"].tolist() == [2, 0]
    assert ids(taken) == [8, 0]


def test_its_stream_is_the_same_wherever_the_folder_lies(folder: Path, tmp_path: Path) -> None:
    def incarnation(at: Path, **transforms: Callable[[Any], Any]) -> str:
        return ComputedLog(source_from(ImageFolder(str(at), **transforms)), Dealing(2, 4)).info.incarnation

    here = incarnation(folder)
    shutil.copytree(folder, tmp_path / "moved")
    assert incarnation(tmp_path / "moved") == here
    assert incarnation(folder, transform=v2.Grayscale()) != here
    picture(99).save(folder / "bee" / "4.png")
    assert incarnation(folder) != here


def test_torchvisions_generated_pictures_go_through_a_transform() -> None:
    to_tensor = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    source = source_from(FakeData(size=30, image_size=(3, 8, 8), num_classes=4, transform=to_tensor))
    assert source.schema.fields == (
        Field("id", "int64"),
        Field("image", "float32", (3, 8, 8)),
        Field("label", "int64"),
    )
    assert source.schema.label == "label"
    assert source.schema.label_range is None
    log = ComputedLog(source, Dealing(2, 4), passes=1)
    seen = [n for p, end in log.log_end().items() for at in range(0, end, 4) for n in ids(log.read(p, at, 4).columns)]
    assert sorted(seen) == list(range(30))


Point = namedtuple("Point", ["height", "width"])  # noqa: PYI024  (what people's datasets use)


@pytest.mark.parametrize(
    ("record", "names", "label"),
    [
        ((np.zeros((2, 2)), 1), ["id", "image", "label"], "label"),
        ((np.zeros((2, 2)), np.zeros(4)), ["id", "image", "target"], None),
        ((np.zeros(3), 1), ["id", "x", "y"], "y"),
        ([0.5, 0.25], ["id", "x", "y"], None),
        ((np.zeros(3), 1, 2, 3), ["id", "x", "y", "value2", "value3"], "y"),
        ({"text": "a", "label": 1}, ["id", "text", "label"], "label"),
        ({"label": 1, "id": 7}, ["label", "id"], "label"),
        (Point(1, 2), ["id", "height", "width"], None),
        (np.zeros((2, 2)), ["id", "image"], None),
        (3, ["id", "x"], None),
        (torch.zeros(2), ["id", "x"], None),
    ],
)
def test_fields_are_named_after_what_a_record_shows(record: object, names: list[str], label: str | None) -> None:
    schema = DatasetSource(Records([record])).schema
    assert [field.name for field in schema.fields] == names
    assert schema.label == label


def test_the_label_range_is_that_of_the_labels_where_there_are_no_names() -> None:
    pairs = [(np.zeros((2, 2)), label) for label in (3, 5, 4)]
    assert DatasetSource(Records(pairs, targets=[3, 5, 4])).schema.label_range == (3, 5)
    assert DatasetSource(Records(pairs, labels=torch.tensor([3, 5, 4]))).schema.label_range == (3, 5)
    assert DatasetSource(Records(pairs, targets=[[3], [5], [4]])).schema.label_range is None
    assert DatasetSource(Records(pairs, targets=[3, 5])).schema.label_range is None
    changed = Records(pairs, targets=[0, 1, 2], classes=["a", "b", "c"], target_transform=lambda label: label + 3)
    assert DatasetSource(changed).schema.label_range is None
    assert DatasetSource(changed).schema.class_names == ()


def test_classes_with_synonyms_have_one_name() -> None:
    source = DatasetSource(Records([(np.zeros((2, 2)), 0)], classes=[("tench", "Tinca tinca"), "shark"]))
    assert source.schema.class_names == ("tench, Tinca tinca", "shark")
    assert source.schema.label_range == (0, 1)


def test_text_is_ragged() -> None:
    column = DatasetSource(Records([{"text": "ab"}, {"text": ""}, {"text": "cde"}])).take(np.array([2, 1, 0]))["text"]
    assert isinstance(column, Ragged)
    assert column.lengths.tolist() == [3, 0, 2]
    assert column.values.tobytes() == b"cdeab"


def test_a_declared_schema_makes_tokens_ragged() -> None:
    schema = Schema((Field("id", "int64"), Field("tokens", "int32", (None,))))
    tokens = [{"tokens": np.arange(n, dtype=np.int32)} for n in (0, 3, 1)]
    column = DatasetSource(Records(tokens), schema=schema).take(np.arange(3))["tokens"]
    assert isinstance(column, Ragged)
    assert column.values.tolist() == [0, 1, 2, 0]


def test_a_dataset_declares_its_schema_by_an_attribute_and_is_held_to_it() -> None:
    tokens, label = Field("tokens", "int32", (None,)), Field("y", "int64")
    declared = Schema((tokens, label), "y", ("no", "yes"), (0, 1))
    source = source_from(Records([{"tokens": [], "y": 1}, {"tokens": [1, 2], "y": 2}], schema=declared))
    assert source.schema == Schema((Field("id", "int64"), tokens, label), "y", ("no", "yes"), (0, 1))
    assert len(source.take(np.array([0]))["tokens"]) == 1
    with pytest.raises(DataFault, match="record 1 of Records: field 'y': label 2 is out of range, 0 to 1 is due"):
        source.take(np.arange(2))
    assert source_from(Records([{"n": 1}], schema="a string")).schema["n"].dtype == "int64"


def test_no_records_are_taken_as_no_rows() -> None:
    taken = DatasetSource(Records([{"a": np.zeros((2, 3)), "text": "a"}])).take(np.array([], np.int64))
    assert taken["a"].shape == (0, 2, 3)  # type: ignore[union-attr]
    assert len(taken["text"]) == 0


def test_a_record_that_is_not_like_the_first_is_named_by_its_index() -> None:
    source = DatasetSource(Records([(picture(n, (6, 5 + n // 7)), 0) for n in range(10)], classes=["a"]))
    source.take(np.arange(7))
    with pytest.raises(DataFault, match=r"record 7 of Records: field 'image': uint8 \(3, 6, 6\) where .*\(3, 5, 6\)"):
        source.take(np.arange(10))
    with pytest.raises(UsageError, match=r"record 7 of Records.*transform that makes all records alike"):
        source.fingerprint()


def test_a_label_out_of_range_is_named_by_its_index() -> None:
    source = DatasetSource(Records([(np.zeros((2, 2)), n) for n in range(3)], classes=["a", "b"]))
    with pytest.raises(DataFault, match="record 2 of Records: field 'label': label 2 is out of range, 0 to 1"):
        source.take(np.arange(3))


def test_a_record_that_cannot_be_read_says_why() -> None:
    class Broken(Records):
        def __getitem__(self, index: int) -> Any:
            if index == 2:
                raise OSError("no such picture")
            return super().__getitem__(index)

    source = DatasetSource(Broken([1, 2, 3]))
    with pytest.raises(DataFault, match="record 2 of Broken cannot be read: OSError: no such picture"):
        source.take(np.array([2]))
    with pytest.raises(UsageError, match="record 0 of Records cannot be read: TypeError: a object"):
        DatasetSource(Records([object()]))


def test_a_dataset_that_draws_anew_at_each_reading_is_refused() -> None:
    class Noisy(Records):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(3), 0

    with pytest.raises(UsageError, match="leave random augmentation to the trainer"):
        ComputedLog(source_from(Noisy([0] * 5)), Dealing(2, 2))


def test_small_sets_are_known_by_every_record_and_big_ones_by_a_sample_and_all_labels() -> None:
    def fingerprint(values: list[float], **attributes: Any) -> str:
        return DatasetSource(Records(values, **attributes)).fingerprint()

    small, big = [float(n) for n in range(64)], [float(n) for n in range(5000)]
    for index in range(64):
        assert fingerprint([*small[:index], -1.0, *small[index + 1 :]]) != fingerprint(small)
    assert fingerprint(big[:-1]) != fingerprint(big)
    assert fingerprint([-1.0, *big[1:]]) != fingerprint(big)
    labels = [0] * 5000
    assert fingerprint(big, targets=[*labels[:77], 1, *labels[78:]]) != fingerprint(big, targets=labels)
    pixels = np.zeros((5000, 2))
    changed = pixels.copy()
    changed[77, 1] = 1
    assert fingerprint(big, data=changed) != fingerprint(big, data=pixels)
    assert fingerprint(big, data=pixels) == fingerprint(list(big), data=pixels.copy())


def test_what_a_dataset_holds_by_reference_is_not_opened_for_the_fingerprint() -> None:
    class Unopened:
        def __array__(self, *_: object) -> np.ndarray[Any, Any]:
            raise AssertionError("it was opened")

    DatasetSource(Records([1.0, 2.0], data=[Unopened(), Unopened()])).fingerprint()


def test_paths_are_no_part_of_the_fingerprint() -> None:
    one = Records([1.0, 2.0], data=["/a/1.png", "/a/2.png"], root="/a", samples=[("/a/1.png", 0)])
    other = Records([1.0, 2.0], data=["/b/1.png", "/b/2.png"], root="/b", samples=[("/b/1.png", 0)])
    assert DatasetSource(one).fingerprint() == DatasetSource(other).fingerprint()


def test_a_share_is_held_out_for_validation() -> None:
    source = source_from(
        TensorDataset(torch.arange(20.0)[:, None], torch.arange(20)), splits={"validation": 0.25}, seed=1
    )
    validation = source.splits()["validation"]
    assert (len(source), len(validation)) == (15, 5)
    seen = [n for side in (source, validation) for n in ids(side.take(np.arange(len(side))))]
    assert sorted(seen) == list(range(20))


def test_a_source_passes_through() -> None:
    source = ColumnSource("numbers", Schema((Field("id", "int64"),)), {"id": np.arange(4)})
    assert source_from(source) is source
    assert set(source_from(source, splits={"validation": 2}).splits()) == {"validation"}
    assert isinstance(source_from([1, 2, 3]), Source)


class Endless(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(())


class Unsized(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (Endless(), "Endless is not a map-style dataset.*a live source has __iter__"),
        (Unsized(), "Unsized is not a map-style dataset"),
        (FakeData, "FakeData is a class"),
        ({"a": 1}, "dict is not"),
        ("abc", "str is not"),
        (3, "int is not"),
        (None, "NoneType is not"),
        ([], "list is empty"),
    ],
)
def test_what_cannot_be_read_by_index_is_the_users_mistake(thing: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        source_from(thing)
