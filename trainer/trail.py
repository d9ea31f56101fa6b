"""The trail of the rows that were copied for batches: where they came from, until they are marked as trained."""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from protocol.dealing import Positions
from protocol.errors import Lost


class Passed(NamedTuple):
    """Rows of one partition that have passed; those that were `rejected` were in no batch."""

    partition: int
    rows: int
    rejected: bool = False


@dataclass(slots=True)
class _Run:
    partition: int
    rows: int
    rejected: bool


class Trail:
    """Runs of rows in stream order. New ones join behind; what is marked leaves in front.

    Rejected rows, and what was lost, have their place among the others and leave with those before them, uncounted.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run | Lost] = deque()

    def add(self, partition: int, rows: int, *, rejected: bool = False) -> None:
        """So many rows of a partition were copied, or rejected."""
        last = self._runs[-1] if self._runs else None
        if isinstance(last, _Run) and last.partition == partition and last.rejected == rejected:
            last.rows += rows
        else:
            self._runs.append(_Run(partition, rows, rejected))

    def lose(self, lost: Lost) -> None:
        """The records that would follow will never come."""
        self._runs.append(lost)

    def take(self, rows: int) -> list[Passed | Lost]:
        """The oldest rows leave, and what was rejected or lost up to the next one."""
        taken: list[Passed | Lost] = []
        while self._runs:
            run = self._runs[0]
            if isinstance(run, Lost):
                taken.append(run)
                self._runs.popleft()
                continue
            part = run.rows if run.rejected else min(rows, run.rows)
            if part == 0:
                break
            taken.append(Passed(run.partition, part, run.rejected))
            rows -= 0 if run.rejected else part
            if part == run.rows:
                self._runs.popleft()
            else:
                run.rows -= part
        return taken

    def drop(self, rows: int) -> list[tuple[int, int]]:
        """The newest rows were copied in vain, and what was rejected behind them: (partition, rows) of each run.

        What was lost behind them comes again.
        """
        dropped = []
        while rows > 0:
            run = self._runs[-1]
            if isinstance(run, Lost):
                self._runs.pop()
                continue
            part = run.rows if run.rejected else min(rows, run.rows)
            dropped.append((run.partition, part))
            rows -= 0 if run.rejected else part
            run.rows -= part
            if not run.rows:
                self._runs.pop()
        return dropped

    def counts(self, rows: int) -> tuple[Positions, Positions]:
        """Rows by partition: of the oldest `rows`, and of the others, those that were rejected among these."""
        oldest: Positions = {}
        others: Positions = {}
        for run in self._runs:
            if isinstance(run, Lost):
                continue
            part = 0 if run.rejected else min(rows, run.rows)
            rows -= part
            for counts, count in ((oldest, part), (others, run.rows - part)):
                if count:
                    counts[run.partition] = counts.get(run.partition, 0) + count
        return oldest, others
