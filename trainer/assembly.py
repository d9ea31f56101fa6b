"""Slicing: rows of chunks are copied into the tensors of one batch. The only copy between frame (or slot) and batch."""

import numpy as np
import numpy.typing as npt
import torch

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import DataFault
from protocol.schema import Schema
from trainer.batch import Batch
from trainer.merge import Piece


class Assembly:
    """Fills one batch after another with the fields of `schema`; none of them may be ragged."""

    def __init__(self, schema: Schema, batch_size: int, *, pin_memory: bool) -> None:
        self._schema, self._batch_size, self._pin_memory = schema, batch_size, pin_memory
        self._dtypes = {field.name: torch.from_numpy(np.empty(0, field.numpy_dtype)).dtype for field in schema.fields}
        self.begin()

    def begin(self) -> None:
        """A new batch, in memory of its own; what had come for another one is forgotten."""
        self.rows = 0
        #: (partition, offset, count) of what has come so far.
        self.spans: list[tuple[int, int, int]] = []
        self._newest_time_ns = 0
        self._tensors = {
            field.name: torch.empty(
                (self._batch_size, *field.item_shape), dtype=self._dtypes[field.name], pin_memory=self._pin_memory
            )
            for field in self._schema.fields
        }
        self._arrays: dict[str, npt.NDArray[np.generic]] = {
            name: tensor.numpy() for name, tensor in self._tensors.items()
        }

    @property
    def missing(self) -> int:
        """Rows that a whole batch still needs."""
        return self._batch_size - self.rows

    def add(self, piece: Piece) -> None:
        """Copy the next rows in."""
        end = self.rows + piece.stop - piece.start
        for name, array in self._arrays.items():
            column = piece.chunk.columns[name]
            assert isinstance(column, np.ndarray)
            array[self.rows : end] = column[piece.start : piece.stop]
        self.rows = end
        self.spans.append(piece.span)
        self._newest_time_ns = max(self._newest_time_ns, piece.chunk.time_ns(piece.stop - 1))
        if piece.release is not None:
            piece.release()

    def finish(self, number: int, positions: Positions) -> Batch:
        """The batch, with as many rows as there are; `begin` comes before the next row."""
        columns = self._tensors
        if self.missing:
            columns = {name: tensor[: self.rows].clone() for name, tensor in columns.items()}
        batch = Batch(columns, self.rows, number, positions, tuple(self.spans), self._newest_time_ns)
        self.rows, self.spans = 0, []  # they are no longer waiting here
        return batch

    def check_labels(self, chunk: Chunk) -> None:
        """Raise `DataFault` where a label is outside the range that the schema announces."""
        name, allowed = self._schema.label, self._schema.label_range
        if name is None or allowed is None:
            return
        labels = np.asarray(chunk.columns[name])
        low, high = allowed
        if labels.min() < low or labels.max() > high:
            row = int(np.flatnonzero((labels < low) | (labels > high))[0])
            where = f"partition {chunk.partition}, offset {chunk.offset + row}"
            raise DataFault(f"label {labels[row]} at {where} is outside {low} to {high}")
