"""What comes in: the readers are opened, replaced and closed, and what they hand over waits here until it is copied."""

import logging
from collections.abc import Callable, Iterable

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import Lost, StreamError
from trainer.dataset import Item
from trainer.ledger import Ledger
from trainer.merge import Merge
from trainer.readers import Readers, WorkerDied
from trainer.shared import SlottedChunk
from trainer.stages import WAITING, Stages

logger = logging.getLogger(__name__)

#: Workers that may die one after the other without having said anything.
FUTILE_STARTS = 3


class Incoming:
    """The readers of one iteration; `merge` buffers their chunks. `open_readers(positions)` starts them.

    What arrives is counted in `ledger` as received, and as not received where it is thrown away to be read again.
    """

    def __init__(
        self,
        open_readers: Callable[[Positions], Readers],
        dealing: Dealing,
        positions: Positions,
        ledger: Ledger,
        stages: Stages,
    ) -> None:
        self.merge = Merge(dealing, positions)
        self._open_readers, self._ledger, self._stages = open_readers, ledger, stages
        self._futile = 0
        self._readers: Readers | None = None
        self._open()

    def pull(self) -> list[Item]:
        """What the readers have now; none where nothing came in time. Raises `AllEnded`, `WorkerDied`."""
        assert self._readers is not None
        with self._stages.of(WAITING):
            items = self._readers.next()
        self._futile = 0
        return items

    def buffer(self, chunk: Chunk | SlottedChunk) -> Chunk:
        """A chunk waits for its turn; as it can be looked at."""
        release = None
        if isinstance(chunk, SlottedChunk):
            slots, slotted = self._readers.slots if self._readers is not None else None, chunk
            assert slots is not None
            chunk, release = slots.view(slotted), lambda: slots.free(slotted)
        self._ledger.receive(chunk.partition, chunk.count)
        self.merge.add(chunk, release)
        return chunk

    def lose(self, lost: Iterable[Lost]) -> None:
        """These records will never come."""
        for each in lost:
            self.merge.lose(each)

    def replace(self, died: WorkerDied) -> None:
        """Begin with new workers where the merge stands. Raises `StreamError` where they die again and again."""
        self._futile += 1
        if self._futile > FUTILE_STARTS:
            mend = "does the script guard its start with if __name__ == '__main__'?"
            raise StreamError(f"workers end before they have begun ({died}): {mend}") from died
        logger.warning("a worker died and is replaced: %s", died)
        self.close()
        self._open()

    def close(self) -> None:
        """End the readers; what is buffered is read again another time."""
        for partition, records in self.merge.clear().items():
            self._ledger.receive(partition, -records)
        self.close_readers()

    def close_readers(self) -> None:
        """Nothing more comes; what is buffered stays."""
        if self._readers is not None:
            with self._stages.of("reader"):
                self._readers.close()
            self._readers = None

    def _open(self) -> None:
        with self._stages.of("reader"):
            self._readers = self._open_readers(self.merge.positions)
