"""What the loader and its workers share: slots for chunks, and the progress that workers report.

Shared memory is allocated once, when the workers start; afterwards only numbers travel between the processes. (A
tensor sent through a queue costs the passing of a file descriptor each time.) It never has a name, so nothing stays
behind a killed process: torch's has one for the milliseconds in which it is allocated.
"""

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from mmap import mmap
from multiprocessing.reduction import DupFd
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocol.chunk import LENGTH_DTYPE, Chunk, Column, Columns, Ragged, ragged
from protocol.dealing import MAX_PARTITIONS, Positions
from protocol.errors import OversizedMessage, UsageError
from protocol.schema import Schema
from protocol.subscription import Progress

SLOT_POLL_S: Final = 0.0005
ALIGNMENT: Final = 64
SLOT_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class SlottedChunk:
    """A chunk that lies in a slot: these numbers are all that travels through the queue."""

    worker: int
    slot: int
    partition: int
    offset: int
    count: int
    first_time_ns: int
    last_time_ns: int


class Slots:
    """`per_worker` slots for each worker, each with room for `rows` records of `schema`, or for as many as fit into
    `SLOT_BYTES`. What differs in length from record to record has `SLOT_BYTES` more, shared out among those fields.

    A worker fills its own in a ring, the loader frees them.
    """

    def __init__(self, workers: int, per_worker: int, schema: Schema, rows: int) -> None:
        fields = sum(field.ragged for field in schema.fields)
        self._rows = min(rows, max(1, SLOT_BYTES // max(1, schema.record_bytes)))
        self._fields = schema.fields
        #: How many elements the records of a slot may have in each ragged field.
        self._elements = {each.name: SLOT_BYTES // fields // each.item_bytes for each in schema.fields if each.ragged}
        #: Where a slot's arrays lie, in bytes; each begins where every dtype may.
        sizes = [-(-prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for dtype, shape in self._layout()]
        self._places = [0, *accumulate(sizes)]
        self._memory = SharedZeros((workers, per_worker, self._places[-1]), np.uint8)
        self._busy = SharedZeros((workers, per_worker), np.uint8)
        self._closed = SharedZeros((1,), np.uint8)
        self._columns: dict[tuple[int, int], dict[str, Column]] = {}
        self._next = 0

    def room(self, worker: int) -> bool:
        """Whether this worker's next slot is free."""
        return not self._busy.array[worker, self._next]

    @property
    def closed(self) -> bool:
        """Whether the loader takes nothing any more."""
        return bool(self._closed.array[0])

    def fits(self, chunk: Chunk) -> bool:
        """Whether a chunk fits into a slot."""
        if chunk.count > self._rows:
            return False
        return all(len(ragged(chunk.columns[name]).values) <= most for name, most in self._elements.items())

    def parts(self, chunk: Chunk) -> Iterator[Chunk]:
        """A chunk in parts that fit; a record that does not is a part alone."""
        if chunk.count == 1 or self.fits(chunk):
            yield chunk
            return
        half = chunk.count // 2
        yield from self.parts(chunk.part(0, half))
        yield from self.parts(chunk.part(half, chunk.count))

    def put(self, worker: int, chunk: Chunk, while_full: Callable[[], None] = lambda: None) -> SlottedChunk | None:
        """Copy a chunk that fits into this worker's next slot. None once the loader has closed.

        Waits until that slot is free, and calls `while_full` again and again meanwhile.
        """
        if not self.fits(chunk):
            raise OversizedMessage(f"a chunk of {chunk.count} records does not fit a slot of {self._rows}")
        slot = self._next
        busy = self._busy.array
        self._next = (slot + 1) % busy.shape[1]
        while busy[worker, slot]:
            if self.closed:
                return None
            while_full()
            time.sleep(SLOT_POLL_S)
        for name, into in self._columns_of(worker, slot).items():
            if isinstance(into, Ragged):
                column = ragged(chunk.columns[name])
                into.lengths[: chunk.count] = column.lengths
                into.values[: len(column.values)] = column.values
            else:
                into[: chunk.count] = chunk.columns[name]
        busy[worker, slot] = 1
        times_ns = chunk.first_time_ns, chunk.last_time_ns
        return SlottedChunk(worker, slot, chunk.partition, chunk.offset, chunk.count, *times_ns)

    def view(self, slotted: SlottedChunk) -> Chunk:
        """The chunk over the slot's memory, which stays as it is until `free`."""
        columns = self._columns_of(slotted.worker, slotted.slot)
        shown: Columns = {name: column[: slotted.count] for name, column in columns.items()}
        return Chunk(slotted.partition, slotted.offset, shown, slotted.first_time_ns, slotted.last_time_ns)

    def free(self, slotted: SlottedChunk) -> None:
        """The last copy out of the slot is done."""
        self._busy.array[slotted.worker, slotted.slot] = 0

    def close(self) -> None:
        """Let workers that wait for a slot go."""
        self._closed.array[0] = 1

    def _layout(self) -> Iterator[tuple[np.dtype[Any], tuple[int, ...]]]:
        """The arrays of a slot: one a field, two (lengths and values) where it is ragged."""
        for field in self._fields:
            if field.ragged:
                yield LENGTH_DTYPE, (self._rows,)
            rows = self._elements[field.name] if field.ragged else self._rows
            yield field.numpy_dtype, (rows, *field.item_shape)

    def _columns_of(self, worker: int, slot: int) -> dict[str, Column]:
        """A slot's memory as columns, with room for the most that fits; made once in each process."""
        columns = self._columns.get((worker, slot))
        if columns is None:
            memory = self._memory.array[worker, slot]
            arrays = iter(
                np.frombuffer(memory, dtype, prod(shape), at).reshape(shape)
                for (dtype, shape), at in zip(self._layout(), self._places, strict=False)
            )
            columns = self._columns[worker, slot] = {
                field.name: _Room(next(arrays), next(arrays)) if field.ragged else next(arrays)
                for field in self._fields
            }
        return columns


class _Room(Ragged):
    """Memory for ragged records: the lengths change, so nothing that follows from them is kept."""

    def __getitem__(self, rows: slice) -> Ragged:
        lengths = self.lengths[rows]
        return Ragged(lengths, self.values[: int(lengths.sum(dtype=np.int64))])


class ProgressBoard:
    """What has been trained and committed, partition by partition: written by the loader, read by its workers.

    It has room for as many partitions as a stream may ever have: one may grow while it is read.
    """

    def __init__(self) -> None:
        self._cells = SharedZeros((2, MAX_PARTITIONS), np.int64)
        self._flags = SharedZeros((2,), np.uint8)

    def mark(self, trained: Mapping[int, int]) -> None:
        """These positions have been trained."""
        _write(self._cells.array[0], trained)

    def commit(self, committed: Mapping[int, int]) -> None:
        """The oldest retained checkpoint has seen these positions."""
        _write(self._cells.array[1], committed)
        self._flags.array[1] = 1

    def make_durable(self) -> None:
        """There is, or will be, a checkpoint to come back to: say so before anything more is marked."""
        self._flags.array[0] = 1

    @property
    def durable(self) -> bool:
        """Whether `make_durable` was said."""
        return bool(self._flags.array[0])

    def of(self, partitions: Iterable[int]) -> Progress:
        """As a reader of these partitions reports it.

        The trained positions are read before the flag, so that a producer which is told of records trained after
        `make_durable` is told of the flag as well.
        """
        cells = self._cells.array
        trained = _read(cells[0], partitions)
        durable, committed = self._flags.array.tolist()
        return Progress(
            trained=trained, committed=_read(cells[1], partitions) if committed else None, durable=bool(durable)
        )


class SharedZeros:
    """An `array` of zeros that this process and those that it is handed to as they start see alike."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        descriptor, nbytes = os.memfd_create("headrace"), prod(shape) * np.dtype(dtype).itemsize
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as error:
            os.close(descriptor)
            raise UsageError(f"shared memory has no room for {nbytes >> 20} MiB: use fewer workers") from error
        self._map(descriptor, shape, dtype)

    def _map(self, descriptor: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        self.array = np.frombuffer(mmap(descriptor, 0), dtype).reshape(shape)

    def __getstate__(self) -> tuple[Any, ...]:
        return DupFd(self._descriptor), self.array.shape, self.array.dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        descriptor, shape, dtype = state
        self._map(descriptor.detach(), shape, dtype)


def _write(row: npt.NDArray[np.int64], positions: Mapping[int, int]) -> None:
    for partition, offset in positions.items():
        row[partition] = offset


def _read(row: npt.NDArray[np.int64], partitions: Iterable[int]) -> Positions:
    return {partition: int(row[partition]) for partition in partitions}
