"""A live source's log on disk: it survives its program, and readers are served only what a power loss cannot take.

Records gather in memory; a thread writes them to the folder, many in one synced transaction, and only then do they
count. So a full or slow disk shows as a log end that stands still, never as a reader that is ahead of the log.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from producer.append_log import AppendLog, LogSettings, check_size
from producer.block import Block
from producer.disk_stripes import DiskStripes, Written
from producer.kept_stripes import KeptStripes
from producer.writers import Writers
from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import HeadraceError, LogFull, StreamError, StreamTimeout
from protocol.log import KeptGroup
from protocol.log_folder import LogFolder

logger = logging.getLogger(__name__)

#: Stripes that may wait in memory for the disk, and bytes where records differ in size.
UNWRITTEN_STRIPES: Final = 8
UNWRITTEN_BYTES: Final = 256 << 20
#: What has grown too old is looked for this often, and a disk without room is tried again.
TURN_S: Final = 1.0
STUCK_SAID_S: Final = 60.0


class DiskLog(AppendLog):
    """Goes on with the log that the folder holds, under the same identity, even where that had ended.

    Only whole stripes are forgotten, oldest first: those that nobody needs, those that are older than `keep`, and with
    `drop-oldest` those whose room new records need. `dropped` counts what of them was needed.
    """

    def __init__(
        self,
        folder: LogFolder,
        settings: LogSettings,
        *,
        on_append: Callable[[], None] | None = None,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._disk = DiskStripes(folder, settings, wall_clock_ns)
        info = self._disk.stored.info
        check_size(info, settings)
        stripe_bytes = Block.bytes_for(info.schema.fields, info.dealing.stripe)
        most = max(UNWRITTEN_STRIPES * stripe_bytes, UNWRITTEN_BYTES if info.schema.ragged else 0)
        kept = KeptStripes(info.schema, info.dealing, most, records=self._disk.records, waiting=True)
        writers = Writers(folder.writers())
        super().__init__(info, settings, kept, writers, on_append=on_append, wall_clock_ns=wall_clock_ns)
        self._moved = threading.Condition(self._lock)
        self._groups_said: dict[str, KeptGroup | None] = {}
        self._stuck: LogFull | None = None
        self._stuck_said_s = float("-inf")
        self._failed: Exception | None = None
        self._flushes = self._flushes_tried = 0
        #: There is something to write; and it must not wait for more.
        self._work, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-disk-log", daemon=True)
        self._thread.start()

    # --- what readers see: what is durable -----------------------------------------------------------------------

    def log_start(self) -> Positions:
        with self._lock:
            return self._disk.log_start()

    def log_end(self) -> Positions:
        return self._disk.log_end()

    @property
    def ended(self) -> bool:
        return self._disk.ended

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        return self._disk.stored.read(partition, offset, max_records)

    def offset_at(self, partition: int, time_ns: int) -> int:
        return self._disk.stored.offset_at(partition, time_ns)

    @property
    def durable(self) -> int:
        return self._disk.records

    @property
    def dropped(self) -> Positions:
        with self._lock:
            return dict(self._disk.retained.dropped)

    @property
    def filled(self) -> float:
        """The share of its room that is taken; 1 where new records find none."""
        return 1.0 if self._stuck else self._disk.nbytes / self._settings.max_bytes

    # --- what the owner and the service say ----------------------------------------------------------------------

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything appended so far is synced.

        Raises `StreamTimeout` after `timeout_s`, `LogFull` where there is no room and the policy is `fail`,
        `StreamError` where the folder cannot be written.
        """
        with self._lock:
            wanted = self._kept.records
            self._flushes = asked = self._flushes + 1
            self._wake(hurry=True)
            self._moved.wait_for(lambda: self.durable >= wanted or self._hopeless(asked), timeout_s)
            if self.durable >= wanted:
                return
            if self._hopeless(asked) and (trouble := self._trouble()) is not None:
                raise trouble
        raise StreamTimeout(f"{wanted - self.durable} records could not be synced within {timeout_s:g} s")

    def trim(self, positions: Mapping[int, int]) -> None:
        with self._lock:
            self._disk.retained.trim(positions, self.log_end())
            if self._disk.passed():
                self._wake(hurry=self._stuck is not None)

    def groups(self) -> Mapping[str, KeptGroup]:
        return self._folder.groups()

    def keep_group(self, name: str, group: KeptGroup | None) -> None:
        with self._lock:
            self._groups_said[name] = group
            self._wake()

    def close(self) -> None:
        """Write what was appended, and release the folder."""
        with self._lock:
            self._closed = True
            self._room_made.notify_all()
            self._wake(hurry=True)
        self._thread.join()
        if (lost := self.records - self.durable) > 0:
            logger.error("%d records were appended and could not be written to %s", lost, self._folder.path)
        self._folder.close()

    def _check_open(self) -> None:
        super()._check_open()
        if (trouble := self._trouble()) is not None:
            raise trouble

    def _trouble(self) -> Exception | None:
        """What makes appending impossible, as a new error for each caller."""
        if self._failed is not None:
            return StreamError(f"the log cannot be written any more: {self._failed}")
        if self._stuck is not None and self._settings.full == "fail":
            return LogFull(str(self._stuck))
        return None

    def _hopeless(self, asked: int) -> bool:
        """Whether the thread has tried since a flush asked for it, in vain."""
        return (self._flushes_tried >= asked or self._failed is not None) and self._trouble() is not None

    def _make_room(self, deadline: float | None) -> None:
        if self.durable == self._kept.records:  # all that is here is the written part of a large stripe
            self._kept.let_go()
        else:
            self._wait_for_room(deadline)  # the disk is slower than the source, or has no room

    def _tell(self) -> None:
        self._wake()

    def _wake(self, *, hurry: bool = False) -> None:
        if hurry:
            self._hurry.set()
        if not self._work.is_set():
            self._work.set()

    # --- in the thread that writes -------------------------------------------------------------------------------

    def _run(self) -> None:
        closed = False
        try:
            while not closed:
                if self._work.wait(TURN_S):
                    self._hurry.wait(TURN_S if self._stuck else self._settings.linger / 1000)
                self._work.clear()
                self._hurry.clear()
                closed = self._closed  # nothing was appended since, so that this turn writes the last
                self._turn()
        except HeadraceError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(RuntimeError(f"{type(error).__name__}: {error}"))
            raise

    def _turn(self) -> None:
        """Write what has gathered, forget what has passed; all of it or nothing."""
        with self._lock:
            rows = list(self._kept.since(self.durable))
            groups, self._groups_said = self._groups_said, {}
            runs = self._writers.take_out()
            ended, forget, flushes = self._ended, self._disk.passed(), self._flushes
        forget += self._disk.outdated(forget)
        if not (rows or runs or groups or forget or ended != self.ended):
            return
        try:
            written = self._disk.write(rows, runs, groups, forget=forget, ended=ended)
        except LogFull as error:  # the disk has no room: what there is stays as it was, and it is tried again
            with self._lock:
                self._groups_said = {**groups, **self._groups_said}
                self._writers.settle({}, runs)
            self._be_stuck(error, flushes)
        else:
            self._count(written)
            self._be_stuck(written.stuck, flushes)

    def _count(self, written: Written) -> None:
        """Now that it is synced, it is there for readers, and its room in memory is free."""
        with self._lock:
            self._disk.apply(written)
            self._writers.settle(written.writers, written.rest)
            self._kept.trim(self.log_end())
        if self.on_append is not None:
            self.on_append()

    def _be_stuck(self, stuck: LogFull | None, flushes: int) -> None:
        """Nothing can be written for want of room, or it can; tell those who wait."""
        now_s = time.monotonic()
        if stuck is None and self._stuck is not None:
            logger.warning("the log in %s has room again", self._folder.path)
        elif stuck is not None and (self._stuck is None or now_s - self._stuck_said_s >= STUCK_SAID_S):
            self._stuck_said_s = now_s
            logger.warning("%s; nothing more is served until there is room", stuck)
        with self._lock:
            self._stuck, self._flushes_tried = stuck, flushes
            self._room_made.notify_all()
            self._moved.notify_all()

    def _fail(self, error: Exception) -> None:
        logger.error("the log in %s cannot be written any more: %s", self._folder.path, error)
        with self._lock:
            self._failed = error
            self._room_made.notify_all()
            self._moved.notify_all()
