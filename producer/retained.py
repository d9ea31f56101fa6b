"""Which stripes a log still has, and how many records it forgot before their time."""

from collections.abc import Mapping

from protocol.dealing import Dealing, Positions


class Retained:
    """Consecutive stripes in stream order, from the one with the number `first` on.

    `dropped` counts by partition the records that were forgotten before anybody had trimmed them.
    """

    def __init__(self, dealing: Dealing, first: int = 0) -> None:
        self.first = first
        self.dropped: Positions = dict.fromkeys(range(dealing.partitions), 0)
        self._dealing = dealing
        self._trimmed: Positions = dict.fromkeys(range(dealing.partitions), 0)

    def start(self, records: int) -> Positions:
        """The first offset of each partition that is kept, in a log of so many records."""
        return self._dealing.ends(min(self.first * self._dealing.stripe, records))

    def trim(self, positions: Mapping[int, int], end: Mapping[int, int]) -> None:
        """Nobody needs what lies before these positions; `end` is how far the log reaches."""
        for partition, offset in positions.items():
            self._trimmed[partition] = max(self._trimmed[partition], min(offset, end[partition]))

    def needed(self, number: int) -> int:
        """Records of a stripe that are not trimmed; those that are yet to be written never are."""
        turn, partition = divmod(number, self._dealing.partitions)
        start, end = turn * self._dealing.stripe, (turn + 1) * self._dealing.stripe
        return end - min(max(self._trimmed[partition], start), end)

    def forget(self) -> None:
        """The first stripe is gone; what of it was needed counts as dropped."""
        self.dropped[self.first % self._dealing.partitions] += self.needed(self.first)
        self.first += 1
