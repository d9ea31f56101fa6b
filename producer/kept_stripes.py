"""The stripes that a memory log has at this moment: which, how many bytes, and what was forgotten too early."""

from collections import deque
from collections.abc import Mapping, Sequence

from producer.block import Block
from protocol.dealing import Dealing, Positions
from protocol.errors import BeyondLogEnd, LogFull, RecordsLost
from protocol.schema import Schema


class KeptStripes:
    """Consecutive stripes in stream order, in at most `max_bytes`. The log that owns it holds its lock.

    `records` counts all that were ever written, `dropped` by partition those that were forgotten untrimmed.
    """

    def __init__(self, schema: Schema, dealing: Dealing, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.records = 0
        self.dropped: Positions = dict.fromkeys(range(dealing.partitions), 0)
        self._trimmed: Positions = dict.fromkeys(range(dealing.partitions), 0)
        self._fields = schema.fields
        self._dealing = dealing
        self._blocks: deque[Block] = deque()
        self._first = 0  # the number in stream order of the stripe that lies first in the deque

    @property
    def free_rows(self) -> int:
        """How many rows the next block to be written has left: a whole stripe where it is yet to be made."""
        return self._blocks[-1].free or self._dealing.stripe if self._blocks else self._dealing.stripe

    @property
    def filled(self) -> float:
        """The share of `max_bytes` that is held; 1 as soon as no further stripe fits."""
        full = self.nbytes + Block.bytes_for(self._fields, self._dealing.stripe) > self.max_bytes
        return 1.0 if full else self.nbytes / self.max_bytes

    def log_start(self) -> Positions:
        """The first offset of each partition that is kept."""
        return self._dealing.ends(min(self._first * self._dealing.stripe, self.records))

    def log_end(self) -> Positions:
        """The offset of each partition after its last record."""
        return self._dealing.ends(self.records)

    def block_with_room(self, elements: Sequence[int]) -> Block | None:
        """The block for the next rows, with room for so many elements in each ragged field; None if there is none now.

        Raises `LogFull` where forgetting all the other stripes would not make room.
        """
        block = self._blocks[-1] if self._blocks and self._blocks[-1].free else None
        if block is None:
            needed = Block.bytes_for(self._fields, self._dealing.stripe, elements)
        else:
            needed = block.growth(elements) if elements else 0
        if self.nbytes + needed > self.max_bytes:
            if (stripe_bytes := needed + (block.nbytes if block else 0)) > self.max_bytes:
                raise LogFull(f"a stripe of {stripe_bytes} bytes does not fit a log of {self.max_bytes}: enlarge it")
            return None
        if block is None:
            block = Block(self._fields, self._dealing.stripe)
            self._blocks.append(block)
        if elements:
            block.reserve(elements)
        self.nbytes += needed
        return block

    def find(self, partition: int, offset: int) -> tuple[Block, int]:
        """The block and the row of an offset; raises `RecordsLost` or `BeyondLogEnd`."""
        turn, row = divmod(offset, self._dealing.stripe)
        at = turn * self._dealing.partitions + partition - self._first
        if at < 0:
            raise RecordsLost(partition, offset, self.log_start()[partition])
        if at >= len(self._blocks) or row >= self._blocks[at].count:
            raise BeyondLogEnd(f"partition {partition} has no offset {offset} yet: it ends before")
        return self._blocks[at], row

    def offset_at(self, partition: int, time_ns: int) -> int:
        """The first offset whose event time is not before `time_ns`; the log end where there is none."""
        for number, block in enumerate(self._blocks, self._first):
            if number % self._dealing.partitions == partition and (row := block.first_row_at(time_ns)) is not None:
                return number // self._dealing.partitions * self._dealing.stripe + row
        return self.log_end()[partition]

    def trim(self, positions: Mapping[int, int]) -> None:
        """Forget the stripes before these positions, oldest first, up to the first that is needed."""
        ends = self.log_end()
        for partition, offset in positions.items():
            self._trimmed[partition] = max(self._trimmed[partition], min(offset, ends[partition]))
        while self._blocks and not self._untrimmed_rows(self._first):
            self._forget_oldest()

    def drop_oldest(self) -> None:
        """Forget the oldest stripe and count what of it was not trimmed."""
        self.dropped[self._first % self._dealing.partitions] += self._untrimmed_rows(self._first)
        self._forget_oldest()

    def clear(self) -> None:
        """Forget all."""
        while self._blocks:
            self._forget_oldest()

    def _untrimmed_rows(self, number: int) -> int:
        """Rows of the stripe with this number that are not trimmed; those that are yet to be written never are."""
        turn, partition = divmod(number, self._dealing.partitions)
        start, end = turn * self._dealing.stripe, (turn + 1) * self._dealing.stripe
        return end - min(max(self._trimmed[partition], start), end)

    def _forget_oldest(self) -> None:
        self.nbytes -= self._blocks.popleft().nbytes
        self._first += 1
