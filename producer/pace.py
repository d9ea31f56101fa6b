"""At which rate a dataset plays a live stream."""

import time
from collections.abc import Callable
from math import inf, isfinite

from protocol.errors import UsageError

NS_PER_S = 1_000_000_000


class Pace:
    """`rate` records are released each second from the moment of construction; 0 releases all at once.

    `clock` gives seconds that never run backwards and decides what is released; `wall_clock_ns` gives event times,
    nanoseconds since 1970. A record's event time is the moment at which it was released; with rate 0 it is the moment
    at which somebody asks. Not locked: the log that owns it does that.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not (isfinite(rate) and rate >= 0):
            raise UsageError(f"a rate of {rate} records/s is impossible: give a positive number, or 0 for no limit")
        self.rate = rate
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._base_records = 0
        self._base_s = clock()

    def now(self) -> float:
        """Seconds on the injected clock."""
        return self._clock()

    def released(self, now_s: float) -> float:
        """How many whole records have been released at this moment; infinite with rate 0."""
        if self.rate == 0:
            return inf
        return self._base_records + int((now_s - self._base_s) * self.rate)

    def reach(self, records: int) -> None:
        """At least so many are released already, whatever the clock says; the rest follows from now on."""
        now = self._clock()
        if records > self.released(now):
            self._base_records, self._base_s = records, now

    def due_in_s(self, records: int, now_s: float) -> float:
        """Seconds from `now_s` until more than `records` are released; 0 if they are."""
        if self.rate == 0 or self.released(now_s) > records:
            return 0.0
        return max(0.0, self._base_s + (records + 1 - self._base_records) / self.rate - now_s)

    def times_ns(self, first: int, last: int) -> tuple[int, int]:
        """Event times of two records, by their numbers in stream order.

        Record n of a life that began with `reach(base)` was released (n + 1 - base) / rate after its begin. Those
        that an earlier life had released lie before it on the same line. The line is hung up at the present: so a
        wall clock that is set right, or a machine that slept, shifts event times and not the ages told from them.
        """
        now, wall_ns = self._clock(), self._wall_clock_ns()
        return self._time_ns(first, now, wall_ns), self._time_ns(last, now, wall_ns)

    def first_record_at(self, time_ns: int) -> int:
        """The first record whose event time is not before `time_ns`, released or not.

        With rate 0 every record is of the present: the very first one for the past, none (-1) for the future.
        """
        now, wall_ns = self._clock(), self._wall_clock_ns()
        if self.rate == 0:
            return 0 if time_ns <= wall_ns else -1
        since_base_s = now - self._base_s - (wall_ns - time_ns) / NS_PER_S
        # Floating point is off by one or two at most: begin before it and walk.
        record = max(0, int(since_base_s * self.rate) + self._base_records - 2)
        while self._time_ns(record, now, wall_ns) < time_ns:
            record += 1
        return record

    def _time_ns(self, record: int, now_s: float, wall_ns: int) -> int:
        if self.rate == 0:
            return wall_ns
        age_s = now_s - self._base_s - (record + 1 - self._base_records) / self.rate
        return wall_ns - round(age_s * NS_PER_S)
