"""Records held against the schema: what does not fit is refused by name, before anything of it is kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.chunk import LENGTH_DTYPE, MAX_CHUNK_BYTES, Column, Ragged
from protocol.errors import DataFault
from protocol.inference import as_array
from protocol.schema import Field, Schema

#: Kinds of dtype from narrow to wide: a Python number may go into its own kind or a wider one.
KIND_WIDTH = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}

ARRAY_TYPES = (np.ndarray, np.generic)

#: Python's own numbers have no width: they take that of the field if their value fits.
WEAKLY_TYPED = (bool, int, float, complex, list, tuple)


class FieldCheck:
    """One field's values as they are stored: dtype and shape of the schema, labels within their range.

    Arrays must have the field's shape and a dtype that converts without loss; Python's numbers must fit.
    """

    def __init__(self, field: Field, label_range: tuple[int, int] | None) -> None:
        self.field = field
        self.name = field.name
        self._dtype = field.numpy_dtype
        self._shape = field.shape
        self._label_range = label_range
        self._int_low, self._int_high = self._plain_int_range()

    def value(self, value: Any) -> Any:
        """One record's value: an array of the field's dtype and shape, or a plain int that fits; or `DataFault`."""
        if type(value) is int:
            if self._int_low <= value <= self._int_high:
                return value
        elif isinstance(value, ARRAY_TYPES) and value.shape == self._shape and value.dtype == self._dtype:
            if self._label_range is not None:
                self._check_labels(value)
            return value
        array = self._array(value)
        shape_fits = array.shape == self._shape
        if self.field.ragged:
            shape_fits = array.ndim == len(self._shape) and array.shape[1:] == self.field.item_shape
        if not shape_fits:
            raise self._mismatch(array.dtype, array.shape)
        return self._converted(value, array)

    def column(self, values: Any) -> Column:
        """A whole column [n, *shape], or `Ragged` (also as a sequence of one array a record)."""
        if self.field.ragged:
            return self._ragged(values)
        array = self._array(values)
        if array.ndim != len(self._shape) + 1 or array.shape[1:] != self._shape:
            raise self._mismatch(array.dtype, array.shape[1:])
        return self._converted(values, array)

    def numbers(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A whole column [n, *shape] of numbers that have no width, as Python's: they must fit that of the field."""
        if array.shape[1:] != self._shape:
            raise self._mismatch(array.dtype, array.shape[1:])
        return self._in_range(array if array.dtype == self._dtype else self._fitted(array))

    def row_bytes(self, column: Column) -> npt.NDArray[np.int64]:
        """Bytes of each row of a ragged column."""
        assert isinstance(column, Ragged)
        return column.lengths.astype(np.int64) * self.field.item_bytes

    def _plain_int_range(self) -> tuple[int, int]:
        if self._shape != () or self._dtype.kind not in "iu":
            return 1, 0
        limits = np.iinfo(self._dtype)
        low, high = self._label_range or (limits.min, limits.max)
        return max(low, int(limits.min)), min(high, int(limits.max))

    def _array(self, value: Any) -> npt.NDArray[Any]:
        try:
            return as_array(value)
        except TypeError as error:
            raise DataFault(f"field {self.name!r}: {error}; {self._due()} is due") from error

    def _converted(self, value: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.dtype != self._dtype:
            if isinstance(value, WEAKLY_TYPED):
                array = self._fitted(array)
            elif np.can_cast(array.dtype, self._dtype, "safe"):
                array = array.astype(self._dtype)
            else:
                raise self._mismatch(array.dtype, array.shape)
        return self._in_range(array)

    def _in_range(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._label_range is not None:
            self._check_labels(array)
        return array

    def _fitted(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.size and KIND_WIDTH[array.dtype.kind] > KIND_WIDTH[self._dtype.kind]:  # [] is float64 for numpy
            raise self._mismatch(array.dtype, array.shape)
        if self._dtype.kind in "fc" and array.dtype.kind in "iu":
            array = array.astype(np.float64)  # as numpy makes of it beside a float: its neighbours change no number
        with np.errstate(over="ignore", invalid="ignore"):
            fitted = array.astype(self._dtype)
        exact = self._dtype.kind in "biu"
        if not np.array_equal(fitted, array) if exact else not np.array_equal(np.isfinite(fitted), np.isfinite(array)):
            raise DataFault(f"field {self.name!r}: a number that does not fit {self.field.dtype}")
        return fitted

    def _ragged(self, values: Any) -> Ragged:
        if isinstance(values, Ragged):
            rows = self._array(values.values)
            if rows.shape[1:] != self.field.item_shape or len(rows) != values.lengths.sum(dtype=np.int64):
                raise self._mismatch(rows.dtype, rows.shape)
            return Ragged(values.lengths.astype(LENGTH_DTYPE, copy=False), self._converted(values.values, rows))
        if not isinstance(values, Sequence) or isinstance(values, str | bytes):
            raise DataFault(f"field {self.name!r}: a ragged column is given as Ragged or as one array a record")
        rows_of = [self.value(value) for value in values]
        lengths = np.fromiter((len(rows) for rows in rows_of), LENGTH_DTYPE, len(rows_of))
        empty = np.empty((0, *self.field.item_shape), self._dtype)
        return Ragged(lengths, np.concatenate([empty, *rows_of]))

    def _check_labels(self, labels: npt.NDArray[Any] | np.generic) -> None:
        low, high = self._label_range or (0, 0)
        if labels.ndim == 0 and low <= labels.item() <= high:  # a live stream's usual case, five times as quick
            return
        if labels.size and not low <= labels.min() <= labels.max() <= high:
            worst = labels.max() if labels.max() > high else labels.min()
            raise DataFault(f"field {self.name!r}: label {worst} is out of range, {low} to {high} is due")

    def _mismatch(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> DataFault:
        return DataFault(f"field {self.name!r}: {dtype} {shape} where {self._due()} is due")

    def _due(self) -> str:
        return f"{self.field.dtype} {self._shape}"


class RecordCheck:
    """Whole records and sets of columns, held against a schema."""

    def __init__(self, schema: Schema) -> None:
        self.fields = tuple(
            FieldCheck(field, schema.label_range if field.name == schema.label else None) for field in schema.fields
        )
        self._names = frozenset(check.name for check in self.fields)
        self._ragged = [number for number, check in enumerate(self.fields) if check.field.ragged]
        self._fixed_bytes = schema.record_bytes + LENGTH_DTYPE.itemsize * len(self._ragged)

    def record(self, record: Mapping[str, Any]) -> list[Any]:
        """The values in the schema's order; raises `DataFault`, naming the field."""
        if record.keys() != self._names:
            raise self._other_fields(record)
        values = [check.value(record[check.name]) for check in self.fields]
        if self._ragged:
            self._check_size(sum(values[number].nbytes for number in self._ragged))
        return values

    def columns(self, columns: Mapping[str, Any]) -> list[Column]:
        """The columns in the schema's order, all of one length; raises `DataFault`, naming the field."""
        if columns.keys() != self._names:
            raise self._other_fields(columns)
        checked = [check.column(columns[check.name]) for check in self.fields]
        for check, column in zip(self.fields, checked, strict=True):
            if len(column) != len(checked[0]):
                raise DataFault(
                    f"field {check.name!r}: {len(column)} records where {self.fields[0].name!r} has {len(checked[0])}"
                )
        if self._ragged and len(checked[0]):
            sizes = np.zeros(len(checked[0]), np.int64)
            for number in self._ragged:
                sizes += self.fields[number].row_bytes(checked[number])
            self._check_size(int(sizes.max()))
        return checked

    def _check_size(self, ragged_bytes: int) -> None:
        """The fixed fields are within bounds by the schema; what is ragged may be of any length."""
        if (size := self._fixed_bytes + ragged_bytes) > MAX_CHUNK_BYTES:
            raise DataFault(f"a record of {size} bytes, over the {MAX_CHUNK_BYTES} that can be sent")

    def _other_fields(self, record: Mapping[str, Any]) -> DataFault:
        missing, surplus = sorted(self._names - record.keys()), sorted(record.keys() - self._names)
        wrong = f"field {missing[0]!r} is missing" if missing else f"field {surplus[0]!r} is not in the schema"
        return DataFault(f"{wrong}: a record of this stream has {', '.join(check.name for check in self.fields)}")
