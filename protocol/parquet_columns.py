"""Columns as Arrow has them (arrow.apache.org/docs/format/Columnar.html), and back, bit for bit.

A field of fixed shape becomes lists of fixed size within each other, a ragged one a `large_list` of those; ragged bytes
are `large_binary`: 32 bits do not count what a stripe may hold. Parquet knows no complex numbers: they have one
dimension more, of two floats.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from protocol.chunk import Column, Ragged
from protocol.errors import UsageError
from protocol.schema import DTYPES, Field

COMPLEX: Mapping[str, np.dtype[Any]] = {"complex64": np.dtype("<f4"), "complex128": np.dtype("<f8")}


def arrow_type(field: Field) -> pa.DataType:
    """What a field's column is in Arrow."""
    if _is_bytes(field):
        return pa.large_binary()
    kind = pa.from_numpy_dtype(COMPLEX.get(field.dtype, field.numpy_dtype))
    for size in reversed(_sizes(field)):
        kind = pa.list_(kind, size)
    return pa.large_list(kind) if field.ragged else kind


def to_arrow(field: Field, column: Column) -> pa.Array:
    """A column as an array of `arrow_type`."""
    if not isinstance(column, Ragged):
        return _nested(field, column)
    if _is_bytes(field):
        buffers = [None, pa.py_buffer(column.bounds), pa.py_buffer(np.ascontiguousarray(column.values))]
        return pa.Array.from_buffers(pa.large_binary(), len(column), buffers)
    return pa.LargeListArray.from_arrays(pa.array(column.bounds), _nested(field, column.values))


def from_arrow(field: Field, array: pa.Array) -> Column:
    """The reverse; raises `UsageError` for a value that is not there."""
    if not field.ragged:
        return _flat(field, array)
    if _is_bytes(field):
        array = _whole(field, array).cast(pa.large_binary())
        ends = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
        data = array.buffers()[2]
        values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
        return Ragged(np.diff(ends).astype("<u4"), values)
    array = _whole(field, array)
    lengths = np.diff(array.offsets.to_numpy()).astype("<u4")
    return Ragged(lengths, _flat(field, array.flatten()))


def field_of(name: str, kind: pa.DataType) -> Field:
    """The field that a column of another program's is; raises `UsageError` where it is none."""
    if any(kind == each for each in (pa.binary(), pa.large_binary(), pa.string(), pa.large_string())):
        return Field(name, "uint8", (None,))
    if pa.types.is_fixed_size_binary(kind):
        return Field(name, "uint8", (kind.byte_width,))
    shape: list[int | None] = []
    leaf = kind
    while pa.types.is_fixed_size_list(leaf) or (not shape and _is_list(leaf)):
        shape.append(leaf.list_size if pa.types.is_fixed_size_list(leaf) else None)
        leaf = leaf.value_type
    dtype = _numpy_name(leaf)
    if dtype not in DTYPES:
        mend = "cast it to numbers, text, bytes or lists of one size within each other, or leave it out (--columns)"
        raise UsageError(f"column {name!r} is {kind}, which no record holds: {mend}")
    return Field(name, dtype, tuple(shape))


def _is_bytes(field: Field) -> bool:
    return field.dtype == "uint8" and field.shape == (None,)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _numpy_name(kind: pa.DataType) -> str:
    """The dtype of numbers; "" of anything else."""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return ""
    return str(np.dtype(kind.to_pandas_dtype()).name)


def _sizes(field: Field) -> Sequence[int]:
    return (*field.item_shape, 2) if field.dtype in COMPLEX else field.item_shape


def _nested(field: Field, values: npt.NDArray[Any]) -> pa.Array:
    flat = np.ascontiguousarray(values, field.numpy_dtype).reshape(-1)
    array = pa.array(flat.view(COMPLEX.get(field.dtype, flat.dtype)))
    for size in reversed(_sizes(field)):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _flat(field: Field, array: pa.Array) -> npt.NDArray[Any]:
    """[values, *item shape] out of lists within each other."""
    count = len(array)
    if pa.types.is_fixed_size_binary(array.type):
        array = _whole(field, array)
        data = np.frombuffer(array.buffers()[1], np.uint8)
        width = array.type.byte_width
        return data[array.offset * width : (array.offset + count) * width].reshape(count, width)
    while pa.types.is_fixed_size_list(array.type):
        array = _whole(field, array).flatten()
    flat = np.ascontiguousarray(_whole(field, array).to_numpy(zero_copy_only=False))
    return flat.view(field.numpy_dtype).reshape(count, *field.item_shape)


def _whole(field: Field, array: pa.Array) -> pa.Array:
    if array.null_count:
        raise UsageError(f"column {field.name!r} has values that are not there: fill them or leave their rows out")
    return array
