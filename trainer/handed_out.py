"""What one iteration has copied, handed out and marked: the rows between the stream and the trained positions."""

import logging
from collections.abc import Sequence

from protocol.dealing import Positions
from protocol.errors import StreamError
from trainer.batch import Batch
from trainer.ledger import Fate
from trainer.trail import Hole, Passed, Trail
from trainer.windowed_trail import NOTHING_AHEAD, Ahead, Before, Window, WindowedTrail, closed

logger = logging.getLogger(__name__)


class HandedOut:
    """Rows are copied into batches, batches are handed out, batches are marked as trained: in this order, each once.

    A mark is a number and nothing else; `take_marked` says what has passed by what was marked since it was last asked.
    Batches are numbered from 1 over all lives; all of an iteration but its last have `batch_size` rows.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._trail = Trail()
        self.begin(0)

    def begin(self, batches: int, ahead: Ahead = NOTHING_AHEAD) -> None:
        """A new iteration, after so many batches that were trained; `ahead` is what they have trained of a window that
        has not passed.
        """
        assert not ahead.rows, "nothing is ahead where nothing is shuffled"
        self._before = batches
        #: Number of the last batch that was handed out, and of the last that was marked.
        self.number = self.marked = batches
        self._copied_rows = self._handed_rows = self._passed_rows = 0

    def copy(self, partition: int, rows: int, end: int | None = None) -> None:
        """So many rows of a partition were copied, the last of them before offset `end`."""
        self._trail.add(partition, rows, end=end)
        self._copied_rows += rows

    def leave_out(self, partition: int, rows: int, fate: Fate, end: int | None = None) -> None:
        """The same of rows that are in no batch: they have passed once those before them are marked."""
        self._trail.add(partition, rows, fate, end)

    def add_hole(self, hole: Hole) -> None:
        """A hole lies behind the last row that was copied: it has passed once that is marked."""
        self._trail.add_hole(hole)

    def hand(self, batch: Batch) -> None:
        """The next batch leaves."""
        self.number = batch.number
        self._handed_rows += batch.count

    def mark(self, number: int) -> None:
        """The batch with this number and all before it were trained, as far as they were handed out."""
        self.marked = max(self.marked, min(number, self.number))

    def take_marked(self, fate: Fate = "trained") -> Sequence[Passed | Hole | Before]:
        """What has passed and was not taken yet, in the order of the stream, with what was left out or lost.

        `fate` is that of the rows that were marked since the last time.
        """
        rows = self._marked_rows - self._passed_rows
        self._passed_rows += rows
        return self._trail.take(rows, fate)

    @property
    def _marked_rows(self) -> int:
        return min((self.marked - self._before) * self._batch_size, self._handed_rows)

    @property
    def ahead(self) -> Ahead:
        """What was marked and has not passed."""
        return NOTHING_AHEAD

    @property
    def unmarked_rows(self) -> int:
        """Rows that were handed out and not marked when that was last looked at."""
        return self._handed_rows - self._passed_rows

    def drop_unmarked(self) -> list[tuple[int, int]]:
        """All that was copied and has not passed is given up: (partition, rows)."""
        self._handed_rows = self._passed_rows
        return self.drop_unhanded()

    def drop_unhanded(self) -> list[tuple[int, int]]:
        """What was copied and not handed out is given up: (partition, rows)."""
        rows, self._copied_rows = self._copied_rows - self._handed_rows, self._handed_rows
        return self._trail.drop(rows)

    def counts(self) -> tuple[Positions, Positions]:
        """Rows by partition that were copied and not handed out, and those that were handed out and have not passed."""
        unmarked, unhanded = self._trail.counts(self.unmarked_rows)
        return unhanded, unmarked


class HandedOutWindows(HandedOut):
    """The same of shuffled windows: rows are marked in another order than they came, so a window passes as a whole.

    What is in a window that has not passed stays until the next iteration begins, which reads it again. Where it has
    lost records by then its order is another one: that ends the run, or closes the window where the run `goes_on`.
    """

    def __init__(self, batch_size: int, *, goes_on: bool = False) -> None:
        self._windows, self._goes_on = WindowedTrail(), goes_on
        super().__init__(batch_size)

    def begin(self, batches: int, ahead: Ahead = NOTHING_AHEAD) -> None:
        super().begin(batches)
        self._ahead = ahead
        self._handed_rows = ahead.rows

    def is_begun(self, identity: str, passed: Sequence[Passed | Hole]) -> bool:
        """Whether a window that has come whole can be trained, or gone on with.

        If not, it has passed: what is left of it counts as skipped. Raises `StreamError` where that may not be.
        """
        if not self._ahead.rows or self._copied_rows or identity == self._ahead.window:
            return True
        said = f"{self._ahead.rows:,} records of a shuffled window were trained, and others of it were lost since"
        if not self._goes_on:
            mend = "go on behind it with --on_loss continue, or begin anew in another --run_dir (--init_from this one)"
            raise StreamError(f"{said}: in which order it is trained cannot be told any more: {mend}")
        logger.warning("%s: going on behind it, the rest of it is skipped", said)
        self._windows.add(closed(passed, self._ahead))
        self._ahead, self._handed_rows = NOTHING_AHEAD, 0
        return False

    def copy_window(self, window: Window) -> None:
        """The rows of a window are next."""
        if not self._copied_rows:
            window.skipped.update(self._ahead.skipped)
        self._windows.add(window)
        self._copied_rows += len(window.partitions)

    def take_marked(self, fate: Fate = "trained") -> Sequence[Passed | Hole | Before]:
        passed = self._windows.take(self._marked_rows - self._passed_rows, fate)
        self._passed_rows = self._marked_rows - self._windows.settled
        return passed

    @property
    def ahead(self) -> Ahead:
        return self._windows.ahead if self._copied_rows else self._ahead

    @property
    def unmarked_rows(self) -> int:
        return self._handed_rows - self._passed_rows - self._windows.settled

    def drop_unmarked(self) -> list[tuple[int, int]]:
        return self._windows.drop()

    def drop_unhanded(self) -> list[tuple[int, int]]:
        return []

    def counts(self) -> tuple[Positions, Positions]:
        unmarked, unhanded = self._windows.counts(self._handed_rows - self._passed_rows)
        return unhanded, unmarked

    @property
    def _marked_rows(self) -> int:
        return min(self._ahead.rows + (self.marked - self._before) * self._batch_size, self._handed_rows)
