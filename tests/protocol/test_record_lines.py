import json

import numpy as np
from hypothesis import given, settings

from protocol.chunk import Chunk, Columns, Ragged
from protocol.record_lines import record_lines
from protocol.schema import Field, Schema
from tests.protocol.drawn_columns import chunks


def test_a_record_is_a_line_with_its_place_its_time_and_its_fields() -> None:
    schema = Schema(
        (
            Field("x", "float32", (2,)),
            Field("z", "complex64"),
            Field("on", "bool"),
            Field("text", "uint8", (None,)),
            Field("tokens", "int8", (None,)),
        )
    )
    columns: Columns = {
        "x": np.array([[0.5, np.nan], [np.inf, 2]], np.float32),
        "z": np.array([1 + 2j, 0], np.complex64),
        "on": np.array([True, False]),
        "text": Ragged(np.array([3, 1], np.uint32), np.frombuffer("ü!".encode() + b"\xff", np.uint8)),
        "tokens": Ragged(np.array([0, 2], np.uint32), np.array([-1, 4], np.int8)),
    }
    first, second = map(json.loads, record_lines(schema, [Chunk(3, 10, columns, 100, 200)]))
    assert first == {
        "partition": 3,
        "offset": 10,
        "time_ns": 100,
        "fields": {"x": [0.5, None], "z": [1.0, 2.0], "on": True, "text": "ü!", "tokens": []},
    }
    assert (second["offset"], second["time_ns"]) == (11, 200)
    assert second["fields"] == {"x": [None, 2.0], "z": [0.0, 0.0], "on": False, "text": [255], "tokens": [-1, 4]}


@settings(max_examples=25)
@given(chunks())
def test_any_record_is_valid_json(drawn: tuple[Schema, Chunk]) -> None:
    schema, chunk = drawn
    lines = [json.loads(line) for line in record_lines(schema, [chunk])]
    assert [line["offset"] for line in lines] == list(range(chunk.offset, chunk.end))
    assert all(line["fields"].keys() == {field.name for field in schema.fields} for line in lines)
