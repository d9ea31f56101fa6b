"""The ledger: where every record went, partition by partition.

Over all lives of a run:   position - start = trained + held out + skipped + rejected + lost
In this life:              received = consumed + buffered + handed out and not yet marked

The terms are counted where things happen, the positions they are compared with are computed by the dealing's
arithmetic: two rooms, so that the check can fail.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from protocol.dealing import Positions
from protocol.errors import LedgerUnbalanced

#: What can become of a record whose position has passed.
FATES: Final = ("trained", "held_out", "skipped", "rejected", "lost")


class Ledger:
    """Counts by partition. `start` is where the run began to read."""

    def __init__(self, start: Positions) -> None:
        self.start = dict(start)
        partitions = len(start)
        self._fates = {fate: np.zeros(partitions, np.int64) for fate in FATES}
        self.received = np.zeros(partitions, np.int64)
        self._consumed = np.zeros(partitions, np.int64)

    def count(self, fate: str, partition: int, records: int) -> None:
        """`records` of a partition have met this fate in this life."""
        self._fates[fate][partition] += records
        if fate != "lost":  # what is lost never came in
            self._consumed[partition] += records

    def receive(self, partition: int, records: int) -> None:
        """`records` came in from a reader; negative where what was buffered is thrown away to be read again."""
        self.received[partition] += records

    def check(self, positions: Mapping[int, int], buffered: Mapping[int, int], unmarked: Mapping[int, int]) -> None:
        """Raise `LedgerUnbalanced` where either equation fails. `positions` are the trained ones."""
        for partition, position in positions.items():
            passed = position - self.start[partition]
            fates = {fate: int(counts[partition]) for fate, counts in self._fates.items()}
            if passed != sum(fates.values()):
                raise LedgerUnbalanced(f"partition {partition}: {passed} records have passed, but {fates}")
            received = int(self.received[partition])
            here = {
                "consumed": int(self._consumed[partition]),
                "buffered": buffered.get(partition, 0),
                "unmarked": unmarked.get(partition, 0),
            }
            if received != sum(here.values()):
                raise LedgerUnbalanced(f"partition {partition}: {received} records were received, but {here}")

    def totals(self) -> dict[str, int]:
        """Each fate over all partitions and lives."""
        return {fate: int(counts.sum()) for fate, counts in self._fates.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain numbers in lists."""
        return {"start": dict(self.start), **{fate: counts.tolist() for fate, counts in self._fates.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Ledger":
        """The ledger of an earlier life; what is counted per life begins at zero."""
        ledger = cls({int(partition): int(offset) for partition, offset in state["start"].items()})
        for fate in FATES:
            ledger._fates[fate] = np.asarray(state[fate], np.int64)
        return ledger
