"""The account of one stream: what was handed out, what was marked, and where that puts the run.

A mark is a number; here the numbers are counted, into the positions and the ledger and onto the board from which the
readers tell the producer.
"""

import time
from typing import Final

from protocol.dealing import Positions
from trainer.handed_out import HandedOut
from trainer.ledger import Fate
from trainer.position import RunPosition
from trainer.shared import ProgressBoard

#: What was marked is counted this often while batches come, and whenever somebody asks.
ACCOUNT_S: Final = 0.05


class Accounting:
    """Of one stream, from one life's start on, over all of its iterations."""

    def __init__(self, position: RunPosition, handed_out: HandedOut) -> None:
        self._position = position
        self.board = ProgressBoard()
        self.board.mark(position.trained)
        self.handed_out = handed_out
        self.handed_out.begin(position.batches, position.ahead)
        self._dropped = 0
        self._account_at_s = 0.0

    @property
    def position(self) -> RunPosition:
        """Where the run stands, all that was marked among it."""
        self.count()
        return self._position

    @property
    def uncounted(self) -> RunPosition:
        """The same for somebody on another thread, with what was heard of the producer."""
        return self._position

    def mark_trained(self, number: int) -> None:
        """The batch with this number and all before it have been trained."""
        self.handed_out.mark(number)
        if time.monotonic() > self._account_at_s:
            self.count()

    def mark_skipped(self, number: int) -> None:
        """All batches before this one have been trained, and this one never will be."""
        self.handed_out.mark(number - 1)
        self.count()
        self.handed_out.mark(number)
        self.count("skipped")

    def count(self, fate: Fate = "trained") -> None:
        """Count what was marked since the last time: a mark alone is a number, so that it costs nothing."""
        self._account_at_s = time.monotonic() + ACCOUNT_S
        handed_out = self.handed_out
        if (passed := handed_out.take_marked(fate)) or handed_out.marked != self._position.batches:
            self._position.mark(handed_out.marked, passed, handed_out.ahead)
            trained = self._position.trained
            self.board.mark({each.partition: trained[each.partition] for each in passed})
        if self._dropped == handed_out.marked + 1:
            handed_out.mark(self._dropped)
            self.count("skipped")

    def drop(self, number: int) -> None:
        """The batch with this number is not to be trained: it is skipped once all before it are marked."""
        self._dropped = number
        self.count()

    def begin(self) -> int:
        """Another iteration begins at what was marked; returns how many records were handed out and never were."""
        self.count()
        unmarked = self.handed_out.unmarked_rows
        self._read_again(self.handed_out.drop_unmarked())
        self._dropped = 0
        self.handed_out.begin(self._position.batches, self._position.ahead)
        return unmarked

    def drop_unhanded(self) -> None:
        """What was copied and is in no batch that was handed out will be read again."""
        self._read_again(self.handed_out.drop_unhanded())

    def _read_again(self, rows: list[tuple[int, int]]) -> None:
        for partition, count in rows:
            self._position.ledger.receive(partition, -count)

    def in_hand(self, waiting: Positions) -> tuple[Positions, Positions]:
        """Records by partition in no batch that was handed out, with those that wait, and handed out and not marked."""
        self.count()
        buffered, unmarked = self.handed_out.counts()
        for partition, records in waiting.items():
            buffered[partition] = buffered.get(partition, 0) + records
        return buffered, unmarked

    def check(self, waiting: Positions) -> None:
        """Raise `LedgerUnbalanced` where a record was counted twice or not at all; these wait."""
        self.position.ledger.check(self.position.trained, *self.in_hand(waiting))
