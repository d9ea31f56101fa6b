"""Records as msgpack maps: what a writer in any language can make without knowing the stream's schema.

A value is a number, true or false, a text, bytes, a list of numbers (or of such lists), or an array of any dtype as a
map {"dtype": …, "shape": […], "data": bytes}. protocol/SPEC.md says the same for people.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocol.chunk import Buffer, from_frames
from protocol.errors import MalformedMessage, OversizedMessage
from protocol.schema import MAX_DIMENSIONS, MAX_FIELDS, MAX_NAME_LENGTH, Field, Schema
from protocol.values import entries, integer, mapping, shown, text, unpacked

#: Of one message of maps: what lists hold becomes up to sixty times as large here. What is larger travels in columns.
MAX_RECORDS_BYTES: Final = 1 << 20

Value = bool | int | float | str | bytes | list[Any] | npt.NDArray[Any]
NUMBERS: Final = frozenset((bool, int, float))


def records_from(frame: Buffer, count: int) -> list[dict[str, Value]]:
    """The records of a frame, which has `count`. Raises `MalformedMessage` or `OversizedMessage`."""
    size = memoryview(frame).nbytes
    if size > MAX_RECORDS_BYTES:
        raise OversizedMessage(f"records of {size} bytes, over {MAX_RECORDS_BYTES}: send fewer, or columns")
    records = entries(unpacked(frame, max_map_len=MAX_FIELDS), size)
    if len(records) != count:
        raise MalformedMessage(f"{len(records)} records where the header says {count}")
    return [record_from(record) for record in records]


def record_from(record: Any) -> dict[str, Value]:
    """One record out of what msgpack, or JSON, has made of it. Raises `MalformedMessage`."""
    return {_name(name): _value(value) for name, value in mapping(record).items()}


def _name(name: Any) -> str:
    return text(name, MAX_NAME_LENGTH)


def _value(value: Any) -> Value:
    if isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, list):
        _check_numbers(value, 1)
        return value
    if isinstance(value, dict):
        return _array(value)
    raise MalformedMessage(f"{shown(value)} is no value of a record")


def _check_numbers(values: list[Any], depth: int) -> None:
    """What numpy would make of a list of texts has no bound."""
    kinds = set(map(type, values))
    if kinds <= NUMBERS:
        return
    if kinds != {list} or depth == MAX_DIMENSIONS:
        raise MalformedMessage("a list holds numbers, or lists of them, at most eight in each other")
    for each in values:
        _check_numbers(each, depth + 1)


def _array(wire: dict[Any, Any]) -> npt.NDArray[Any]:
    """One record's column of one field, said in full."""
    try:
        shape = tuple(integer(size) for size in entries(wire["shape"], MAX_DIMENSIONS))
        field, data = Field("array", text(wire["dtype"]), shape), wire["data"]
    except (KeyError, ValueError) as error:
        raise MalformedMessage(f"a map is an array, with dtype, shape and data: {error}") from error
    if not isinstance(data, bytes):
        raise MalformedMessage(f"{shown(data)} is not bytes: the data of an array are")
    column = from_frames(Schema((field,)), 1, [data], MAX_RECORDS_BYTES)["array"]
    assert isinstance(column, np.ndarray)
    return column[0, ...]
