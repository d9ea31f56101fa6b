"""The positions that the weights have seen, as they move on with what has passed."""

from protocol.dealing import Dealing, Positions, Turns
from protocol.stream import StreamOrder
from trainer.trail import Hole, Passed


class Reached:
    """`positions` move on in place: by the number of rows that have passed, as the dealing has it; in order of arrival
    to the offsets at which they end. Where the rows came from is not looked at: the ledger is held against this.
    """

    def __init__(self, order: StreamOrder, dealing: Dealing, positions: Positions) -> None:
        self._turns = Turns(dealing, positions) if order == "stripes" else None
        self.positions = dict(positions) if self._turns is None else self._turns.positions

    def move(self, passed: Passed) -> None:
        """These rows have passed."""
        if self._turns is not None:
            self._turns.advance(passed.rows)
        else:
            assert passed.end is not None, "no window is shuffled in order of arrival"
            self.positions[passed.partition] = passed.end

    def skip(self, hole: Hole) -> None:
        """No record will ever come of these offsets."""
        if self._turns is not None:
            self._turns.skip(hole.partition, hole.end)
        else:
            self.positions[hole.partition] = hole.end
