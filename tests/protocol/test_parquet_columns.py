"""What a column is in Arrow comes back, of any size."""

import numpy as np
import pytest

from protocol.chunk import Ragged
from protocol.schema import Field

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from protocol.parquet_columns import arrow_type, from_arrow, to_arrow


@pytest.mark.parametrize("field", [Field("x", "uint8", (None,)), Field("x", "int8", (None, 1))])
def test_more_values_than_32_bits_count_keep_their_bounds(field: Field) -> None:
    lengths = np.array([1 << 31, 1, 3], "<u4")
    values = np.zeros((lengths.sum(dtype=np.int64), *field.item_shape), field.numpy_dtype)  # never touched: no memory
    array = to_arrow(field, Ragged(lengths, values))
    assert array.type == arrow_type(field)
    found = from_arrow(field, array)
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == lengths.tolist()
    assert found.values.shape == values.shape
