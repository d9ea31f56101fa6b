"""The trail of the rows that were copied for batches: where they came from, until they are marked as trained."""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from protocol.dealing import Positions
from protocol.errors import Lost
from protocol.subscription import Absent
from trainer.ledger import Fate

#: Offsets that no row will ever come of.
Hole = Lost | Absent


class Passed(NamedTuple):
    """Rows of one partition that have passed; all but the `trained` were in no batch.

    `end` is the offset after the last of them, None in a shuffled window, where nobody asks for it.
    """

    partition: int
    rows: int
    fate: Fate = "trained"
    end: int | None = None


@dataclass(slots=True)
class _Run:
    partition: int
    rows: int
    fate: Fate
    end: int | None

    @property
    def left_out(self) -> bool:
        return self.fate != "trained"


class Trail:
    """Runs of rows in the order of the merge. New ones join behind; what is marked leaves in front.

    Rows that are in no batch, and holes, have their place among the others and leave with those before them, uncounted.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run | Hole] = deque()

    def add(self, partition: int, rows: int, fate: Fate = "trained", end: int | None = None) -> None:
        """So many rows of a partition, the last before offset `end`, were copied to be trained, or are left out with
        another fate.
        """
        last = self._runs[-1] if self._runs else None
        if isinstance(last, _Run) and last.partition == partition and last.fate == fate:
            last.rows, last.end = last.rows + rows, end
        else:
            self._runs.append(_Run(partition, rows, fate, end))

    def add_hole(self, hole: Hole) -> None:
        """The records that would follow will never come."""
        self._runs.append(hole)

    def take(self, rows: int, fate: Fate = "trained") -> list[Passed | Hole]:
        """The oldest rows leave with this fate, and what was left out or never came up to the next one with its own."""
        taken: list[Passed | Hole] = []
        while self._runs:
            run = self._runs[0]
            if isinstance(run, Hole):
                taken.append(run)
                self._runs.popleft()
                continue
            part = run.rows if run.left_out else min(rows, run.rows)
            if part == 0:
                break
            end = None if run.end is None else run.end - (run.rows - part)
            taken.append(Passed(run.partition, part, run.fate if run.left_out else fate, end))
            rows -= 0 if run.left_out else part
            if part == run.rows:
                self._runs.popleft()
            else:
                run.rows -= part
        return taken

    def drop(self, rows: int) -> list[tuple[int, int]]:
        """The newest rows were copied in vain, and what was left out behind them: (partition, rows) of each run.

        A hole behind them comes again.
        """
        dropped = []
        while rows > 0:
            run = self._runs[-1]
            if isinstance(run, Hole):
                self._runs.pop()
                continue
            part = run.rows if run.left_out else min(rows, run.rows)
            dropped.append((run.partition, part))
            rows -= 0 if run.left_out else part
            run.rows -= part
            run.end = None if run.end is None else run.end - part
            if not run.rows:
                self._runs.pop()
        return dropped

    def counts(self, rows: int) -> tuple[Positions, Positions]:
        """Rows by partition: of the oldest `rows`, and of the others, those that are left out among these."""
        oldest: Positions = {}
        others: Positions = {}
        for run in self._runs:
            if isinstance(run, Hole):
                continue
            part = 0 if run.left_out else min(rows, run.rows)
            rows -= part
            for counts, count in ((oldest, part), (others, run.rows - part)):
                if count:
                    counts[run.partition] = counts.get(run.partition, 0) + count
        return oldest, others
