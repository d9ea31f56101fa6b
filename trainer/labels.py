"""The edge of the trainer: records of a producer that holds nothing against its own schema."""

from collections.abc import Iterator

import numpy as np

from protocol.chunk import Chunk
from protocol.errors import DataFault
from protocol.schema import Schema


def bad_labels(schema: Schema, chunk: Chunk) -> list[int]:
    """The rows whose label is outside the range that the schema announces."""
    name, allowed = schema.label, schema.label_range
    if name is None or allowed is None:
        return []
    labels = np.asarray(chunk.columns[name])
    low, high = allowed
    if np.minimum.reduce(labels) >= low and np.maximum.reduce(labels) <= high:
        return []
    outside = (labels < low) | (labels > high)
    return [int(row) for row in np.flatnonzero(outside.reshape(chunk.count, -1).any(axis=1))]


def label_fault(schema: Schema, chunk: Chunk, row: int) -> DataFault:
    """What is wrong with one of them, and where."""
    assert schema.label is not None
    assert schema.label_range is not None
    low, high = schema.label_range
    where = f"partition {chunk.partition}, offset {chunk.offset + row}"
    return DataFault(f"label {np.asarray(chunk.columns[schema.label])[row]} at {where} is outside {low} to {high}")


def runs_of(count: int, rows: list[int]) -> Iterator[tuple[int, int, bool]]:
    """`count` rows as runs (start, stop, whether they are among `rows`), which ascend; none of them is empty."""
    start = 0
    for row in rows:
        if start < row:
            yield start, row, False
        yield row, row + 1, True
        start = row + 1
    if start < count:
        yield start, count, False
