"""What the first records of a source make doubtful though it would be served: each a line with the mend."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.sample import Sample
from protocol.chunk import Ragged
from protocol.schema import Field, Schema


def doubts(sample: Sample) -> Iterator[str]:
    """Lines about the fields of a sample that has a schema."""
    assert sample.schema is not None
    columns = sample.columns()
    for field in sample.schema.fields:
        column = columns[field.name]
        values = column.values if isinstance(column, Ragged) else column
        if not values.size:
            yield f"field {field.name!r} was empty in every record: is that meant?"
            continue
        yield from _no_numbers(field, values)
        yield from _wide_bytes(field, values)
        yield from _labels(sample.schema, field, values)


def _no_numbers(field: Field, values: npt.NDArray[Any]) -> Iterator[str]:
    if values.dtype.kind in "fc" and (bad := np.count_nonzero(~np.isfinite(values))):
        mend = "--reject_nan true counts such records as bad ones, --on_nan skip lets a trainer pass over their batches"
        yield f"field {field.name!r}: {bad:,} of {values.size:,} values are NaN or infinite: {mend}"


def _wide_bytes(field: Field, values: npt.NDArray[Any]) -> Iterator[str]:
    """Pictures whose values would fit into bytes."""
    if len(field.shape) < 2 or values.dtype.kind not in "iuf" or values.itemsize == 1 or not np.isfinite(values).all():
        return
    low, high = values.min(), values.max()
    if low >= 0 and 1 < high <= 255 and np.array_equal(values, values.astype(np.uint8)):
        times = f"{values.itemsize} times as large as needed"
        yield f"field {field.name!r}: {field.dtype} of whole numbers {low:g} to {high:g} is {times}: give uint8"


def _labels(schema: Schema, field: Field, values: npt.NDArray[Any]) -> Iterator[str]:
    if field.name == schema.label and schema.label_range is None:
        seen = f"{values.min()} to {values.max()} were seen"
        yield f"field {field.name!r}: labels of no declared range ({seen}), so a wrong one gets in: declare a schema"
