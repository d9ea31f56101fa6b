"""Slicing: rows of chunks are copied into a block, and batches are parts of it.

The only copy between received frame (or slot) and batch, and where a frame fits not even that. A block holds many small
batches, so that neither copying nor allocating is done for each of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import torch

from protocol.chunk import Column, Columns, Ragged, concatenate, ragged
from protocol.dealing import Positions
from protocol.schema import Field, Schema
from trainer.batch import Batch, Block
from trainer.collation import Collate, Pad
from trainer.origin import Origin

BLOCK_BYTES: Final = 1 << 20
#: What was copied is handed out before anything new is heard of the stream.
BLOCK_BATCHES: Final = 256


class Rows(Protocol):
    """Rows that are next to be trained. `columns` are arrays [count, *shape] or `Ragged`; `release` frees them after
    the copy.
    """

    @property
    def count(self) -> int: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def release(self) -> Callable[[], None] | None: ...


class Assembly:
    """Fills one block after another with the fields of `schema`.

    Where chunks have memory of their own (`owned`) and the rows of one are whole batches, it becomes the block itself.
    Of ragged fields, which `collate` makes tensors of, a block holds one batch: of its size nothing is known.
    """

    def __init__(
        self,
        schema: Schema,
        batch_size: int,
        *,
        owned: bool = False,
        pin_memory: bool = False,
        collate: Collate | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._fields = [field for field in schema.fields if not field.ragged]
        self._ragged = [field for field in schema.fields if field.ragged]
        self._owned, self._pin_memory = owned and not pin_memory and not self._ragged, pin_memory
        self._collate = collate or Pad()
        self._dtypes = {field.name: torch.from_numpy(np.empty(0, field.numpy_dtype)).dtype for field in self._fields}
        batches = 1 if self._ragged else BLOCK_BYTES // max(1, schema.record_bytes * batch_size)
        self._block_rows = batch_size * max(1, min(BLOCK_BATCHES, batches))
        self.begin()

    def begin(self) -> None:
        """What had come for a batch that is not complete is forgotten."""
        self._rows = self._filled = self._batched = 0

    def room(self, waiting: int) -> int:
        """How many of the rows that wait may be added at once; none while a full block has batches to hand out."""
        if self._filled < self._rows:
            return self._rows - self._filled
        if self.complete:
            return 0
        whole = waiting // self._batch_size * self._batch_size
        return whole if self._becomes_block(whole) else self._block_rows

    def add(self, piece: Rows, after: Positions) -> None:
        """Take the next rows in; `after` are the positions behind them."""
        rows, columns, origin = piece.count, piece.columns, piece.origin
        if self._filled == self._rows:
            whole = rows % self._batch_size == 0 and self._becomes_block(rows)
            tensors = _own(columns) if whole else self._empty()
            self._rows, self._filled, self._batched = (rows if whole else self._block_rows), 0, 0
            self._pieces: dict[str, list[Ragged]] = {field.name: [] for field in self._ragged}
            made = partial(collated, self._ragged, self._pieces, self._collate, pin_memory=self._pin_memory)
            ragged_columns = made if self._ragged else None
            before = origin.positions(after, 0)
            self._block = Block(tensors, self._batch_size, before, ragged_columns, self._pieces)
            self._arrays = {} if whole else {name: tensor.numpy() for name, tensor in tensors.items()}
        first = self._filled
        self._filled = end = first + rows
        for name, array in self._arrays.items():
            array[first:end] = columns[name]
        for name, pieces in self._pieces.items():
            pieces.append(ragged(columns[name]).copy())
        self._block.add(first, origin)
        if piece.release is not None:
            piece.release()

    def _becomes_block(self, rows: int) -> bool:
        """Copying is cheaper where a chunk holds a few batches only."""
        return self._owned and 2 * rows >= self._block_rows

    def _empty(self) -> dict[str, torch.Tensor]:
        return {
            field.name: torch.empty(
                (self._block_rows, *field.item_shape), dtype=self._dtypes[field.name], pin_memory=self._pin_memory
            )
            for field in self._fields
        }

    def batches(self, number: int) -> Iterator[Batch]:
        """Those that have become complete, numbered from `number` on."""
        if not self.complete:
            return
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


def collated(
    fields: Sequence[Field], pieces: Mapping[str, Sequence[Ragged]], collate: Collate, *, pin_memory: bool
) -> dict[str, torch.Tensor]:
    """The ragged columns of a batch, made of their pieces."""
    tensors: dict[str, torch.Tensor] = {}
    for field in fields:
        tensors |= collate(field.name, ragged(concatenate(field, list(pieces[field.name]))))
    return {name: tensor.pin_memory() for name, tensor in tensors.items()} if pin_memory else tensors


def _own(columns: Mapping[str, Column]) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, rows in columns.items():
        assert not isinstance(rows, Ragged), "the block is one batch"
        good = rows.flags.aligned and rows.flags.writeable  # as torch wants it
        tensors[name] = torch.from_numpy(rows if good else rows.copy())
    return tensors
