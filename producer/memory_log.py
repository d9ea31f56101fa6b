"""A live source's log in memory: bounded by bytes, gone with the process."""

import secrets
import time
from collections.abc import Callable, Mapping

from producer.append_log import AppendLog, LogSettings, check_size
from producer.kept_stripes import KeptStripes
from producer.writers import Writers
from protocol.change import Change
from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import LogFull
from protocol.schema import Schema
from protocol.stream import StreamInfo


class MemoryLog(AppendLog):
    """What was appended, dealt to partitions in stripes, until it is trimmed.

    It keeps whole stripes and never allocates more than `settings.max_bytes`. A full log makes `append` wait until a
    trim frees a stripe (`block`), or forgets the oldest stripe and counts in `dropped` what of it had not been trimmed.

    Every log has an incarnation of its own, drawn at random.
    """

    def __init__(  # noqa: PLR0913  (each is one word in a call)
        self,
        schema: Schema,
        dealing: Dealing,
        settings: LogSettings | None = None,
        *,
        source: str = "",
        changes: tuple[Change, ...] = (),
        on_append: Callable[[], None] | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        settings = LogSettings() if settings is None else settings
        identity = secrets.token_hex(16)
        info = StreamInfo(incarnation=identity, schema=schema, dealing=dealing, changes=changes, source=source)
        check_size(info, settings)
        kept = KeptStripes(schema, dealing, settings.max_bytes)
        super().__init__(info, settings, kept, Writers(), on_append=on_append, wall_clock_ns=wall_clock_ns)

    @property
    def allocated_bytes(self) -> int:
        """Bytes that the log holds at this moment; never more than its settings allow."""
        return self._kept.nbytes

    @property
    def filled(self) -> float:
        """The share of its memory that the log holds: near 1, an early commit of the trainers makes room."""
        return self._kept.filled

    @property
    def durable(self) -> int:
        return self.records

    def flush(self, timeout_s: float | None = None) -> None:
        """Nothing to wait for: the promise of a log in memory begins when `append` returns."""

    @property
    def dropped(self) -> Positions:
        with self._lock:
            return dict(self._kept.retained.dropped)

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

    def _make_room(self, deadline: float | None) -> None:
        if self._settings.full == "drop-oldest":
            self._kept.forget_oldest()
        elif self._settings.full == "fail":
            raise LogFull(f"the log is full ({self._settings.max_bytes} bytes): trainers must commit, or enlarge it")
        else:
            self._wait_for_room(deadline)
