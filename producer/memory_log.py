"""A live source's log: in memory, bounded by bytes, gone with the process."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from producer.block import Block
from producer.conform import RecordCheck
from producer.kept_stripes import KeptStripes
from protocol.chunk import Chunk, Column, Ragged
from protocol.dealing import Dealing, Positions
from protocol.errors import LogFull, StreamError, UsageError
from protocol.log import Log
from protocol.schema import Schema
from protocol.stream import StreamInfo

WhenFull = Literal["block", "drop-oldest"]


@dataclass(frozen=True, kw_only=True)
class MemoryLogSettings:
    """How much a live stream keeps, and what happens when that is full."""

    bytes: int = 256 << 20
    """Memory for the records that are kept; at least one stripe of each partition and one more."""
    full: WhenFull = "block"
    """`block` makes the writer wait until trainers commit; `drop-oldest` forgets the oldest stripe and counts it."""


class MemoryLog(Log):
    """What was appended, dealt to partitions in stripes, until it is trimmed.

    It keeps whole stripes and never allocates more than `settings.bytes`. A full log makes `append` wait until a trim
    frees a stripe (`block`), or forgets the oldest stripe and counts in `dropped` what of it had not been trimmed.

    `on_append` is called after records became readable and after the end, on the thread that appended, without the
    lock. Every log has an incarnation of its own, drawn at random.
    """

    def __init__(
        self,
        schema: Schema,
        dealing: Dealing,
        settings: MemoryLogSettings | None = None,
        *,
        source: str = "",
        on_append: Callable[[], None] | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        settings = MemoryLogSettings() if settings is None else settings
        if settings.full not in get_args(WhenFull):
            raise UsageError(f"a full log cannot {settings.full!r}: choose one of {', '.join(get_args(WhenFull))}")
        least = (dealing.partitions + 1) * Block.bytes_for(schema.fields, dealing.stripe)
        if settings.bytes < least:
            raise UsageError(
                f"a log of {settings.bytes} bytes is too small: give at least {least} "
                f"({dealing.partitions + 1} stripes of {dealing.stripe} records), or fewer partitions"
            )
        self.info = StreamInfo(incarnation=secrets.token_hex(16), schema=schema, dealing=dealing, source=source)
        self.on_append = on_append
        self._check = RecordCheck(schema)
        self._ragged = [number for number, field in enumerate(schema.fields) if field.ragged]
        self._kept = KeptStripes(schema, dealing, settings.bytes)
        self._drops = settings.full == "drop-oldest"
        self._wall_clock_ns = wall_clock_ns
        self._lock = threading.Lock()
        self._room_made = threading.Condition(self._lock)
        self._waiting = 0
        self._ended = self._closed = False

    @property
    def records(self) -> int:
        """Number of records that were ever appended."""
        return self._kept.records

    @property
    def allocated_bytes(self) -> int:
        """Bytes that the log holds at this moment; never more than its settings allow."""
        return self._kept.nbytes

    @property
    def filled(self) -> float:
        """The share of its memory that the log holds: near 1, an early commit of the trainers makes room."""
        return self._kept.filled

    @property
    def dropped(self) -> Positions:
        """Records by partition that a full log forgot before they were trimmed."""
        with self._lock:
            return dict(self._kept.dropped)

    @property
    def waiting(self) -> int:
        """Appends that wait for room at this moment."""
        return self._waiting

    def append(self, record: Mapping[str, Any], *, time_ns: int | None = None, timeout_s: float | None = None) -> int:
        """Append one record and return how many the stream has with it.

        `time_ns` is its event time, now if it is not given. Raises `DataFault` where the record is not what the schema
        says, `LogFull` after `timeout_s` without room. Either leaves the log as it was.
        """
        values = self._check.record(record)
        elements = [len(values[number]) for number in self._ragged] if self._ragged else ()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            block = self._block_with_room(elements, deadline)
            block.put(values, self._wall_clock_ns() if time_ns is None else time_ns)
            self._kept.records = records = self._kept.records + 1
        self._tell()
        return records

    def append_columns(
        self,
        columns: Mapping[str, Any],
        *,
        times_ns: int | npt.NDArray[np.int64] | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Append as many records as the columns have ([n, *shape], or `Ragged`) and return how many the stream has.

        All of them are checked before the first is appended. Where the log fills up on the way, readers see those that
        were appended; `LogFull` says how many.
        """
        checked = self._check.columns(columns)
        count, done = len(checked[0]), 0
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while done < count:
            try:
                done += self._append_rows(checked, done, times_ns, deadline)
            except LogFull as error:
                raise LogFull(f"{error}; {done} of {count} records were appended") from error
            self._tell()
        return self._kept.records

    def end(self) -> None:
        """No record will follow: the log end is final."""
        with self._lock:
            self._ended = True
            self._room_made.notify_all()
        self._tell()

    def close(self) -> None:
        """Forget everything; an append that waits for room raises `StreamError`."""
        with self._lock:
            self._closed = True
            self._kept.clear()
            self._room_made.notify_all()

    def log_start(self) -> Positions:
        with self._lock:
            return self._kept.log_start()

    def log_end(self) -> Positions:
        with self._lock:
            return self._kept.log_end()

    @property
    def ended(self) -> bool:
        return self._ended

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        with self._lock:
            block, row = self._kept.find(partition, offset)
            end = min(row + max_records, block.count)
            return Chunk(
                partition=partition,
                offset=offset,
                columns=block.columns(row, end),
                first_time_ns=block.time_ns(row),
                last_time_ns=block.time_ns(end - 1),
            )

    def offset_at(self, partition: int, time_ns: int) -> int:
        with self._lock:
            return self._kept.offset_at(partition, time_ns)

    def trim(self, positions: Mapping[int, int]) -> None:
        """Frees the stripes before these positions, oldest first in stream order."""
        with self._lock:
            self._kept.trim(positions)
            self._room_made.notify_all()

    def _append_rows(
        self, columns: Sequence[Column], done: int, times_ns: int | npt.NDArray[np.int64] | None, deadline: float | None
    ) -> int:
        """Append the rows from `done` on that fit into one block; returns their number."""
        with self._lock:
            rows = slice(done, done + self._kept.free_rows)
            parts = [column[rows] for column in columns]
            elements = [len(part.values) for part in parts if isinstance(part, Ragged)]
            block = self._block_with_room(elements, deadline)
            parts = [part[: block.free] for part in parts]  # another thread may have appended during the wait
            if times_ns is None:
                times_ns = self._wall_clock_ns()
            block.put_many(parts, times_ns[rows][: block.free] if isinstance(times_ns, np.ndarray) else times_ns)
            self._kept.records += len(parts[0])
        return len(parts[0])

    def _block_with_room(self, elements: Sequence[int], deadline: float | None) -> Block:
        """The block for the next rows, with room for `elements` of each ragged field; makes or awaits that room."""
        while True:
            if self._closed:
                raise StreamError("the log was closed: nothing can be appended")
            if self._ended:
                raise UsageError("the stream was ended: open a new one to append more")
            if (block := self._kept.block_with_room(elements)) is not None:
                return block
            if self._drops:
                self._kept.drop_oldest()
            else:
                self._wait_for_room(deadline)

    def _wait_for_room(self, deadline: float | None) -> None:
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            raise LogFull(f"no room came free in a log of {self._kept.max_bytes} bytes within the time that was given")
        self._waiting += 1
        try:
            self._room_made.wait(remaining_s)
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        if self.on_append is not None:
            self.on_append()
