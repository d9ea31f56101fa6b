"""A recording as a log: its log end moves as it did when the records were made, faster, slower, or at once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from producer.computed_log import ENDLESS_RECORDS
from producer.recorded_part import RecordedPart
from producer.source import content_digest
from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import BeyondLogEnd
from protocol.log import Log
from protocol.wording import clock

NS_PER_S = 1_000_000_000
#: Stripes of which records are released before somebody may read them; the next look releases more.
RELEASED_AT_ONCE = 16


class ReplayedLog(Log):
    """Serves a part of a recording at `pace` times its original pace; 0: all of it is there at once.

    It is the recorded stream itself: same identity, offsets and event times, so that a run which began live goes on
    with it. The first record is released when the log is made, each other one as much later (divided by the pace) as
    its event time says. Where a clock was set back meanwhile, records come as soon as the one before.

    With `loop` the part follows itself for ever. That is another stream: its identity is its own and its positions
    begin at 0. Its event times go on growing, each pass a mean gap between two records behind the one before.
    """

    def __init__(
        self,
        part: RecordedPart,
        *,
        pace: float = 0.0,
        loop: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._part, self._pace, self._loop, self._clock_s = part, pace, loop, clock_s
        #: The numbers of the first record that is served and of the one after the last.
        self._first, self._records = (0, ENDLESS_RECORDS) if loop else (part.first, part.end)
        self.info = part.info
        self._period_ns = 0
        if loop:
            span_ns = max(0, part.time_ns(part.end - 1) - part.time_ns(part.first))
            self._period_ns = span_ns + max(1, span_ns // max(1, part.records - 1))
            incarnation = content_digest("looped", part.info.incarnation, part.first, part.end)
            self.info = replace(part.info, incarnation=incarnation, records_per_pass=part.records, changes=())
        self._dealing = self.info.dealing
        self._times: tuple[int, npt.NDArray[np.int64]] = (self._first, np.empty(0, np.int64))
        #: The number after the last record that was released; at pace 0, after the last that was read.
        self._reached = self._first
        self._begin(self._first)

    def log_start(self) -> Positions:
        return self._dealing.ends(self._first)

    def log_end(self) -> Positions:
        return self._dealing.ends(self._end())

    @property
    def ended(self) -> bool:
        return self._end() == self._records

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        number = self._dealing.record(partition, offset)
        end = self._end()
        if number >= end:
            raise BeyondLogEnd(f"partition {partition} has no offset {offset} yet: it ends before")
        turn, recorded = self._recorded(number)
        chunk = self._part.read(recorded, min(max_records, self._dealing.stripe_end(offset) - offset, end - number))
        if self._pace == 0:
            self._reached = max(self._reached, number + chunk.count)
        shift_ns = turn * self._period_ns
        return replace(
            chunk,
            partition=partition,
            offset=offset,
            first_time_ns=chunk.first_time_ns + shift_ns,
            last_time_ns=chunk.last_time_ns + shift_ns,
        )

    def offset_at(self, partition: int, time_ns: int) -> int:
        return self.at(time_ns)[partition]

    def at(self, time_ns: int) -> Positions:
        turn = 0
        if self._loop:
            turn = max(0, (time_ns - self._part.time_ns(self._part.first)) // self._period_ns)
        number = turn * self._part.records + self._part.number_at(time_ns - turn * self._period_ns)
        return self._dealing.ends(min(number - self._part.first + self._first, self._end()))

    def reach(self, positions: Mapping[int, int]) -> None:
        """What readers have had is released, and the rest follows from now on."""
        last = max((self._dealing.record(p, offset - 1) for p, offset in positions.items() if offset > 0), default=-1)
        if self._reached <= last < self._records:
            self._begin(last)

    def due_in_s(self) -> float | None:
        if self._pace == 0 or self._reached == self._records:
            return None
        due_s = self._base_s + (self._times_from(self._reached)[0] - self._base_ns) / NS_PER_S / self._pace
        return max(0.0, float(due_s) - self._clock_s())

    @property
    def plan(self) -> str:
        """What is replayed, and how fast, for people."""
        part = self._part
        span_s = (part.time_ns(part.end - 1) - part.time_ns(part.first)) // NS_PER_S
        pace = f"at {self._pace:g} times that pace" if self._pace else "as fast as they are read"
        return f"records {part.first:,} to {part.end - 1:,}, made in {clock(span_s)}, {pace}{', for ever' * self._loop}"

    def close(self) -> None:
        self._part.close()

    def _begin(self, number: int) -> None:
        """From this record on it goes on at its pace, which is due at this moment."""
        self._reached = number
        if self._pace:
            self._base_s, self._base_ns = self._clock_s(), int(self._times_from(number)[0])
            self._release()

    def _end(self) -> int:
        """The number of the record after the last that can be read at this moment."""
        if self._pace:
            self._release()
            return self._reached
        if not self._loop:
            return self._records
        # As an endless dataset: one to two passes, and two turns of all partitions, beyond what was read.
        turns = 2 * self._dealing.partitions * self._dealing.stripe
        passes = self._reached // self._part.records + 1 + -(-turns // self._part.records)
        return passes * self._part.records

    def _release(self) -> None:
        """Move on over what is due, by so much that it takes no time that anybody would notice."""
        until_ns = self._base_ns + int((self._clock_s() - self._base_s) * self._pace * NS_PER_S)
        for _ in range(RELEASED_AT_ONCE):
            if self._reached == self._records:
                return
            times_ns = self._times_from(self._reached)
            late = np.flatnonzero(times_ns > until_ns)
            self._reached += int(late[0]) if len(late) else len(times_ns)
            if len(late):
                return

    def _recorded(self, number: int) -> tuple[int, int]:
        """How often the part has gone round before this record, and the number of its original."""
        turn, row = divmod(number - self._first, self._part.records)
        return turn, self._part.first + row

    def _times_from(self, number: int) -> npt.NDArray[np.int64]:
        """Event times from this record on: one, or some of the same stripe."""
        first, times_ns = self._times
        if not first <= number < first + len(times_ns):
            turn, recorded = self._recorded(number)
            first, times_ns = number, self._part.times_ns(recorded) + turn * self._period_ns
            self._times = first, times_ns
        return times_ns[number - first :]
