"""What comes in: the readers are opened, replaced and closed, and what they hand over waits here until it is copied."""

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from protocol.chunk import Chunk
from protocol.dealing import Positions, Turns
from protocol.errors import HeadraceError, PartitionsAdded, StreamError
from protocol.subscription import Undecodable
from trainer.arrivals import Arrivals
from trainer.dataset import Failed, Item
from trainer.growth import Growth
from trainer.ledger import Ledger
from trainer.merge import Merge
from trainer.readers import Readers
from trainer.selection import Selection
from trainer.shared import SlottedChunk
from trainer.stages import WAITING, Stages
from trainer.trail import Hole
from trainer.workers import WorkerDied

logger = logging.getLogger(__name__)

#: Workers that may die one after the other without having said anything.
FUTILE_STARTS = 3


class Incoming:
    """The readers of one iteration; `merge` buffers their chunks, which come by `turns`. `open_readers(positions)`
    starts them, `selection` says what becomes of each record, `growth` where partitions begin that the stream has got.

    What arrives is counted in `ledger` as received, and as not received where it is thrown away to be read again.
    """

    def __init__(
        self,
        open_readers: Callable[[Positions], Readers],
        growth: Callable[[PartitionsAdded], Growth],
        selection: Selection,
        turns: Turns | Arrivals,
        ledger: Ledger,
        stages: Stages,
    ) -> None:
        self.merge = Merge(turns)
        self._open_readers, self._grows, self._selection = open_readers, growth, selection
        self._ledger, self._stages = ledger, stages
        self._futile = 0
        self._readers: Readers | None = None
        #: While the stream grows there are no readers.
        self._growth: Growth | None = None
        self._open(self.merge.positions)

    def pull(self) -> list[Item] | None:
        """What the readers have now, None where nothing came in time. Raises `AllEnded`, `WorkerDied`."""
        with self._stages.of(WAITING) if self.waits else nullcontext():  # else somebody waits for several
            items = self._grown(self._growth) if self._readers is None else self._readers.next()
        if items is not None:
            self._futile = 0
        return items

    @property
    def waits(self) -> bool:
        """Whether `pull` waits a little for what comes."""
        source = self._readers or self._growth
        assert source is not None
        return source.waits

    def buffer(self, item: Chunk | SlottedChunk) -> None:
        """A chunk waits for its turn."""
        chunk, release = self._viewed(item) if isinstance(item, SlottedChunk) else (item, None)
        for start, stop, fate in self._selection.runs(chunk):
            last = release if stop == chunk.count else None  # the others of a partition go before it
            part = chunk.part(start, stop) if stop - start < chunk.count else chunk
            self.merge.add(part, last, fate)
        self._ledger.receive(chunk.partition, chunk.count)

    def reject(self, bad: Undecodable) -> None:
        """A record that could not be decoded waits for its turn to be passed over. Raises `DataFault`."""
        self._selection.reject(bad)
        self.merge.add(bad.chunk, None, "rejected")
        self._ledger.receive(bad.chunk.partition, bad.chunk.count)

    def _viewed(self, slotted: SlottedChunk) -> tuple[Chunk, Callable[[], None]]:
        slots = self._readers.slots if self._readers is not None else None
        assert slots is not None
        return slots.view(slotted), lambda: slots.free(slotted)

    def add_holes(self, holes: Iterable[Hole]) -> None:
        """These records will never come."""
        for each in holes:
            self.merge.add_hole(each)

    def replace(self, died: WorkerDied) -> None:
        """Begin with new workers where the merge stands. Raises `StreamError` where they die again and again."""
        self._futile += 1
        if self._futile > FUTILE_STARTS:
            mend = "does the script guard its start with if __name__ == '__main__'?"
            raise StreamError(f"workers end before they have begun ({died}): {mend}") from died
        logger.warning("a worker died and is replaced: %s", died)
        self.close()
        self._open(self.merge.positions)

    def grow(self, added: PartitionsAdded) -> None:
        """The stream has more partitions: what has come stays, and new readers begin behind it once it is known where
        the others begin.
        """
        self.close_readers()
        self._growth = self._grows(added)

    def _grown(self, growth: Growth | None) -> list[Item] | None:
        """What a reader would say meanwhile."""
        assert growth is not None, "nothing is pulled of what is closed"
        try:
            positions = growth.begins()
        except HeadraceError as error:
            return [Failed(error)]
        if positions is None:
            return None if (away := growth.away()) is None else [away]
        self.close_readers()
        self.merge.grow(positions)
        self._open(self.merge.received())
        return []

    def close(self, gathered: Positions | None = None) -> None:
        """End the readers; what is buffered, and was `gathered` out of that in vain, is read again another time."""
        for records_by_partition in (self.merge.clear(), gathered or {}):
            for partition, records in records_by_partition.items():
                self._ledger.receive(partition, -records)
        self.close_readers()

    def close_readers(self) -> None:
        """Nothing more comes; what is buffered stays."""
        for source in (self._readers, self._growth):
            if source is not None:
                with self._stages.of("reader"):
                    source.close()
        self._readers = self._growth = None

    def _open(self, positions: Positions) -> None:
        with self._stages.of("reader"):
            self._readers = self._open_readers(positions)
