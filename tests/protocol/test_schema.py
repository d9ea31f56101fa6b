from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from protocol.dealing import Dealing
from protocol.errors import MalformedMessage, OutOfRange
from protocol.schema import MAX_CLASSES, MAX_RECORD_BYTES, Field, Schema
from protocol.stream import MAX_SPLITS, StreamInfo
from tests.protocol.drawn_columns import schemas

PLAIN = Schema((Field("image", "uint8", (1, 28, 28)), Field("label", "int64")), label="label", class_names=("a", "b"))
WIRE = StreamInfo(incarnation="i", schema=PLAIN, dealing=Dealing(8, 64), splits={"test": 10}, source="s").to_wire()


@given(schemas)
def test_a_schema_comes_back_from_the_wire_as_it_was(schema: Schema) -> None:
    assert Schema.from_wire(schema.to_wire()) == schema


def test_a_record_has_the_bytes_of_its_fixed_fields() -> None:
    schema = Schema((*PLAIN.fields, Field("text", "uint8", (None,))))
    assert schema.record_bytes == 28 * 28 + 8
    assert (schema.ragged, PLAIN.ragged) == (True, False)
    assert schema["text"].item_shape == ()
    with pytest.raises(KeyError):
        schema["sound"]


@pytest.mark.parametrize(
    ("field", "mend"),
    [
        (("", "uint8"), "1 to 128 characters"),
        (("x" * 129, "uint8"), "1 to 128 characters"),
        (("x", "object"), "not one of"),
        (("x", ">i4"), "not one of"),
        (("x", "uint8", (1,) * 9), "dimensions"),
        (("x", "uint8", (2, None)), "only the first dimension"),
        (("x", "uint8", (0,)), "at least 1"),
        (("x", "uint8", (-3,)), "at least 1"),
        (("x", "uint8", (MAX_RECORD_BYTES + 1,)), "bytes a record"),
        (("x", "uint8", (None, MAX_RECORD_BYTES + 1)), "bytes a record"),
    ],
)
def test_an_impossible_field_is_refused(field: tuple[Any, ...], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        Field(*field)


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        ({"fields": ()}, "1 to 64 fields"),
        ({"fields": tuple(Field(str(number), "uint8") for number in range(65))}, "1 to 64 fields"),
        ({"fields": (Field("x", "uint8"), Field("x", "int8"))}, "same name"),
        ({"label": "y"}, "not among the fields"),
        ({"label_range": (3, 2)}, "empty"),
        ({"class_names": ("",) * (MAX_CLASSES + 1)}, "class names"),
        ({"class_names": ("x" * 129,)}, "128 characters"),
        ({"class_names": ("x" * 128,) * (MAX_CLASSES // 2)}, "in all"),
        ({"fields": (Field("x", "uint8", (1 << 28,)), Field("y", "uint8"))}, "a record of"),
    ],
)
def test_an_impossible_schema_is_refused(arguments: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        Schema(**{"fields": (Field("x", "uint8"),), **arguments})


def test_a_stream_comes_back_from_the_wire_as_it_was() -> None:
    info = StreamInfo(incarnation="i", schema=PLAIN, dealing=Dealing(3, 8), splits={"a": 0}, records_per_pass=7)
    assert StreamInfo.from_wire(info.to_wire()) == info


def test_a_stream_without_an_order_says_so_and_any_other_says_nothing() -> None:
    dealt = StreamInfo(incarnation="i", schema=PLAIN, dealing=Dealing(3, 8))
    arriving = replace(dealt, order="arrival")
    assert StreamInfo.from_wire(arriving.to_wire()) == arriving
    assert arriving.to_wire() == {**dealt.to_wire(), "order": "arrival"}


def test_records_that_have_no_number_make_neither_passes_nor_changes() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        StreamInfo(incarnation="i", schema=PLAIN, dealing=Dealing(3, 8), order="arrival", records_per_pass=7)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("incarnation", 5),
        ("incarnation", "x" * 129),
        ("schema", None),
        ("partitions", 0),
        ("partitions", 4097),
        ("partitions", "8"),
        ("partitions", float("inf")),
        ("partitions", True),
        ("stripe", 0),
        ("stripe", 1 << 40),
        ("splits", [["test", 3]]),
        ("splits", {"test": -1}),
        ("splits", {"test": float("nan")}),
        ("splits", {7: 1}),
        ("splits", {str(number): 1 for number in range(MAX_SPLITS + 1)}),
        ("records_per_pass", -1),
        ("source", b"x"),
        ("order", "random"),
        ("order", ["arrival"]),
        ("order", None),
    ],
)
def test_a_stream_that_cannot_be_is_refused(part: str, value: Any) -> None:
    with pytest.raises((MalformedMessage, OutOfRange)):
        StreamInfo.from_wire({**WIRE, part: value})


@pytest.mark.parametrize("part", WIRE)
def test_a_stream_that_lacks_something_is_refused(part: str) -> None:
    with pytest.raises(MalformedMessage, match=part):
        StreamInfo.from_wire({name: value for name, value in WIRE.items() if name != part})


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("fields", None),
        ("fields", []),
        ("fields", [["x", "uint8"]]),
        ("fields", [["x", "uint8", 3]]),
        ("fields", [["x", "uint8", [1.5]]]),
        ("fields", [[["x"], "uint8", []]]),
        ("fields", [["x", "uint8", [True]]]),
        ("label", "sound"),
        ("label", 3),
        ("class_names", "ab"),
        ("class_names", [1]),
        ("label_range", [1]),
        ("label_range", ["a", "b"]),
        ("label_range", [2, 1]),
        ("label_range", 5),
    ],
)
def test_a_schema_that_cannot_be_is_refused(part: str, value: Any) -> None:
    with pytest.raises((MalformedMessage, OutOfRange)):
        Schema.from_wire({**PLAIN.to_wire(), part: value})


@pytest.mark.parametrize("wire", [None, [], "x", 5, {}])
def test_what_is_no_map_is_neither_schema_nor_stream(wire: Any) -> None:
    with pytest.raises(MalformedMessage):
        Schema.from_wire(wire)
    with pytest.raises(MalformedMessage):
        StreamInfo.from_wire(wire)


@pytest.mark.parametrize("name", ["", "..", "/tmp/x", "../x", "a/b", "a\\b", ".hidden", "a\n"])
def test_a_split_cannot_be_named_so_that_its_folder_lies_elsewhere(name: str) -> None:
    wire = StreamInfo(incarnation="i", schema=Schema((Field("x", "uint8"),)), dealing=Dealing(1, 1)).to_wire()
    with pytest.raises(MalformedMessage, match="no name of a split"):
        StreamInfo.from_wire(wire | {"splits": {name: 1}})
