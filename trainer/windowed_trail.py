"""The trail of shuffled windows: their rows are trained in another order than the stream's, and pass as a whole."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.dealing import Positions
from trainer.ledger import Fate, offsets
from trainer.trail import Hole, Passed


@dataclass(frozen=True)
class Ahead:
    """Of a window that has not passed so many rows were trained or skipped, by partition; which, its order says.

    `window` identifies what it held then.
    """

    trained: Mapping[int, int]
    skipped: Mapping[int, int]
    window: str

    @property
    def rows(self) -> int:
        """Over all partitions."""
        return sum(self.trained.values()) + sum(self.skipped.values())

    def of(self, partition: int) -> int:
        """Rows of one partition."""
        return self.trained.get(partition, 0) + self.skipped.get(partition, 0)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"trained": dict(self.trained), "skipped": dict(self.skipped), "window": self.window}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Ahead":
        """The reverse."""
        return cls(offsets(state["trained"]), offsets(state["skipped"]), str(state["window"]))


NOTHING_AHEAD = Ahead({}, {}, "")


class Before(NamedTuple):
    """Of the records of a partition that are lost by now, so many had met this fate before."""

    partition: int
    rows: int
    fate: Fate


@dataclass(frozen=True, eq=False)
class Window:
    """A window that is complete: what it holds in stream order, and the partition of each of its rows as they are
    trained. `identity` tells it from one that holds other records.
    """

    passed: Sequence[Passed | Hole | Before]
    partitions: npt.NDArray[np.int64]
    identity: str = ""
    #: How many of the trained rows were skipped after all, by partition.
    skipped: Counter[int] = field(default_factory=Counter)

    def fates(self) -> list[Passed | Hole | Before]:
        """What has passed with it, in stream order."""
        found: list[Passed | Hole | Before] = []
        for each in self.passed:
            if not isinstance(each, Passed) or each.fate != "trained" or not (left := self.skipped[each.partition]):
                found.append(each)
                continue
            skipped = min(left, each.rows)
            self.skipped[each.partition] -= skipped
            parts = Passed(each.partition, each.rows - skipped), Passed(each.partition, skipped, "skipped")
            found += [part for part in parts if part.rows]
        return found


def closed(passed: Sequence[Passed | Hole], ahead: Ahead) -> Window:
    """A window that was begun with other records: what came of it and is not accounted for by `ahead` is skipped."""
    trained, skipped = Counter(ahead.trained), Counter(ahead.skipped)
    found: list[Passed | Hole | Before] = []
    for each in passed:
        if isinstance(each, Hole) or each.fate != "trained":
            found.append(each)
            continue
        again = min(trained[each.partition], each.rows)
        trained[each.partition] -= again
        skipped[each.partition] -= min(skipped[each.partition], each.rows - again)
        parts = Passed(each.partition, again), Passed(each.partition, each.rows - again, "skipped")
        found += [part for part in parts if part.rows]
    found += [Before(partition, rows, "trained") for partition, rows in trained.items() if rows]
    found += [Before(partition, rows, "skipped") for partition, rows in skipped.items() if rows]
    return Window(found, np.empty(0, np.int64))


class WindowedTrail:
    """Windows in stream order. New ones join behind; those of which every row was marked leave in front."""

    def __init__(self) -> None:
        self._windows: deque[Window] = deque()
        #: Rows of the first window that were marked.
        self.settled = 0

    def add(self, window: Window) -> None:
        """A window is complete."""
        self._windows.append(window)

    def take(self, rows: int, fate: Fate = "trained") -> list[Passed | Hole | Before]:
        """Of the rows that have not left, the first so many have been marked, the newest of them with this fate.

        Gives back what has passed by that.
        """
        if fate == "skipped":
            self._skip(self.settled, rows)
        self.settled = rows
        taken: list[Passed | Hole | Before] = []
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
        window = self._windows[0]
        settled = Counter(dict(enumerate(np.bincount(window.partitions[: self.settled]).tolist())))
        return Ahead(settled - window.skipped, +window.skipped, window.identity)

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
