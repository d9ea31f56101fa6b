"""Collation: how the records of a batch that differ in length become tensors."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from protocol.chunk import Ragged
from protocol.errors import UsageError

#: From the name of a ragged field and its records in a batch to that batch's tensors by name; pure.
Collate = Callable[[str, Ragged], Mapping[str, torch.Tensor]]


class Pad:
    """All as long as the longest of the batch: `name` [count, longest, *item shape], with `fill` behind the shorter
    ones, and `name.lengths`, int64 [count].
    """

    def __init__(self, fill: float = 0) -> None:
        self.fill = fill

    def __call__(self, name: str, column: Ragged) -> Mapping[str, torch.Tensor]:
        longest = int(column.lengths.max(initial=0))
        lengths = torch.from_numpy(column.lengths.astype(np.int64))
        return {name: torch.from_numpy(padded(column, longest, self.fill)), f"{name}.lengths": lengths}


class Nested:
    """A nested tensor (layout jagged, https://docs.pytorch.org/docs/stable/nested.html): nothing is padded."""

    def __call__(self, name: str, column: Ragged) -> Mapping[str, torch.Tensor]:
        values, bounds = torch.from_numpy(column.values), torch.from_numpy(column.bounds)
        return {name: torch.nested.nested_tensor_from_jagged(values, bounds)}


def padded(column: Ragged, length: int, fill: float = 0) -> npt.NDArray[Any]:
    """The records as an array [count, length, *item shape]: what is longer is cut off, what is missing is `fill`.

    Raises `UsageError` where the values' dtype does not hold that.
    """
    check_fill(fill, column.values.dtype)
    values = np.full((len(column), length, *column.values.shape[1:]), fill, column.values.dtype)
    lengths = column.lengths.astype(np.int64)
    inside = np.arange(len(column.values)) - np.repeat(column.bounds[:-1], lengths)
    rows = np.repeat(np.arange(len(column)), lengths)
    kept = inside < length
    values[rows[kept], inside[kept]] = column.values[kept]
    return values


def check_fill(fill: float, dtype: np.dtype[Any]) -> None:
    """Raise `UsageError` where values of this dtype cannot be `fill`."""
    held = True
    if dtype.kind in "iu":
        held = float(fill).is_integer() and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max
    elif dtype.kind == "b":
        held = fill in (0, 1)
    if not held:
        raise UsageError(f"fill {fill:g} is no {dtype}: give a number that the field may hold")
