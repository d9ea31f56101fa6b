"""The merge by position: chunks come in as they arrive, rows come out in order.

Pure arithmetic over what is buffered. In stream order the next row lies in the partition with the least (offset // m,
partition), so the order does not depend on how many readers there are or which of them was quick. In order of arrival
it lies where the oldest chunk is.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from protocol.chunk import Chunk, Column
from protocol.dealing import Positions, Turns
from protocol.errors import LedgerUnbalanced, Lost
from trainer.arrivals import Arrivals
from trainer.ledger import Fate
from trainer.origin import Origin, Span
from trainer.trail import Hole

Release = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows `start` to `stop` - 1 of a chunk, next in order. `release` frees the memory after the last copy.

    Rows with another `fate` than to be trained have their place in the order all the same.
    """

    chunk: Chunk
    start: int
    stop: int
    release: Release | None
    fate: Fate = "trained"

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def end(self) -> int:
        """The offset after the last row."""
        return self.chunk.offset + self.stop

    @property
    def columns(self) -> dict[str, Column]:
        """The rows by field, arrays [count, *shape] or `Ragged`, over the chunk's memory."""
        return {name: column[self.start : self.stop] for name, column in self.chunk.columns.items()}

    @property
    def origin(self) -> Origin:
        """Where the rows come from."""
        first, last = self.chunk.time_ns(self.start), self.chunk.time_ns(self.stop - 1)
        return Span(self.chunk.partition, self.chunk.offset + self.start, self.count, first, last)


_Waiting = tuple[Chunk | Hole, Release | None, Fate]


class Merge:
    """Buffers chunks by partition and gives them by `turns`, whose positions are those of what has been handed out."""

    def __init__(self, turns: Turns | Arrivals) -> None:
        self._turns = turns
        self.positions = turns.positions
        self._waiting: dict[int, deque[tuple[Chunk | Hole, Release | None, Fate]]] = {
            p: deque() for p in turns.positions
        }

    def add(self, chunk: Chunk, release: Release | None = None, fate: Fate = "trained") -> None:
        """A chunk has arrived; those of one partition arrive in order."""
        self._wait(chunk, release, fate)

    def add_hole(self, hole: Hole) -> None:
        """These records will never arrive; those of the partition that did lie before them."""
        self._wait(hole, None, "lost" if isinstance(hole, Lost) else "absent")

    def _wait(self, item: Chunk | Hole, release: Release | None, fate: Fate) -> None:
        self._waiting[item.partition].append((item, release, fate))
        if isinstance(self._turns, Arrivals):
            self._turns.arrive(item.partition, item.end)

    def pass_over(self) -> Hole | None:
        """What is next in order, if it will never arrive; what comes then lies behind it."""
        waiting = self._waiting[self._turns.partition]
        if not waiting or not isinstance(hole := waiting[0][0], Hole):
            return None
        at = self.positions[hole.partition]
        if hole.first != at:
            raise LedgerUnbalanced(f"partition {hole.partition} is at {at}, but {hole}")
        waiting.popleft()
        self._turns.skip(hole.partition, hole.end)
        return hole

    def take(self, most: int) -> Piece | None:
        """The next rows in order, at most `most`; None where they have not arrived, or never will."""
        turns = self._turns
        partition = turns.partition
        waiting = self._waiting[partition]
        if not waiting:
            return None
        chunk, release, fate = waiting[0]
        if isinstance(chunk, Hole):
            return None
        start, count = self.positions[partition] - chunk.offset, chunk.count
        if not 0 <= start < count:
            at = self.positions[partition]
            raise LedgerUnbalanced(f"partition {partition} is at {at}, but offset {chunk.offset} was handed over")
        stop = min(start + most, count, turns.turn_end - chunk.offset)
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
        waiting = self._waiting[turns.partition]
        if not waiting:
            return 0
        return max(1, min(waiting[0][0].end, turns.turn_end) - self.positions[turns.partition])

    def buffered(self) -> Positions:
        """Records that have arrived and were not handed out, by partition."""
        return {
            partition: sum(
                item.end - max(item.offset, self.positions[partition])
                for item, *_ in waiting
                if isinstance(item, Chunk)
            )
            for partition, waiting in self._waiting.items()
        }

    def received(self) -> Positions:
        """The offset of each partition after the last record that has arrived or is known never to."""
        return {p: waiting[-1][0].end if waiting else self.positions[p] for p, waiting in self._waiting.items()}

    def grow(self, added: Positions) -> None:
        """The stream has these partitions as well, from these positions on."""
        self.positions |= added
        self._waiting |= {partition: deque() for partition in added}

    def clear(self) -> Positions:
        """Throw away what is buffered, to be read again; how much that was."""
        thrown = self.buffered()
        if isinstance(self._turns, Arrivals):
            self._turns.forget()
        for waiting in self._waiting.values():
            while waiting:
                _, release, _ = waiting.popleft()
                if release is not None:
                    release()
        return thrown
