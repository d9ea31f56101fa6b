"""The trail of shuffled windows: their rows are trained in another order than the stream's, and pass as a whole."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from protocol.dealing import Positions
from protocol.errors import Lost
from trainer.ledger import Fate
from trainer.trail import Passed


@dataclass(frozen=True)
class Ahead:
    """Of a window of so many rows these were trained already, by partition; which they are, its order says."""

    trained: Mapping[int, int]
    window: int

    @property
    def rows(self) -> int:
        """Over all partitions."""
        return sum(self.trained.values())


NOTHING_AHEAD = Ahead({}, 0)


@dataclass(frozen=True, eq=False)
class Window:
    """A window that is complete: what it holds in stream order, and the partition of each of its rows as they are
    trained.
    """

    passed: Sequence[Passed | Lost]
    partitions: npt.NDArray[np.int64]
    #: How many of the trained rows were skipped after all, by partition.
    skipped: Counter[int] = field(default_factory=Counter)

    def fates(self) -> list[Passed | Lost]:
        """What has passed with it, in stream order."""
        found: list[Passed | Lost] = []
        for each in self.passed:
            if isinstance(each, Lost) or each.fate != "trained" or not (left := self.skipped[each.partition]):
                found.append(each)
                continue
            skipped = min(left, each.rows)
            self.skipped[each.partition] -= skipped
            parts = Passed(each.partition, each.rows - skipped), Passed(each.partition, skipped, "skipped")
            found += [part for part in parts if part.rows]
        return found


class WindowedTrail:
    """Windows in stream order. New ones join behind; those of which every row was marked leave in front."""

    def __init__(self) -> None:
        self._windows: deque[Window] = deque()
        #: Rows of the first window that were marked.
        self.settled = 0

    def add(self, window: Window) -> None:
        """A window is complete."""
        self._windows.append(window)

    def take(self, rows: int, fate: Fate = "trained") -> list[Passed | Lost]:
        """Of the rows that have not left, the first so many have been marked, the newest of them with this fate.

        Gives back what has passed by that.
        """
        if fate == "skipped":
            self._skip(self.settled, rows)
        self.settled = rows
        taken: list[Passed | Lost] = []
        while self._windows and len(self._windows[0].partitions) <= self.settled:
            window = self._windows.popleft()
            self.settled -= len(window.partitions)
            taken += window.fates()
        return taken

    def drop(self) -> list[tuple[int, int]]:
        """All that has not left comes again: (partition, rows)."""
        dropped = [(each.partition, each.rows) for each in self._held()]
        self._windows.clear()
        self.settled = 0
        return dropped

    @property
    def ahead(self) -> Ahead:
        """What was marked of the first window."""
        if not self.settled or not self._windows:
            return NOTHING_AHEAD
        partitions = self._windows[0].partitions
        return Ahead(Counter(partitions[: self.settled].tolist()), len(partitions))

    def counts(self, rows: int) -> tuple[Positions, Positions]:
        """Rows by partition: of as many as the oldest `rows`, and of all others. Whose they are is not looked at."""
        oldest: Positions = {}
        others: Positions = {}
        for each in self._held():
            part = min(rows, each.rows) if each.fate == "trained" else 0
            rows -= part
            for counts, count in ((oldest, part), (others, each.rows - part)):
                if count:
                    counts[each.partition] = counts.get(each.partition, 0) + count
        return oldest, others

    def _held(self) -> list[Passed]:
        return [each for window in self._windows for each in window.passed if isinstance(each, Passed)]

    def _skip(self, start: int, stop: int) -> None:
        first = 0
        for window in self._windows:
            rows = window.partitions[max(0, start - first) : max(0, stop - first)]
            window.skipped.update(rows.tolist())
            first += len(window.partitions)
