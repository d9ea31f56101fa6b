"""The merge by position: chunks come in as they arrive, rows come out in stream order.

Pure arithmetic over what is buffered. The next row lies in the partition with the least (offset // m, partition), so
the order does not depend on how many readers there are or which of them was quick.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from protocol.chunk import Chunk, Column
from protocol.dealing import Dealing, Positions, Turns
from protocol.errors import LedgerUnbalanced, Lost
from trainer.ledger import Fate
from trainer.origin import Origin, Span


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows `start` to `stop` - 1 of a chunk, next in stream order. `release` frees the memory after the last copy.

    Rows with another `fate` than to be trained have their place in the order all the same.
    """

    chunk: Chunk
    start: int
    stop: int
    release: Callable[[], None] | None
    fate: Fate = "trained"

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def columns(self) -> dict[str, Column]:
        """The rows by field, arrays [count, *shape] or `Ragged`, over the chunk's memory."""
        return {name: column[self.start : self.stop] for name, column in self.chunk.columns.items()}

    @property
    def origin(self) -> Origin:
        """Where the rows come from."""
        first, last = self.chunk.time_ns(self.start), self.chunk.time_ns(self.stop - 1)
        return Span(self.chunk.partition, self.chunk.offset + self.start, self.count, first, last)


class Merge:
    """Buffers chunks by partition. `positions` are those of what has been handed out."""

    def __init__(self, dealing: Dealing, positions: Positions) -> None:
        self._turns = Turns(dealing, positions)
        self.positions = self._turns.positions
        self._chunks: dict[int, deque[tuple[Chunk | Lost, Callable[[], None] | None, Fate]]] = {
            p: deque() for p in positions
        }

    def add(self, chunk: Chunk, release: Callable[[], None] | None = None, fate: Fate = "trained") -> None:
        """A chunk has arrived; those of one partition arrive in order."""
        self._chunks[chunk.partition].append((chunk, release, fate))

    def lose(self, lost: Lost) -> None:
        """These records will never arrive; those of the partition that did lie before them."""
        self._chunks[lost.partition].append((lost, None, "lost"))

    def pass_over(self) -> Lost | None:
        """What is next in stream order, if it will never arrive; what comes then lies behind it."""
        waiting = self._chunks[self._turns.partition]
        if not waiting or not isinstance(lost := waiting[0][0], Lost):
            return None
        at = self.positions[lost.partition]
        if lost.first != at:
            raise LedgerUnbalanced(f"partition {lost.partition} is at {at}, but {lost}")
        waiting.popleft()
        self._turns.skip(lost.partition, lost.end)
        return lost

    def take(self, most: int) -> Piece | None:
        """The next rows in stream order, at most `most`; None where they have not arrived, or never will."""
        turns = self._turns
        partition = turns.partition
        waiting = self._chunks[partition]
        if not waiting:
            return None
        chunk, release, fate = waiting[0]
        if isinstance(chunk, Lost):
            return None
        start, count = self.positions[partition] - chunk.offset, chunk.count
        if not 0 <= start < count:
            at = self.positions[partition]
            raise LedgerUnbalanced(f"partition {partition} is at {at}, but offset {chunk.offset} was handed over")
        stop = min(start + most, count, turns.stripe_end - chunk.offset)
        last = stop == count
        if last:
            waiting.popleft()
        turns.move(stop - start)
        return Piece(chunk, start, stop, release if last else None, fate)

    @property
    def partition(self) -> int:
        """Whose turn it is."""
        return self._turns.partition

    @property
    def waiting(self) -> int:
        """Rows that `take` can give at once now; at least 1 where it or `pass_over` has something to say."""
        turns = self._turns
        chunks = self._chunks[turns.partition]
        if not chunks:
            return 0
        return max(1, min(chunks[0][0].end, turns.stripe_end) - self.positions[turns.partition])

    def buffered(self) -> Positions:
        """Records that have arrived and were not handed out, by partition."""
        return {
            partition: sum(
                chunk.end - max(chunk.offset, self.positions[partition])
                for chunk, *_ in chunks
                if isinstance(chunk, Chunk)
            )
            for partition, chunks in self._chunks.items()
        }

    def received(self) -> Positions:
        """The offset of each partition after the last record that has arrived or is known to be lost."""
        return {p: chunks[-1][0].end if chunks else self.positions[p] for p, chunks in self._chunks.items()}

    def clear(self) -> Positions:
        """Throw away what is buffered, to be read again; how much that was."""
        thrown = self.buffered()
        for chunks in self._chunks.values():
            while chunks:
                _, release, _ = chunks.popleft()
                if release is not None:
                    release()
        return thrown
