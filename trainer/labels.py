"""The edge of the trainer: records of a producer that holds nothing against its own schema."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from protocol.chunk import Chunk, value_of
from protocol.dealing import Positions
from protocol.errors import DataFault
from protocol.quarantine import Quarantine
from protocol.schema import Schema


class Rejects:
    """What is done with a record of one stream that cannot be trained on: without a quarantine it raises `DataFault`.

    Else it is kept aside, once, however often it is read. It counts as rejected when its position passes, which is not
    known here.
    """

    def __init__(self, quarantine: Quarantine | None) -> None:
        self._quarantine = quarantine
        self._kept: Positions = {}

    def reject(self, partition: int, offset: int, record: Mapping[str, Any], reason: str) -> None:
        """This record is not to be trained on; those of a partition come in order."""
        if self._quarantine is None:
            raise DataFault(reason)
        if offset >= self._kept.get(partition, 0):  # else it is read again
            self._quarantine.keep(record, reason, (partition, offset))
            self._kept[partition] = offset + 1


class LabelCheck:
    """Holds the labels of one stream against the range that its schema announces."""

    def __init__(self, schema: Schema, rejects: Rejects) -> None:
        self._name, self._range, self._rejects = schema.label, schema.label_range, rejects

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
            offset, record = chunk.offset + row, {name: value_of(column, row) for name, column in chunk.columns.items()}
            reason = f"label {labels[row]} at partition {chunk.partition}, offset {offset} is outside {low} to {high}"
            self._rejects.reject(chunk.partition, offset, record, reason)
        return rows
