"""Records as maps: whatever a writer in any language makes of a value, and nothing that does harm."""

from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import MalformedMessage, OutOfRange, OversizedMessage, PeerError
from protocol.records import MAX_RECORDS_BYTES, records_from
from tests.allocations import at_most
from tests.protocol.drawn_columns import chunks

plain = st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False)
values = plain | st.text(max_size=9) | st.binary(max_size=9) | st.recursive(st.lists(plain, max_size=4), st.lists)


def record_of(value: Any) -> Any:
    (record,) = records_from(msgpack.packb([{"x": value}]), 1)
    return record["x"]


def array(dtype: Any = "uint8", shape: Any = (2,), data: Any = b"ab", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data": data, **more}


@given(st.lists(st.dictionaries(st.text(max_size=9), values, max_size=3), max_size=3))
@settings(max_examples=20)
def test_a_value_arrives_as_it_was_packed(records: list[dict[str, Any]]) -> None:
    assert records_from(msgpack.packb(records), len(records)) == records


@given(chunks())
@settings(max_examples=15)
def test_an_array_of_any_dtype_arrives_bit_by_bit(drawn: Any) -> None:
    schema, chunk = drawn
    for field in schema.fields:
        if field.ragged:
            continue
        first = np.ascontiguousarray(chunk.columns[field.name][0], field.numpy_dtype)
        found = record_of(array(field.dtype, list(field.shape), first.tobytes()))
        assert found.dtype == field.numpy_dtype
        assert found.shape == field.shape
        assert found.tobytes() == first.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        None,
        ["text"],
        [b"bytes", 1],
        [None],
        [[1], 2],
        [[[[[[[[[1]]]]]]]]],
        {"x": 1},
        {},
        array(dtype="object"),
        array(dtype=3),
        array(shape=[3]),
        array(shape=2),
        array(shape=[0]),
        array(shape=[-2]),
        array(shape=[None]),
        array(shape=[1 << 62, 1 << 62]),
        array(shape=[1] * 9),
        array(data="ab"),
        array(data=None),
        array(dtype="bool"),
        msgpack.Timestamp(1),
        msgpack.ExtType(3, b"x"),
    ],
)
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises((MalformedMessage, OutOfRange)):
        record_of(value)


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x90\x90", b"\x91\x01", b"\x91\x81\x01\x02", b"\x91\x81\xc4\x01a\x02"]
)
def test_what_is_no_array_of_one_map_with_names_is_malformed(frame: bytes) -> None:
    with pytest.raises(PeerError):
        records_from(frame, 1)


def test_the_header_and_the_frame_must_agree_about_the_number() -> None:
    with pytest.raises(MalformedMessage, match="2 records where the header says 3"):
        records_from(msgpack.packb([{"x": 1}] * 2), 3)


def test_too_many_bytes_at_once_are_not_even_parsed() -> None:
    frame = bytes(MAX_RECORDS_BYTES + 1)
    with at_most(1 << 16), pytest.raises(OversizedMessage, match="send fewer, or columns"):
        records_from(frame, 1)


@pytest.mark.parametrize(
    "head", [b"\xdd\x00\x0f\xff\xff", b"\x91\x81\xa1x\xdd\x7f\xff\xff\xff", b"\xdd\x00\x00\xff\xff" * 900]
)
def test_what_only_announces_much_makes_nothing(head: bytes) -> None:
    with at_most(1 << 18), pytest.raises(MalformedMessage):
        records_from(head, 1)


@given(st.binary(max_size=60), st.integers(0, 3))
@settings(max_examples=50)
def test_arbitrary_bytes_raise_nothing_but_a_peer_error(frame: bytes, count: int) -> None:
    with suppress(PeerError):
        records_from(frame, count)
