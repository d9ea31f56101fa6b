"""The ledger: where every record went, partition by partition.

Over all lives of a run:   position - start = trained + held out + thinned + skipped + rejected + lost + absent
In this life:              received = consumed + buffered + handed out and not yet marked

A run that goes on with another stream begins a ledger for it and closes the one before, whose equation still holds: its
positions are the log end, or as much of it as was heard of.

The terms are counted where things happen, the positions they are compared with are computed by the dealing's
arithmetic, or, where a stream is read in order of arrival, told by the offsets of what has passed: two rooms, so that
the check can fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from protocol.dealing import Positions
from protocol.errors import LedgerUnbalanced

#: What can become of a record whose position has passed; where there never was one, that is "absent".
Fate = Literal["trained", "held_out", "thinned", "skipped", "rejected", "lost", "absent"]
FATES: Final[tuple[Fate, ...]] = get_args(Fate)
#: Of these nothing ever came in.
HOLES: Final[tuple[Fate, ...]] = ("lost", "absent")


class Ledger:
    """Counts by partition. `start` is where the run began to read."""

    def __init__(self, start: Positions) -> None:
        self.start: Positions = {}
        self._fates: dict[Fate, list[int]] = {fate: [] for fate in FATES}
        self._received: list[int] = []
        self._consumed: list[int] = []
        self.grow(start)

    def grow(self, start: Positions) -> None:
        """The stream has these partitions as well, behind those that it had."""
        self.start |= start
        for counts in (*self._fates.values(), self._received, self._consumed):
            counts.extend([0] * len(start))

    def count(self, fate: Fate, partition: int, records: int) -> None:
        """`records` of a partition have met this fate in this life."""
        self._fates[fate][partition] += records
        if fate not in HOLES:
            self._consumed[partition] += records

    def found(self, fate: Fate, partition: int, records: int) -> None:
        """`records` that count as lost had met this fate in an earlier life."""
        self._fates["lost"][partition] -= records
        self._fates[fate][partition] += records

    def receive(self, partition: int, records: int) -> None:
        """`records` came in from a reader; negative where what was buffered is thrown away to be read again."""
        self._received[partition] += records

    def check(self, positions: Mapping[int, int], buffered: Mapping[int, int], unmarked: Mapping[int, int]) -> None:
        """Raise `LedgerUnbalanced` where either equation fails. `positions` are the trained ones."""
        self.check_positions(positions)
        for partition in positions:
            received = self._received[partition]
            here = {
                "consumed": self._consumed[partition],
                "buffered": buffered.get(partition, 0),
                "unmarked": unmarked.get(partition, 0),
            }
            if received != sum(here.values()):
                raise LedgerUnbalanced(f"partition {partition}: {received} records were received, but {here}")

    def check_positions(self, positions: Mapping[int, int]) -> None:
        """Raise `LedgerUnbalanced` where the first equation fails, which is that of all lives."""
        for partition, position in positions.items():
            passed, fates = position - self.start[partition], self.fates(partition)
            if passed != sum(fates.values()):
                raise LedgerUnbalanced(f"partition {partition}: {passed} records have passed, but {fates}")

    def fates(self, partition: int) -> dict[str, int]:
        """What became of a partition's records that have passed."""
        return {fate: counts[partition] for fate, counts in self._fates.items()}

    def totals(self) -> dict[str, int]:
        """Each fate over all partitions and lives."""
        return {fate: sum(counts) for fate, counts in self._fates.items()}

    @property
    def received(self) -> int:
        """Records that came in from readers in this life."""
        return sum(self._received)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain numbers in lists."""
        return {"start": dict(self.start), **{fate: list(counts) for fate, counts in self._fates.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Ledger":
        """The ledger of an earlier life; what is counted per life begins at zero."""
        ledger = cls(offsets(state["start"]))
        for fate in FATES:
            ledger._fates[fate] = [int(count) for count in state[fate]]
        return ledger


@dataclass(frozen=True, kw_only=True)
class ClosedLedger:
    """Where the records of a stream went that another one has followed; nothing is counted in it any more.

    `positions` are its log end; where it never `ended`, the log end that was last heard, so what it lost is at least
    what its ledger says.
    """

    incarnation: str
    ended: bool
    positions: Positions
    ledger: Ledger

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        stands = {"incarnation": self.incarnation, "ended": self.ended, "positions": dict(self.positions)}
        return {**stands, "ledger": self.ledger.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "ClosedLedger":
        """The reverse."""
        return cls(
            incarnation=str(state["incarnation"]),
            ended=bool(state["ended"]),
            positions=offsets(state["positions"]),
            ledger=Ledger.from_state(state["ledger"]),
        )


def add_up(ledgers: Sequence[Ledger]) -> dict[str, int]:
    """Each fate over several ledgers."""
    totals = [ledger.totals() for ledger in ledgers]
    return {fate: sum(each[fate] for each in totals) for fate in FATES}


def offsets(state: Mapping[Any, Any]) -> Positions:
    """Positions as a checkpoint keeps them."""
    return {int(partition): int(offset) for partition, offset in state.items()}
