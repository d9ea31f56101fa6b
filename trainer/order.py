"""In which order what has come is trained: that of the merge, unless it is shuffled (trainer/shuffle.py)."""

from collections.abc import Callable
from typing import Protocol

from protocol.dealing import Positions
from trainer.assembly import Rows
from trainer.handed_out import HandedOut
from trainer.merge import Merge, Piece

#: What is done with rows that are held out.
Keep = Callable[[Piece], None]


class Order(Protocol):
    """Gives the rows to be trained, and writes into the trail what passes with them."""

    def ready(self) -> int:
        """Rows that can be taken at once now; at least 1 where `take` has something to do."""

    def take(self, most: int) -> Rows | None:
        """The next rows, at most `most`; None where what came next is not to be trained."""

    def finish(self) -> bool:
        """Nothing more will come: whether something can be taken by that."""

    def gathered(self) -> Positions:
        """Records by partition that have left the merge and are not in the trail."""


class InOrder:
    """The order of the merge."""

    def __init__(self, merge: Merge, handed_out: HandedOut, keep: Keep | None) -> None:
        self._merge, self._handed_out, self._keep = merge, handed_out, keep

    def ready(self) -> int:
        return self._merge.waiting

    def take(self, most: int) -> Rows | None:
        if (hole := self._merge.pass_over()) is not None:
            self._handed_out.add_hole(hole)
            return None
        piece = self._merge.take(most)
        assert piece is not None, "something waits"
        if piece.fate == "trained":
            self._handed_out.copy(piece.chunk.partition, piece.count, piece.end)
            return piece
        self._handed_out.leave_out(piece.chunk.partition, piece.count, piece.fate, piece.end)
        leave_out(piece, self._keep)
        return None

    def finish(self) -> bool:
        return False

    def gathered(self) -> Positions:
        return {}


def leave_out(piece: Piece, keep: Keep | None) -> None:
    """Rows that are not to be trained: held-out ones are kept, and their memory is free."""
    if piece.fate == "held_out" and keep is not None:
        keep(piece)
    if piece.release is not None:
        piece.release()
