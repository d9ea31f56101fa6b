"""The stripes that a log has in memory at this moment: which, and how many bytes."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from producer.block import Block
from producer.retained import Retained
from protocol.dealing import Dealing, Positions
from protocol.errors import BeyondLogEnd, LogFull, RecordsLost
from protocol.schema import Schema


class KeptStripes:
    """Consecutive stripes in stream order, in at most `max_bytes`. The log that owns it holds its lock.

    `records` counts all that were ever written. A log that goes on after a former life may begin inside a stripe: the
    rows before lie elsewhere, and `find` and `offset_at` are not for such a log. Where rows only wait here to be
    written elsewhere (`waiting`), a stripe that is too large comes in parts: `let_go` of what of it was written.
    """

    def __init__(
        self, schema: Schema, dealing: Dealing, max_bytes: int, *, records: int = 0, waiting: bool = False
    ) -> None:
        self.max_bytes = max_bytes
        self._waiting = waiting
        self.nbytes = 0
        self.records = records
        self.retained = Retained(dealing, records // dealing.stripe)
        self._fields = schema.fields
        self._dealing = dealing
        self._blocks: deque[Block] = deque()

    @property
    def free_rows(self) -> int:
        """How many rows the next block to be written has left: a whole stripe where it is yet to be made."""
        return self._dealing.stripe - self.records % self._dealing.stripe

    @property
    def filled(self) -> float:
        """The share of `max_bytes` that is held; 1 as soon as no further stripe fits."""
        full = self.nbytes + Block.bytes_for(self._fields, self._dealing.stripe) > self.max_bytes
        return 1.0 if full else self.nbytes / self.max_bytes

    def log_start(self) -> Positions:
        """The first offset of each partition that is kept."""
        return self.retained.start(self.records)

    def log_end(self) -> Positions:
        """The offset of each partition after its last record."""
        return self._dealing.ends(self.records)

    def block_with_room(self, elements: Sequence[int]) -> Block | None:
        """The block for the next rows, with room for so many elements in each ragged field; None if there is none now.

        Raises `LogFull` where forgetting all that can be forgotten would not make room.
        """
        block = self._blocks[-1] if self._blocks and self._blocks[-1].free else None
        if block is None:
            needed = Block.bytes_for(self._fields, self.free_rows, elements)
        else:
            needed = block.growth(elements) if elements else 0
        if self.nbytes + needed > self.max_bytes:
            self._check_fits(needed + (block.nbytes if block else 0), elements)
            return None
        if block is None:
            block = Block(self._fields, self.free_rows)
            self._blocks.append(block)
        if elements:
            block.reserve(elements)
        self.nbytes += needed
        return block

    def _check_fits(self, stripe_bytes: int, elements: Sequence[int]) -> None:
        if not self._waiting:
            if stripe_bytes > self.max_bytes:
                raise LogFull(f"a stripe of {stripe_bytes} bytes does not fit a log of {self.max_bytes}: enlarge it")
        elif (nbytes := Block.bytes_for(self._fields, self.free_rows, elements)) > self.max_bytes:
            room = f"{nbytes} bytes at once are more than the {self.max_bytes} that may wait for the disk"
            raise LogFull(f"{room}: give smaller records, or fewer at once")

    def find(self, partition: int, offset: int) -> tuple[Block, int]:
        """The block and the row of an offset; raises `RecordsLost` or `BeyondLogEnd`."""
        turn, row = divmod(offset, self._dealing.stripe)
        at = turn * self._dealing.partitions + partition - self.retained.first
        if at < 0:
            raise RecordsLost(partition, offset, self.log_start()[partition])
        if at >= len(self._blocks) or row >= self._blocks[at].count:
            raise BeyondLogEnd(f"partition {partition} has no offset {offset} yet: it ends before")
        return self._blocks[at], row

    def since(self, record: int) -> Iterator[tuple[int, Block, int, int]]:
        """What was written from the record with this number on: (number of the first, block, first row, end row)."""
        for number, block in enumerate(self._blocks, self.retained.first + 1):
            first = number * self._dealing.stripe - block.rows
            if (row := max(0, record - first)) < block.count:
                yield first + row, block, row, block.count

    def offset_at(self, partition: int, time_ns: int) -> int:
        """The first offset whose event time is not before `time_ns`; the log end where there is none."""
        for number, block in enumerate(self._blocks, self.retained.first):
            if number % self._dealing.partitions == partition and (row := block.first_row_at(time_ns)) is not None:
                return number // self._dealing.partitions * self._dealing.stripe + row
        return self.log_end()[partition]

    def trim(self, positions: Mapping[int, int]) -> None:
        """Forget the stripes before these positions, oldest first, up to the first that is needed."""
        self.retained.trim(positions, self.log_end())
        while self._blocks and not self.retained.needed(self.retained.first):
            self.forget_oldest()

    def forget_oldest(self) -> None:
        """Forget the oldest stripe; what of it was not trimmed counts as dropped."""
        self.nbytes -= self._blocks.popleft().nbytes
        self.retained.forget()

    def let_go(self) -> None:
        """All of it was written elsewhere: the rest of an unfinished stripe begins anew."""
        while self._blocks:
            self.nbytes -= self._blocks.popleft().nbytes

    def clear(self) -> None:
        """Forget all."""
        while self._blocks:
            self.forget_oldest()
