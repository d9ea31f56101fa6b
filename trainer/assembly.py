"""Slicing: rows of chunks are copied into a block, and batches are parts of it.

The only copy between received frame (or slot) and batch. A block holds many small batches, so that neither copying nor
allocating is done for each of them.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import DataFault
from protocol.schema import Schema
from trainer.batch import Batch, Block, Span
from trainer.merge import Piece

BLOCK_BYTES: Final = 1 << 20
#: What was copied is handed out before anything new is heard of the stream.
BLOCK_BATCHES: Final = 256


class Assembly:
    """Fills one block after another with the fields of `schema`; none of them may be ragged."""

    def __init__(self, schema: Schema, dealing: Dealing, batch_size: int, *, pin_memory: bool) -> None:
        self._schema, self._dealing, self._batch_size = schema, dealing, batch_size
        self._pin_memory = pin_memory
        self._dtypes = {field.name: torch.from_numpy(np.empty(0, field.numpy_dtype)).dtype for field in schema.fields}
        batches = BLOCK_BYTES // max(1, schema.record_bytes * batch_size)
        self._block_rows = batch_size * max(1, min(BLOCK_BATCHES, batches))

    def begin(self, positions: Positions) -> None:
        """A new block, in memory of its own, whose first row is the next record after these positions."""
        self._filled = self._batched = 0
        tensors = {
            field.name: torch.empty(
                (self._block_rows, *field.item_shape), dtype=self._dtypes[field.name], pin_memory=self._pin_memory
            )
            for field in self._schema.fields
        }
        self._arrays: dict[str, npt.NDArray[np.generic]] = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._block = Block(tensors, self._batch_size, self._dealing, dict(positions))

    @property
    def room(self) -> int:
        """Rows that the block has left; at 0 a new one must `begin`."""
        return self._block_rows - self._filled

    def add(self, piece: Piece) -> None:
        """Copy the next rows in."""
        chunk, start, stop = piece.chunk, piece.start, piece.stop
        first = self._filled
        self._filled = end = first + stop - start
        for name, array in self._arrays.items():
            column = chunk.columns[name]
            assert isinstance(column, np.ndarray)
            array[first:end] = column[start:stop]
        times_ns = chunk.time_ns(start), chunk.time_ns(stop - 1)
        self._block.add(first, Span(chunk.partition, chunk.offset + start, stop - start, *times_ns))
        if piece.release is not None:
            piece.release()

    def batches(self, number: int) -> Iterator[Batch]:
        """Those that have become complete, numbered from `number` on."""
        block, size, first = self._block, self._batch_size, self._batched
        self._batched = self._filled // size
        for index in range(first, self._batched):
            yield Batch(block, index, size, number + index - first)

    def rest(self, number: int) -> Iterator[Batch]:
        """The rows that make no whole batch, at the stream's end: one batch, once, or none."""
        rows = self._filled - self._batched * self._batch_size
        if rows:
            self._filled -= rows
            yield Batch(self._block, self._batched, rows, number)

    @property
    def complete(self) -> int:
        """Batches that are complete and were not asked for."""
        return self._filled // self._batch_size - self._batched

    def check_labels(self, chunk: Chunk) -> None:
        """Raise `DataFault` where a label is outside the range that the schema announces."""
        name, allowed = self._schema.label, self._schema.label_range
        if name is None or allowed is None:
            return
        labels = np.asarray(chunk.columns[name])
        low, high = allowed
        if np.minimum.reduce(labels) < low or np.maximum.reduce(labels) > high:
            row = int(np.flatnonzero((labels < low) | (labels > high))[0])
            where = f"partition {chunk.partition}, offset {chunk.offset + row}"
            raise DataFault(f"label {labels[row]} at {where} is outside {low} to {high}")
