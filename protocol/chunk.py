"""A chunk: a contiguous run of records of one partition, in columns. The unit on the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import MalformedMessage, OversizedMessage
from protocol.schema import Field, Schema

Buffer = bytes | memoryview
LENGTH_DTYPE = np.dtype("<u4")
#: The columns of one chunk together.
MAX_CHUNK_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Ragged:
    """A column whose records differ in length: `lengths` uint32 [n], `values` [sum of lengths, *item shape]."""

    lengths: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of lengths and values."""
        return self.lengths.nbytes + self.values.nbytes

    @cached_property
    def bounds(self) -> npt.NDArray[np.int64]:
        """Where the records' values begin and end, [n + 1]: row r has those from `bounds[r]` to `bounds[r + 1]` - 1."""
        return np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))

    def __getitem__(self, rows: slice) -> "Ragged":
        start, stop, _ = rows.indices(len(self.lengths))
        bounds = self.bounds
        return Ragged(self.lengths[start:stop], self.values[bounds[start] : bounds[stop]])

    def take(self, rows: npt.NDArray[np.int64]) -> "Ragged":
        """The records with these numbers, in this order, in memory of their own."""
        lengths = self.lengths[rows]
        first = np.cumsum(lengths, dtype=np.int64) - lengths
        # One flat gather: each record's first element, plus how far every element lies inside its record.
        inside = np.arange(lengths.sum(dtype=np.int64)) - np.repeat(first, lengths)
        return Ragged(lengths, self.values[np.repeat(self.bounds[rows], lengths) + inside])

    def copy(self) -> "Ragged":
        """The same in memory of its own."""
        return Ragged(self.lengths.copy(), self.values.copy())


Column = npt.NDArray[Any] | Ragged
Columns = Mapping[str, Column]


def concatenate(field: Field, columns: Sequence[Column]) -> Column:
    """The rows of all these columns of a field, one after the other, in memory of their own; none if there are none."""
    if not field.ragged:
        return np.concatenate([np.empty((0, *field.item_shape), field.numpy_dtype), *map(np.asarray, columns)])
    ragged = [column for column in columns if isinstance(column, Ragged)]
    return Ragged(
        np.concatenate([np.empty(0, LENGTH_DTYPE), *(each.lengths for each in ragged)]),
        np.concatenate([np.empty((0, *field.item_shape), field.numpy_dtype), *(each.values for each in ragged)]),
    )


def ragged(column: Column) -> Ragged:
    """The column of a ragged field."""
    assert isinstance(column, Ragged), "a column is as its field says"
    return column


def blank(schema: Schema) -> dict[str, Column]:
    """The columns of one record of zeros, which keeps the place of one that cannot be read."""
    return {
        field.name: Ragged(np.zeros(1, LENGTH_DTYPE), np.empty((0, *field.item_shape), field.numpy_dtype))
        if field.ragged
        else np.zeros((1, *field.item_shape), field.numpy_dtype)
        for field in schema.fields
    }


def value_of(column: Column, row: int) -> Any:
    """One record's value: an array of the field's shape, or a number."""
    return column[row : row + 1].values if isinstance(column, Ragged) else column[row]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Records `offset` to `end` - 1 of `partition`.

    `columns` maps each field of the schema to its values: an array [count, *shape], or `Ragged`. Event times are
    wall-clock nanoseconds since 1970 of the first and the last record; they are no part of a record's content.
    """

    partition: int
    offset: int
    columns: Columns
    first_time_ns: int
    last_time_ns: int

    @cached_property
    def count(self) -> int:
        """Number of records."""
        return len(next(iter(self.columns.values())))

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.offset + self.count

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self.columns.values())

    def time_ns(self, row: int) -> int:
        """Event time of one row, on a straight line between the first and the last."""
        last = self.count - 1
        return self.first_time_ns + ((self.last_time_ns - self.first_time_ns) * row // last if last else 0)

    def part(self, start: int, stop: int) -> "Chunk":
        """The rows `start` to `stop` - 1 as a chunk of its own, over the same memory."""
        return Chunk(
            partition=self.partition,
            offset=self.offset + start,
            columns={name: column[start:stop] for name, column in self.columns.items()},
            first_time_ns=self.time_ns(start),
            last_time_ns=self.time_ns(stop - 1),
        )


def to_frames(schema: Schema, columns: Columns) -> list[Buffer]:
    """The columns' raw bytes in the schema's order: one frame a field, two (lengths, values) where it is ragged."""
    frames: list[Buffer] = []
    for field in schema.fields:
        column = columns[field.name]
        if isinstance(column, Ragged):
            frames += [_raw(column.lengths, LENGTH_DTYPE), _raw(column.values, field.numpy_dtype)]
        else:
            frames.append(_raw(column, field.numpy_dtype))
    return frames


def from_frames(schema: Schema, count: int, frames: Sequence[Buffer], max_bytes: int) -> dict[str, Column]:
    """Views over the frames, checked against the schema before anything is made of them.

    Raises `MalformedMessage` where number or size of the frames is wrong, `OversizedMessage` over `max_bytes`.
    """
    sizes = [memoryview(frame).nbytes for frame in frames]
    if sum(sizes) > max_bytes:
        raise OversizedMessage(f"a chunk of {sum(sizes)} bytes, over the {max_bytes} allowed")
    expected = sum(2 if field.ragged else 1 for field in schema.fields)
    if len(frames) != expected:
        raise MalformedMessage(f"a chunk of {len(frames)} frames where the schema has {expected}")
    columns: dict[str, Column] = {}
    at = 0
    for field in schema.fields:
        if field.ragged:
            columns[field.name] = _ragged(field, count, frames[at], frames[at + 1])
            at += 2
        else:
            columns[field.name] = _fixed(field, count, frames[at])
            at += 1
    return columns


def _raw(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> Buffer:
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _fixed(field: Field, count: int, frame: Buffer) -> npt.NDArray[Any]:
    size = memoryview(frame).nbytes
    if size != count * field.item_bytes:
        raise MalformedMessage(f"field {field.name!r}: {size} bytes, not {count} records of {field.item_bytes}")
    return _values(field, count, frame)


def _ragged(field: Field, count: int, lengths_frame: Buffer, values_frame: Buffer) -> Ragged:
    if memoryview(lengths_frame).nbytes != count * LENGTH_DTYPE.itemsize:
        raise MalformedMessage(f"field {field.name!r}: the lengths of {count} records do not fit their frame")
    lengths = np.frombuffer(lengths_frame, LENGTH_DTYPE)
    total = int(lengths.sum(dtype=np.int64))
    size = memoryview(values_frame).nbytes
    if size != total * field.item_bytes:
        raise MalformedMessage(f"field {field.name!r}: {size} bytes where the lengths say {total * field.item_bytes}")
    return Ragged(lengths, _values(field, total, values_frame))


def _values(field: Field, items: int, frame: Buffer) -> npt.NDArray[Any]:
    if field.dtype == "bool" and np.any(np.frombuffer(frame, np.uint8) > 1):
        raise MalformedMessage(f"field {field.name!r}: a bool is 0 or 1")
    return np.frombuffer(frame, field.numpy_dtype).reshape(items, *field.item_shape)
