"""One stripe in memory: rows are written once, in order, and never change after they can be read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.chunk import LENGTH_DTYPE, Column, Ragged
from protocol.schema import Field

#: A ragged column that is full grows by this share, so that each value is copied a bounded number of times.
GROWTH = 1.5
FIRST_CAPACITY = 16

END_DTYPE = np.dtype(np.int64)
TIME_DTYPE = np.dtype(np.int64)


class FixedColumn:
    """`rows` values of one shape, in memory that is allocated once."""

    def __init__(self, field: Field, rows: int) -> None:
        self._values = np.empty((rows, *field.item_shape), field.numpy_dtype)
        self._shown = _read_only(self._values)

    def put(self, row: int, value: Any) -> None:
        self._values[row] = value

    def put_many(self, row: int, column: Column) -> None:
        self._values[row : row + len(column)] = column

    def show(self, start: int, stop: int) -> Column:
        return self._shown[start:stop]


class RaggedColumn:
    """Rows of differing length, end to end in memory that is replaced by larger memory as it fills.

    Views on the former memory stay what they were: only what lies after them is ever written.
    """

    def __init__(self, field: Field, rows: int) -> None:
        self._item_bytes = field.item_bytes
        self._lengths = np.zeros(rows, LENGTH_DTYPE)
        self._ends = np.zeros(rows, END_DTYPE)
        self._values = np.empty((0, *field.item_shape), field.numpy_dtype)
        self._used = 0

    def growth(self, elements: int) -> int:
        """Bytes that `reserve` of as many would allocate beyond what there is."""
        return (_capacity(self._used + elements, len(self._values)) - len(self._values)) * self._item_bytes

    def reserve(self, elements: int) -> None:
        """Make room for so many more elements."""
        if (capacity := _capacity(self._used + elements, len(self._values))) > len(self._values):
            larger = np.empty((capacity, *self._values.shape[1:]), self._values.dtype)
            larger[: self._used] = self._values[: self._used]
            self._values = larger

    def put(self, row: int, value: npt.NDArray[Any]) -> None:
        self._append(value)
        self._lengths[row] = len(value)
        self._ends[row] = self._used

    def put_many(self, row: int, column: Ragged) -> None:
        self._ends[row : row + len(column)] = self._used + np.cumsum(column.lengths, dtype=np.int64)
        self._lengths[row : row + len(column)] = column.lengths
        self._append(column.values)

    def show(self, start: int, stop: int) -> Ragged:
        first, end = (self._ends[start - 1] if start else 0), self._ends[stop - 1]
        return Ragged(_read_only(self._lengths)[start:stop], _read_only(self._values)[first:end])

    def _append(self, values: npt.NDArray[Any]) -> None:
        self._values[self._used : self._used + len(values)] = values
        self._used += len(values)


class Block:
    """Room for the records of one stripe, or of the rest of one; `count` of its `rows` are written.

    The caller has checked the values, reserved room for the ragged ones, and holds the log's lock.
    """

    def __init__(self, fields: Sequence[Field], rows: int) -> None:
        self.count = 0
        self.nbytes = self.bytes_for(fields, rows)
        self.rows = rows
        self._times_ns = np.empty(rows, TIME_DTYPE)
        self._names = [field.name for field in fields]
        self._columns: list[Any] = [RaggedColumn(f, rows) if f.ragged else FixedColumn(f, rows) for f in fields]
        self._ragged = [column for column in self._columns if isinstance(column, RaggedColumn)]

    @staticmethod
    def bytes_for(fields: Sequence[Field], rows: int, elements: Sequence[int] = ()) -> int:
        """Bytes of a block before its first record, with room for so many elements in each ragged field."""
        ragged = [field for field in fields if field.ragged]
        fixed_bytes = sum(field.item_bytes for field in fields if not field.ragged)
        row_bytes = fixed_bytes + TIME_DTYPE.itemsize + len(ragged) * (LENGTH_DTYPE.itemsize + END_DTYPE.itemsize)
        reserved = sum(f.item_bytes * _capacity(count, 0) for f, count in zip(ragged, elements, strict=False))
        return row_bytes * rows + reserved

    @property
    def free(self) -> int:
        """Rows that are not written yet."""
        return self.rows - self.count

    def growth(self, elements: Sequence[int]) -> int:
        """Bytes that `reserve` would allocate."""
        return sum(column.growth(count) for column, count in zip(self._ragged, elements, strict=True))

    def reserve(self, elements: Sequence[int]) -> None:
        """Make room for so many more elements in each ragged field."""
        self.nbytes += self.growth(elements)
        for column, count in zip(self._ragged, elements, strict=True):
            column.reserve(count)

    def put(self, values: Sequence[Any], time_ns: int) -> None:
        """Write one record."""
        row = self.count
        for column, value in zip(self._columns, values, strict=True):
            column.put(row, value)
        self._times_ns[row] = time_ns
        self.count = row + 1

    def put_many(self, columns: Sequence[Column], times_ns: int | npt.NDArray[np.int64]) -> None:
        """Write as many records as the columns have."""
        row, count = self.count, len(columns[0])
        for column, values in zip(self._columns, columns, strict=True):
            column.put_many(row, values)
        self._times_ns[row : row + count] = times_ns
        self.count = row + count

    def columns(self, start: int, stop: int) -> dict[str, Column]:
        """Read-only views on the rows `start` to `stop` - 1."""
        return {name: column.show(start, stop) for name, column in zip(self._names, self._columns, strict=True)}

    def time_ns(self, row: int) -> int:
        """Event time of a row."""
        return int(self._times_ns[row])

    def first_row_at(self, time_ns: int) -> int | None:
        """The first row whose event time is not before `time_ns`."""
        late = self._times_ns[: self.count] >= time_ns
        return int(late.argmax()) if late.any() else None


def _capacity(needed: int, capacity: int) -> int:
    """The capacity, in elements, that a ragged column has once `needed` must fit where `capacity` did."""
    return capacity if needed <= capacity else max(needed, int(capacity * GROWTH), FIRST_CAPACITY)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
