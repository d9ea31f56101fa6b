"""Records as JSON lines: an object each, with its place, its event time and its fields."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from protocol.chunk import Chunk, value_of
from protocol.schema import Field, Schema
from protocol.wording import text_of


def record_lines(schema: Schema, chunks: Sequence[Chunk]) -> Iterator[str]:
    """One line a record: `partition`, `offset`, `time_ns` (nanoseconds since 1970) and `fields`.

    Arrays are nested lists, complex numbers [real, imaginary], bytes that are UTF-8 a text, what is not finite null.
    """
    for chunk in chunks:
        for row in range(chunk.count):
            fields = {field.name: _plain(_value(field, chunk, row)) for field in schema.fields}
            place = {"partition": chunk.partition, "offset": chunk.offset + row, "time_ns": chunk.time_ns(row)}
            yield json.dumps({**place, "fields": fields}, allow_nan=False)


def _value(field: Field, chunk: Chunk, row: int) -> Any:
    value = value_of(chunk.columns[field.name], row)
    text = text_of(value) if field.ragged else None
    return value.tolist() if text is None else text


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
