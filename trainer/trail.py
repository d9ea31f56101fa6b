"""The trail of the rows that were copied for batches: where they came from, until they are marked as trained."""

from collections import deque

from protocol.dealing import Positions
from protocol.errors import Lost


class Trail:
    """Runs of (partition, rows) in stream order, and what was lost in between.

    New ones join behind; what is marked leaves in front, and what is lost leaves as soon as nothing is before it.
    """

    def __init__(self) -> None:
        self._runs: deque[list[int] | Lost] = deque()

    def add(self, partition: int, rows: int) -> None:
        """So many rows of a partition were copied."""
        if self._runs and isinstance(last := self._runs[-1], list) and last[0] == partition:
            last[1] += rows
        else:
            self._runs.append([partition, rows])

    def lose(self, lost: Lost) -> None:
        """The records that would follow will never come."""
        self._runs.append(lost)

    def take(self, rows: int) -> list[tuple[int, int] | Lost]:
        """The oldest rows leave: (partition, rows) of each run, and what was lost before and behind them."""
        taken: list[tuple[int, int] | Lost] = []
        while self._runs:
            run = self._runs[0]
            if isinstance(run, Lost):
                taken.append(run)
                self._runs.popleft()
                continue
            if rows == 0:
                break
            part = min(rows, run[1])
            taken.append((run[0], part))
            rows -= part
            if part == run[1]:
                self._runs.popleft()
            else:
                run[1] -= part
        return taken

    def drop(self, rows: int) -> list[tuple[int, int]]:
        """The newest rows were copied in vain: (partition, rows) of each run. What was lost among them comes again."""
        dropped = []
        while rows > 0:
            run = self._runs[-1]
            if isinstance(run, Lost):
                self._runs.pop()
                continue
            part = min(rows, run[1])
            dropped.append((run[0], part))
            rows -= part
            run[1] -= part
            if not run[1]:
                self._runs.pop()
        return dropped

    def counts(self, rows: int) -> tuple[Positions, Positions]:
        """Rows by partition: of the oldest `rows`, and of the others."""
        oldest: Positions = {}
        others: Positions = {}
        for partition, length in (run for run in self._runs if isinstance(run, list)):
            part = min(rows, length)
            rows -= part
            for counts, count in ((oldest, part), (others, length - part)):
                if count:
                    counts[partition] = counts.get(partition, 0) + count
        return oldest, others
