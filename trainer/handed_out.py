"""What one iteration has copied, handed out and marked: the rows between the stream and the trained positions."""

from protocol.dealing import Positions
from protocol.errors import Lost
from trainer.batch import Batch
from trainer.trail import Passed, Trail


class HandedOut:
    """Rows are copied into batches, batches are handed out, batches are marked as trained: in this order, each once.

    A mark is a number and nothing else; `take_marked` says what was marked since it was last asked. Batches are
    numbered from 1 over all lives; all of an iteration but its last have `batch_size` rows.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._trail = Trail()
        self.begin(0)

    def begin(self, batches: int) -> None:
        """A new iteration, after so many batches that were trained."""
        self._before = batches
        #: Number of the last batch that was handed out, and of the last that was marked.
        self.number = self.marked = batches
        self._copied_rows = self._handed_rows = self._counted_rows = 0

    def copy(self, partition: int, rows: int) -> None:
        """So many rows of a partition were copied."""
        self._trail.add(partition, rows)
        self._copied_rows += rows

    def reject(self, partition: int, rows: int) -> None:
        """So many rows of a partition are in no batch: they have passed once those before them are marked."""
        self._trail.add(partition, rows, rejected=True)

    def lose(self, lost: Lost) -> None:
        """Lost records lie behind the last row that was copied: they have passed once that is marked."""
        self._trail.lose(lost)

    def hand(self, batch: Batch) -> None:
        """The next batch leaves."""
        self.number = batch.number
        self._handed_rows += batch.count

    def mark(self, number: int) -> None:
        """The batch with this number and all before it were trained, as far as they were handed out."""
        self.marked = max(self.marked, min(number, self.number))

    def take_marked(self) -> list[Passed | Lost]:
        """What was marked and not taken yet, in the order in which it was copied, with what was rejected or lost."""
        rows = min((self.marked - self._before) * self._batch_size, self._handed_rows) - self._counted_rows
        self._counted_rows += rows
        return self._trail.take(rows)

    @property
    def unmarked_rows(self) -> int:
        """Rows that were handed out and not taken as marked."""
        return self._handed_rows - self._counted_rows

    def drop_unmarked(self) -> list[tuple[int, int]]:
        """All that was copied and not marked is given up: (partition, rows)."""
        self._handed_rows = self._counted_rows
        return self.drop_unhanded()

    def drop_unhanded(self) -> list[tuple[int, int]]:
        """What was copied and not handed out is given up: (partition, rows)."""
        rows, self._copied_rows = self._copied_rows - self._handed_rows, self._handed_rows
        return self._trail.drop(rows)

    def counts(self) -> tuple[Positions, Positions]:
        """Rows by partition that were copied and not handed out, and those that were handed out and not marked."""
        unmarked, unhanded = self._trail.counts(self.unmarked_rows)
        return unhanded, unmarked
