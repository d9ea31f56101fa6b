"""The trail of the rows that were copied for batches: where they came from, until they are marked as trained."""

from collections import deque

from protocol.dealing import Positions


class Trail:
    """Runs of (partition, rows) in stream order. New ones join behind; what is marked leaves in front."""

    def __init__(self) -> None:
        self._runs: deque[list[int]] = deque()

    def add(self, partition: int, rows: int) -> None:
        """So many rows of a partition were copied."""
        if self._runs and self._runs[-1][0] == partition:
            self._runs[-1][1] += rows
        else:
            self._runs.append([partition, rows])

    def take(self, rows: int) -> list[tuple[int, int]]:
        """The oldest rows leave: (partition, rows) of each run."""
        taken = []
        while rows > 0:
            run = self._runs[0]
            part = min(rows, run[1])
            taken.append((run[0], part))
            rows -= part
            if part == run[1]:
                self._runs.popleft()
            else:
                run[1] -= part
        return taken

    def drop(self, rows: int) -> list[tuple[int, int]]:
        """The newest rows were copied in vain: (partition, rows) of each run."""
        dropped = []
        while rows > 0:
            run = self._runs[-1]
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
        for partition, length in self._runs:
            part = min(rows, length)
            rows -= part
            for counts, count in ((oldest, part), (others, length - part)):
                if count:
                    counts[partition] = counts.get(partition, 0) + count
        return oldest, others
