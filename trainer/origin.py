"""Where the rows of a batch come from: spans of records in stream order, or a shuffled window of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.dealing import Dealing, Positions


class Span(NamedTuple):
    """Consecutive records of one partition, and the event times of the first and the last in nanoseconds since 1970."""

    partition: int
    offset: int
    records: int
    first_time_ns: int
    last_time_ns: int

    def time_ns(self, row: int) -> int:
        """Event time of one of them, on a straight line between the first and the last."""
        last = self.records - 1
        return self.first_time_ns + ((self.last_time_ns - self.first_time_ns) * row // last if last else 0)

    def parts(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The rows `first` to `end` - 1 as (partition, offset, count)."""
        yield self.partition, self.offset + first, end - first

    def newest_time_ns(self, first: int, end: int) -> int:
        """Event time of the newest of these rows; one partition's records are in the order of their events."""
        del first
        return self.time_ns(end - 1)

    def last_record(self, dealing: Dealing, first: int, end: int) -> int:
        """The highest number in the stream of these rows."""
        del first
        return dealing.record(self.partition, self.offset + end - 1)

    def positions(self, others: Positions, end: int) -> Positions:
        """The positions after the rows before `end`, where those of the other partitions are `others`."""
        return {**others, self.partition: self.offset + end}


@dataclass(frozen=True, kw_only=True, eq=False)
class ShuffledRows:
    """Where each row of a shuffled window comes from: arrays [records] of int64, times in nanoseconds since 1970.

    Positions pass a window as a whole, so `before` are those that hold until all of it was trained.
    """

    partitions: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]
    before: Positions

    @property
    def records(self) -> int:
        """Number of rows."""
        return len(self.offsets)

    def part(self, rows: slice) -> "ShuffledRows":
        """Some of them."""
        return ShuffledRows(
            partitions=self.partitions[rows],
            offsets=self.offsets[rows],
            times_ns=self.times_ns[rows],
            before=self.before,
        )

    def parts(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """As a span has them, one for each row."""
        for partition, offset in zip(
            self.partitions[first:end].tolist(), self.offsets[first:end].tolist(), strict=True
        ):
            yield partition, offset, 1

    def newest_time_ns(self, first: int, end: int) -> int:
        """Event time of the newest of these rows."""
        return int(self.times_ns[first:end].max())

    def last_record(self, dealing: Dealing, first: int, end: int) -> int:
        """The highest number in the stream of these rows."""
        turns, rows = np.divmod(self.offsets[first:end], dealing.stripe)
        return int(((turns * dealing.partitions + self.partitions[first:end]) * dealing.stripe + rows).max())

    def positions(self, others: Positions, end: int) -> Positions:
        """Those before the window."""
        del others, end
        return self.before


#: Where consecutive rows of a block come from.
Origin = Span | ShuffledRows
