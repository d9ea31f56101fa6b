"""Schemas and columns as hypothesis draws them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from protocol.chunk import Chunk, Column, Ragged
from protocol.schema import DTYPES, Field, Schema

names = st.text(min_size=1, max_size=8)
dimensions = st.lists(st.integers(1, 3), max_size=2)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    shape: tuple[int | None, ...] = tuple(draw(dimensions))
    if draw(st.booleans()):
        shape = (None, *shape)
    return Field(draw(names), draw(st.sampled_from(sorted(DTYPES))), shape)


schemas = st.builds(
    Schema,
    st.lists(fields(), min_size=1, max_size=4, unique_by=lambda field: field.name).map(tuple),
    class_names=st.lists(names, max_size=3).map(tuple),
    label_range=st.none() | st.just((-1, 9)),
)


def values(field: Field, items: int, seed: int) -> npt.NDArray[Any]:
    """Any bytes make a value, but for a bool."""
    raw = np.random.RandomState(seed).bytes(items * field.item_bytes)
    array = np.frombuffer(raw, np.uint8) % 2 if field.dtype == "bool" else np.frombuffer(raw, np.uint8)
    return array.view(field.numpy_dtype).reshape(items, *field.item_shape)


@st.composite
def columns(draw: st.DrawFn, schema: Schema, count: int) -> dict[str, Column]:
    drawn: dict[str, Column] = {}
    for field in schema.fields:
        seed = draw(st.integers(0, 99))
        if field.ragged:
            lengths = np.array(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)), "<u4")
            drawn[field.name] = Ragged(lengths, values(field, int(lengths.sum()), seed))
        else:
            drawn[field.name] = values(field, count, seed)
    return drawn


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Schema, Chunk]:
    schema, count = draw(schemas), draw(st.integers(1, 12))
    first, last = sorted(draw(st.tuples(st.integers(-100, 100), st.integers(-100, 100))))
    return schema, Chunk(draw(st.integers(0, 9)), draw(st.integers(0, 99)), draw(columns(schema, count)), first, last)


def rows(column: Column) -> list[bytes]:
    """Each record's bytes, whatever its dtype: a number that is none equals itself here."""
    if not isinstance(column, Ragged):
        return [np.ascontiguousarray(row).tobytes() for row in column]
    ends = np.cumsum(column.lengths, dtype=np.int64)
    return [column.values[end - length : end].tobytes() for end, length in zip(ends, column.lengths, strict=True)]
