"""A record is held against the schema before anything of it is kept."""

from typing import Any

import numpy as np
import pytest
import torch

from protocol.chunk import Ragged
from protocol.conform import RecordCheck
from protocol.errors import DataFault
from protocol.schema import Field, Schema

SCHEMA = Schema(
    (
        Field("image", "uint8", (1, 2, 2)),
        Field("label", "int16"),
        Field("weight", "float32"),
        Field("seen", "bool"),
        Field("text", "uint8", (None,)),
        Field("boxes", "float32", (None, 4)),
    ),
    label="label",
    label_range=(0, 9),
)
GOOD: dict[str, Any] = {
    "image": np.ones((1, 2, 2), np.uint8),
    "label": 9,
    "weight": 0.1,
    "seen": True,
    "text": "abc",
    "boxes": np.zeros((2, 4), np.float32),
}
CHECK = RecordCheck(SCHEMA)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", torch.ones(1, 2, 2, dtype=torch.uint8)),
        ("image", [[[1, 1], [1, 1]]]),
        ("image", np.ones((1, 2, 2), bool)),
        ("label", np.int16(9)),
        ("label", np.uint8(9)),
        ("label", torch.tensor(9, dtype=torch.int16)),
        ("label", np.array(9, ">i2")),
        ("weight", 3),
        ("weight", float("nan")),
        ("weight", float("inf")),
        ("weight", np.float16(0.5)),
        ("weight", np.float64(0.5)),  # it is a Python float as well
        ("text", b""),
        ("boxes", np.zeros((0, 4), np.float32)),
        ("boxes", [[0, 0, 1, 1]]),
    ],
)
def test_what_converts_without_loss_is_taken_in_the_fields_dtype(field: str, value: object) -> None:
    values = dict(zip((f.name for f in SCHEMA.fields), CHECK.record(GOOD | {field: value}), strict=True))
    if isinstance(values[field], np.ndarray):
        assert values[field].dtype == SCHEMA[field].numpy_dtype


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("image", np.ones((2, 2), np.uint8), r"uint8 \(2, 2\) where uint8 \(1, 2, 2\) is due"),
        ("image", np.ones((1, 2, 2), np.float32), "float32"),
        ("image", np.ones((1, 2, 2), np.int8), "int8"),
        ("image", [[[1, 1], [1, 256]]], "does not fit uint8"),
        ("image", [[[1, 1], [1, -1]]], "does not fit uint8"),
        ("image", 3, r"int64 \(\)"),
        ("image", object(), "object"),
        ("label", 10, "label 10 is out of range, 0 to 9"),
        ("label", -1, "label -1 is out of range"),
        ("label", np.int16(10), "label 10 is out of range"),
        ("label", np.int64(3), "int64"),
        ("label", 3.0, "float64"),
        ("label", 1 << 20, "does not fit int16"),
        ("label", 1 << 80, "81 bits"),
        ("label", "3", "uint8"),
        ("weight", np.array([0.5])[0:1], "float64"),
        ("weight", 1e300, "does not fit float32"),
        ("weight", 1j, "complex128"),
        ("seen", 1, "int64"),
        ("text", np.zeros((3, 1), np.uint8), r"\(3, 1\)"),
        ("text", 3, r"int64 \(\)"),
        ("boxes", np.zeros((2, 3), np.float32), r"\(2, 3\)"),
        ("boxes", np.zeros((2, 4)), "float64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: str, value: object, says: str) -> None:
    with pytest.raises(DataFault, match=f"'{field}'.*{says}"):
        CHECK.record(GOOD | {field: value})


def test_fields_are_neither_missing_nor_surplus() -> None:
    with pytest.raises(DataFault, match="'text' is missing"):
        CHECK.record({name: value for name, value in GOOD.items() if name != "text"})
    with pytest.raises(DataFault, match="'more' is not in the schema: a record of this stream has image, label"):
        CHECK.record(GOOD | {"more": 1})


def columns(**other: Any) -> dict[str, Any]:
    return {
        "image": np.ones((3, 1, 2, 2), np.uint8),
        "label": [0, 9, 5],
        "weight": np.zeros(3, np.float32),
        "seen": np.ones(3, bool),
        "text": Ragged(np.array([1, 0, 2], np.uint32), np.frombuffer(b"abc", np.uint8)),
        "boxes": [np.zeros((n, 4), np.float32) for n in (0, 3, 1)],
    } | other


def test_columns_are_taken_whole() -> None:
    checked = CHECK.columns(columns())
    assert [len(column) for column in checked] == [3] * 6
    boxes = checked[-1]
    assert isinstance(boxes, Ragged)
    assert boxes.lengths.tolist() == [0, 3, 1]
    assert boxes.values.shape == (4, 4)


@pytest.mark.parametrize(
    ("field", "values", "says"),
    [
        ("image", np.ones((3, 2, 2), np.uint8), r"\(2, 2\)"),
        ("image", np.ones((2, 1, 2, 2), np.uint8), None),
        ("label", [0, 10, 5], "label 10"),
        ("label", [0, -3, 5], "label -3"),
        ("weight", np.zeros(3), "float64"),
        ("weight", 0.5, "float64"),
        ("text", Ragged(np.array([1, 0, 3], np.uint32), np.frombuffer(b"abc", np.uint8)), "uint8"),
        ("boxes", Ragged(np.ones(3, np.uint32), np.zeros((3, 3), np.float32)), r"\(3, 3\)"),
        ("boxes", Ragged(np.ones(3, np.uint32), np.zeros((3, 4))), "float64"),
        ("text", "abc", "one array a record"),
        ("text", np.zeros((3, 2), np.uint8), "one array a record"),
        ("boxes", [np.zeros((2, 3), np.float32)] * 3, r"\(2, 3\)"),
        ("boxes", [np.zeros((2, 4), np.float32)] * 2, "2 records"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(field: str, values: object, says: str | None) -> None:
    with pytest.raises(DataFault, match=f"'{field}'.*{says}" if says else "records where"):
        CHECK.columns(columns(**{field: values}))
