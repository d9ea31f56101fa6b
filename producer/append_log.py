"""A log that a live source writes: records are checked, dealt to stripes, and wait for room where there is none."""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from producer.block import Block
from producer.kept_stripes import KeptStripes
from producer.writers import Numbered, Writers
from protocol.chunk import Column, Ragged
from protocol.conform import RecordCheck
from protocol.dealing import Positions
from protocol.errors import LogFull, StillFull, StreamError, UsageError
from protocol.log import Log
from protocol.stream import StreamInfo

WhenFull = Literal["block", "drop-oldest", "fail"]

MEMORY_BYTES = 256 << 20
DISK_BYTES = 16 << 30


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How much a live stream keeps, where, and what happens when that is full."""

    path: str = ""
    """folder of a log on disk, which survives this program; none: in memory"""
    bytes: int = 0
    """room for the records that are kept; 0: 256 MiB in memory, 16 GiB on disk"""
    full: WhenFull = "block"
    """block makes the writer wait until trainers commit; drop-oldest forgets the oldest stripe and counts it; fail
    refuses the record"""
    linger: float = 5.0
    """on disk: milliseconds that records may wait for others, to be synced in one write"""
    keep: float = 0.0
    """on disk: seconds after which a record is forgotten, whoever needs it; 0: never"""

    def __post_init__(self) -> None:
        if self.full not in get_args(WhenFull):
            raise UsageError(f"a full log cannot {self.full!r}: choose one of {', '.join(get_args(WhenFull))}")
        if min(self.bytes, self.linger, self.keep) < 0:
            raise UsageError("bytes, linger and keep of a log are 0 or more")

    @property
    def max_bytes(self) -> int:
        """Bytes of records that may be kept."""
        return self.bytes or (DISK_BYTES if self.path else MEMORY_BYTES)


class AppendLog(Log):
    """Takes records in, from any thread, and keeps them in stripes in memory; a subclass says what may be read.

    `on_append` is called after records became readable and after the end, without the lock. `kept` is where rows are
    written first, `writers` who has given which.
    """

    def __init__(
        self,
        info: StreamInfo,
        settings: LogSettings,
        kept: KeptStripes,
        writers: Writers,
        *,
        on_append: Callable[[], None] | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.info = info
        self.on_append = on_append
        self._settings, self._kept, self._writers = settings, kept, writers
        self._check = RecordCheck(info.schema)
        self._ragged = [number for number, field in enumerate(info.schema.fields) if field.ragged]
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
    def waiting(self) -> int:
        """Appends that wait for room at this moment."""
        return self._waiting

    @property
    @abstractmethod
    def durable(self) -> int:
        """Number of records that this log keeps its promise for: nothing but what it says can take them away."""

    @abstractmethod
    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything appended so far is durable. Raises `StreamTimeout` after `timeout_s`."""

    @property
    @abstractmethod
    def dropped(self) -> Positions:
        """Records by partition that were forgotten before they were trimmed, in this life."""

    def taken(self, writer: str) -> int:
        """The number of the record that is due from a writer: it has given so many, be they let in or passed over."""
        with self._lock:
            return self._writers.taken(writer)

    def durable_of(self, writer: str) -> int:
        """The same for those that the log keeps its promise for: what a writer has numbered below, it need not keep."""
        with self._lock:
            return self._writers.durable(writer)

    def pass_over(self, writer: Numbered) -> None:
        """The record of this number is not let in: its writer goes on behind it, durably with the next write."""
        with self._lock:
            self._writers.pass_over(writer, self._kept.records)
        self._tell()

    def append(
        self,
        record: Mapping[str, Any],
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        writer: Numbered | None = None,
    ) -> int:
        """Append one record and return how many the stream has with it.

        `time_ns` is its event time, now if it is not given; `writer` who gave it, and as which of its records. Raises
        `DataFault` where the record is not what the schema says, `LogFull` after `timeout_s` without room. Either
        leaves the log as it was.
        """
        values = self._check.record(record)
        elements = [len(values[number]) for number in self._ragged] if self._ragged else ()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            block = self._block_with_room(elements, deadline)
            block.put(values, self._wall_clock_ns() if time_ns is None else time_ns)
            records = self._appended(1, writer)
        self._tell()
        return records

    def append_columns(
        self,
        columns: Mapping[str, Any],
        *,
        times_ns: int | npt.NDArray[np.int64] | None = None,
        timeout_s: float | None = None,
        writer: Numbered | None = None,
    ) -> int:
        """Append as many records as the columns have ([n, *shape], or `Ragged`) and return how many the stream has.

        `writer` has the number of the first of them. All are checked before the first is appended. Where the log fills
        up on the way, readers see those that were appended; `LogFull` says how many.
        """
        checked = self._check.columns(columns)
        count, done = len(checked[0]), 0
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while done < count:
            try:
                numbered = None if writer is None else (writer[0], writer[1] + done)
                done += self._append_rows(checked, done, times_ns, deadline, numbered)
            except LogFull as error:
                raise type(error)(f"{error}; {done} of {count} records were appended") from error
            self._tell()
        return self._kept.records

    def end(self) -> None:
        """No record will follow: the log end is final."""
        with self._lock:
            self._ended = True
            self._room_made.notify_all()
        self._tell()

    def _append_rows(
        self,
        columns: Sequence[Column],
        done: int,
        times_ns: int | npt.NDArray[np.int64] | None,
        deadline: float | None,
        writer: Numbered | None,
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
            self._appended(len(parts[0]), writer)
        return len(parts[0])

    def _appended(self, rows: int, writer: Numbered | None) -> int:
        """So many rows were written; returns how many records there are now."""
        if writer is not None:
            self._writers.give(writer, self._kept.records, rows)
        self._kept.records += rows
        return self._kept.records

    def _block_with_room(self, elements: Sequence[int], deadline: float | None) -> Block:
        """The block for the next rows, with room for `elements` of each ragged field; makes or awaits that room."""
        while True:
            self._check_open()
            if (block := self._kept.block_with_room(elements)) is not None:
                return block
            self._make_room(deadline)

    def _check_open(self) -> None:
        """Raise where nothing can be appended any more. The caller holds the lock."""
        if self._closed:
            raise StreamError("the log was closed: nothing can be appended")
        if self._ended:
            raise UsageError("the stream was ended: open a new one to append more")

    @abstractmethod
    def _make_room(self, deadline: float | None) -> None:
        """Called with the lock where no row fits in: forget something, wait, or raise `LogFull`."""

    def _wait_for_room(self, deadline: float | None) -> None:
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            size = f"a log of {self._settings.max_bytes} bytes"
            raise StillFull(f"no room came free in {size} within the time that was given")
        self._waiting += 1
        try:
            self._room_made.wait(remaining_s)
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        """Rows were appended, or the end was."""
        if self.on_append is not None:
            self.on_append()


def check_size(info: StreamInfo, settings: LogSettings) -> None:
    """Raise `UsageError` where a log has no room for a stripe of each partition and the next one."""
    partitions, stripe = info.dealing.partitions, info.dealing.stripe
    least = (partitions + 1) * Block.bytes_for(info.schema.fields, stripe)
    if settings.max_bytes < least:
        raise UsageError(
            f"a log of {settings.max_bytes} bytes is too small: give at least {least} "
            f"({partitions + 1} stripes of {stripe} records), or fewer partitions"
        )
