"""The schema of a stream is read off its first record."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from protocol.errors import UsageError
from protocol.inference import as_array, infer_schema
from protocol.schema import Field, Schema


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (True, "bool", ()),
        (3, "int64", ()),
        (1 << 63, "uint64", ()),
        (0.5, "float64", ()),
        (1j, "complex128", ()),
        (np.float16(1), "float16", ()),
        (np.zeros((2, 3), ">i4"), "int32", (2, 3)),
        ([1, 2, 3], "int64", (3,)),
        ([1, 1 << 63], "uint64", (2,)),
        ([-1, 1 << 63], "float64", (2,)),
        ([0.5, 1 << 63], "float64", (2,)),
        (torch.zeros(3, 4), "float32", (3, 4)),
        (torch.tensor(5), "int64", ()),
        ("ü", "uint8", (None,)),
        (b"", "uint8", (None,)),
        (bytearray(b"ab"), "uint8", (None,)),
        (memoryview(b"abcd")[::2], "uint8", (None,)),
        (Image.new("L", (4, 3)), "uint8", (1, 3, 4)),
        (Image.new("RGB", (4, 3)), "uint8", (3, 3, 4)),
        (Image.new("P", (4, 3)), "uint8", (3, 3, 4)),
        (Image.new("1", (4, 3)), "uint8", (1, 3, 4)),
        (Image.new("F", (4, 3)), "float32", (1, 3, 4)),
    ],
)
def test_a_value_keeps_its_kind(value: object, dtype: str, shape: tuple[int | None, ...]) -> None:
    assert infer_schema({"x": value}).fields == (Field("x", dtype, shape),)


def test_a_picture_keeps_its_pixels() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(as_array(Image.fromarray(pixels)), pixels.transpose(2, 0, 1))


def test_text_travels_as_utf8() -> None:
    assert as_array("ü").tobytes() == "ü".encode()


def test_a_field_called_label_with_one_integer_is_the_label() -> None:
    assert infer_schema({"x": 0.5, "label": 3}).label == "label"
    assert infer_schema({"x": 0.5, "label": 0.5}).label is None
    assert infer_schema({"x": 0.5, "label": [1, 2]}).label is None
    schema = infer_schema({"kind": 1}, label="kind", class_names=("a", "b"), label_range=(0, 1))
    assert schema == Schema((Field("kind", "int64"),), "kind", ("a", "b"), (0, 1))


def test_a_field_can_be_declared_ragged() -> None:
    tokens = infer_schema({"tokens": np.zeros((0, 4), np.int32)}, ragged={"tokens"})
    assert tokens.fields == (Field("tokens", "int32", (None, 4)),)


@pytest.mark.parametrize(
    ("record", "ragged", "says"),
    [
        ({"x": object()}, (), "'x'.*object"),
        ({"x": {"y": 1}}, (), "'x'.*dict"),
        ({"x": None}, (), "'x'.*NoneType"),
        ({"x": 1 << 70}, (), "'x'.*71 bits"),
        ({"x": ["a"]}, (), "'x'.*<U1"),
        ({"x": [[1], [2, 3]]}, (), "'x'.*numpy cannot read"),
        ({"x": np.array("2026-01-01", "M8[s]")}, (), "'x'.*datetime64"),
        ({"x": torch.zeros(2, requires_grad=True)}, (), "'x'.*requires grad"),
        ({"x": np.zeros((0, 3))}, (), "'x'.*empty"),
        ({"x": 3}, ("x",), "'x'.*cannot be ragged"),
        ({"x": 3}, ("tokens",), "'tokens'.*it has x"),
        ({}, (), "1 to 64 fields"),
        ({"x" * 200: 1}, (), "128 characters"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(record: dict[str, object], ragged: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        infer_schema(record, ragged=ragged)


def test_neither_torch_nor_pillow_is_imported_for_it() -> None:
    program = (
        "import sys, producer.dataset_source, producer.memory_log, producer.computed_log\n"
        "assert not {'torch', 'torchvision', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
