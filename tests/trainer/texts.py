"""A stream of records that differ in length, and what each of them is, by its id alone."""

import numpy as np
import numpy.typing as npt

from producer.source import ColumnSource
from protocol.chunk import LENGTH_DTYPE, Column, Ragged
from protocol.schema import Field, Schema

SCHEMA = Schema(
    (
        Field("id", "int64"),
        Field("text", "uint8", (None,)),
        Field("steps", "float32", (None, 2)),
        Field("label", "int64"),
    ),
    label="label",
    label_range=(0, 4),
)


def text_of(record: int) -> npt.NDArray[np.uint8]:
    """0 to 40 bytes."""
    return np.full(record * 7 % 41, record % 251, np.uint8)


def steps_of(record: int) -> npt.NDArray[np.float32]:
    """0 to 4 pairs of numbers."""
    return np.full((record % 5, 2), record / 8, np.float32)


def texts(records: int) -> ColumnSource:
    """So many records, in stripes of 256."""
    ids = np.arange(records)
    texts = [text_of(record) for record in range(records)]
    steps = [steps_of(record) for record in range(records)]
    columns: dict[str, Column] = {
        "id": ids,
        "text": Ragged(np.array([*map(len, texts)], LENGTH_DTYPE), np.concatenate(texts)),
        "steps": Ragged(np.array([*map(len, steps)], LENGTH_DTYPE), np.concatenate(steps)),
        "label": ids % 5,
    }
    return ColumnSource("texts", SCHEMA, columns)
