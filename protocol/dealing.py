"""How the records of a stream are dealt to its partitions, and in which order they come back.

Records are dealt in *stripes* of m: record g belongs to stripe b = g // m, which lies in partition b mod P.
So the next record in stream order is the one with the least (offset // m, partition): a pure function of the
positions, which needs no stamp on the wire.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heapreplace

#: partition → offset
Positions = dict[int, int]

TARGET_STRIPE_BYTES = 4 << 20
MAX_STRIPE = 4096
#: Where records differ in size and nobody has said how large they are.
RAGGED_STRIPE = 256
MAX_PARTITIONS = 4096


def stripe_for(record_bytes: int, *, ragged: bool = False) -> int:
    """The power of two nearest under 4 MiB of records, at most 4096; 256 of ragged ones, whose size is not known."""
    if ragged:
        return RAGGED_STRIPE
    fitting = max(1, TARGET_STRIPE_BYTES // max(1, record_bytes))
    return int(min(MAX_STRIPE, 1 << (fitting.bit_length() - 1)))


@dataclass(frozen=True)
class Dealing:
    """P partitions, stripes of m records. Fixed for a stream and part of its identity."""

    partitions: int
    stripe: int

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= MAX_PARTITIONS:
            raise ValueError(f"a stream has 1 to {MAX_PARTITIONS} partitions, not {self.partitions}")
        if not 1 <= self.stripe <= MAX_STRIPE:
            raise ValueError(f"a stripe has 1 to {MAX_STRIPE} records, not {self.stripe}")

    def locate(self, record: int) -> tuple[int, int]:
        """(partition, offset) of the record with this number in stream order."""
        block, row = divmod(record, self.stripe)
        return block % self.partitions, block // self.partitions * self.stripe + row

    def record(self, partition: int, offset: int) -> int:
        """The reverse of `locate`."""
        turn, row = divmod(offset, self.stripe)
        return (turn * self.partitions + partition) * self.stripe + row

    def ends(self, records: int) -> Positions:
        """The log end of each partition once `records` records have been dealt."""
        return dict(_ends(self, records))

    def owned(self, reader: int, readers: int) -> range:
        """The partitions of reader k of n: those with p mod n == k."""
        return range(reader, self.partitions, readers)

    def stripe_end(self, offset: int) -> int:
        """The first offset after the stripe that `offset` lies in."""
        return (offset // self.stripe + 1) * self.stripe

    def advance(self, positions: Mapping[int, int], records: int) -> Positions:
        """The positions after `records` more records in stream order of these partitions.

        Once all stand at the same stripe, whole rounds move each by a stripe: a window may be a million records.
        """
        turns, first = Turns(self, positions), min(positions)
        while records > 0:
            if turns.partition == first and turns.level:
                rounds, records = divmod(records, len(positions) * self.stripe)
                turns = Turns(self, {p: offset + rounds * self.stripe for p, offset in turns.positions.items()})
                turns.advance(records)
                break
            step = min(records, turns.turn_end - turns.positions[turns.partition])
            turns.move(step)
            records -= step
        return turns.positions


class Turns:
    """Positions that move on in stream order: whose turn it is, and where that ends, with its stripe.

    `positions` are changed in place and must not be empty. The end of a stripe costs the logarithm of the number of
    partitions, whatever lies before it costs nothing that grows.
    """

    def __init__(self, dealing: Dealing, positions: Mapping[int, int]) -> None:
        self.positions = dict(positions)
        self._stripe = dealing.stripe
        self._order = [(offset // dealing.stripe, partition) for partition, offset in positions.items()]
        heapify(self._order)
        self._take_turn()

    def move(self, records: int) -> None:
        """The partition whose turn it is moves on by so many records, at most to the end of its stripe."""
        position = self.positions[self.partition] + records
        assert position <= self.turn_end
        self.positions[self.partition] = position
        if position == self.turn_end:
            heapreplace(self._order, (position // self._stripe, self.partition))
            self._take_turn()

    def skip(self, partition: int, offset: int) -> None:
        """The records of a partition before this offset will never come: it waits for its turn there."""
        self.positions[partition] = offset
        self._order = [(at // self._stripe, each) for each, at in self.positions.items()]
        heapify(self._order)
        self._take_turn()

    def advance(self, records: int) -> None:
        """Move on by so many records, over as many stripes as that takes."""
        while records > 0:
            step = min(records, self.turn_end - self.positions[self.partition])
            self.move(step)
            records -= step

    @property
    def level(self) -> bool:
        """Whether all partitions stand at the beginning of the same stripe."""
        beginning = self.turn_end - self._stripe
        return all(position == beginning for position in self.positions.values())

    def _take_turn(self) -> None:
        turn, self.partition = self._order[0]
        self.turn_end = (turn + 1) * self._stripe


def distance(start: Mapping[int, int], end: Mapping[int, int], partitions: Iterable[int] | None = None) -> int:
    """Records from `start` to `end`, over the partitions of `start` unless others are named."""
    return sum(end[p] - start[p] for p in (start if partitions is None else partitions))


@lru_cache(maxsize=16)
def _ends(dealing: Dealing, records: int) -> Positions:
    """A server asks for the same ends several times a turn, one at rate 0 for a whole pass."""
    blocks, rows = divmod(records, dealing.stripe)
    turns, full = divmod(blocks, dealing.partitions)
    return {
        p: turns * dealing.stripe + (dealing.stripe if p < full else rows if p == full else 0)
        for p in range(dealing.partitions)
    }
