"""The edge of the trainer: records of a producer that holds nothing against its own schema."""

import numpy as np

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import DataFault
from protocol.quarantine import Quarantine
from protocol.schema import Schema


class LabelCheck:
    """Holds the labels of one stream against the range that its schema announces.

    Without a quarantine a label outside raises `DataFault`; else its record is kept aside, once, however often it is
    read. It counts as rejected when its position passes, which is not known here.
    """

    def __init__(self, schema: Schema, quarantine: Quarantine | None) -> None:
        self._name, self._range, self._quarantine = schema.label, schema.label_range, quarantine
        self._kept: Positions = {}

    def bad_rows(self, chunk: Chunk) -> list[int]:
        """The rows that must not be trained on, in order."""
        if self._name is None or self._range is None:
            return []
        labels = np.asarray(chunk.columns[self._name])
        low, high = self._range
        if np.minimum.reduce(labels) >= low and np.maximum.reduce(labels) <= high:
            return []
        outside = ((labels < low) | (labels > high)).reshape(chunk.count, -1).any(axis=1)
        rows = [int(row) for row in np.flatnonzero(outside)]
        for row in rows:
            where = f"partition {chunk.partition}, offset {chunk.offset + row}"
            self._reject(chunk, row, f"label {labels[row]} at {where} is outside {low} to {high}")
        return rows

    def _reject(self, chunk: Chunk, row: int, reason: str) -> None:
        if self._quarantine is None:
            raise DataFault(reason)
        offset = chunk.offset + row
        if offset >= self._kept.get(chunk.partition, 0):  # else it is read again
            record = {name: np.asarray(column)[row] for name, column in chunk.columns.items()}
            self._quarantine.keep(record, reason, (chunk.partition, offset))
            self._kept[chunk.partition] = offset + 1
