"""From what the readers have to batches: one iteration over one stream."""

from collections.abc import Iterator

from protocol.chunk import Chunk
from protocol.errors import PartitionsAdded, StreamError, StreamReplaced
from protocol.subscription import Absent, Away, Ended, Expired, Heard, Subscribed, Undecodable, Waited
from trainer.accounting import Accounting
from trainer.assembly import Assembly
from trainer.batch import Batch
from trainer.dataset import Failed, Item
from trainer.idleness import Idleness
from trainer.incoming import Incoming
from trainer.order import Order
from trainer.readers import AllEnded
from trainer.shared import SlottedChunk
from trainer.stages import Stages
from trainer.workers import WorkerDied


class Batching:
    """Chunks come in, wait for their turn, and are copied into batches; what is heard beside them goes to the position.

    Where the run goes on in spite of losses, a stream that has taken this one's place is no error: what had come is
    handed out, and `replaced` says so.
    """

    def __init__(
        self,
        incoming: Incoming,
        assembly: Assembly,
        accounting: Accounting,
        order: Order,
        stages: Stages,
        idleness: Idleness,
    ) -> None:
        self._incoming, self._assembly, self._accounting = incoming, assembly, accounting
        self._order, self._stages, self._idleness = order, stages, idleness
        self.replaced: StreamReplaced | None = None
        assembly.begin()

    def next(self) -> Iterator[Batch]:
        """All batches that are complete, at least one; none where nothing more will come or the end was asked for."""
        number = self._accounting.handed_out.number + 1
        self._idleness.begin()
        while not self._idleness.stopping:
            self._copy()
            if self._assembly.complete:
                return self._assembly.batches(number)
            if (self.replaced is not None or not self._pull()) and not self._order.finish():
                break
        return iter(()) if self._idleness.stopping else self._assembly.rest(number)

    def _copy(self) -> None:
        """Copy what has come into the block, as far as that has room."""
        assembly, order, positions = self._assembly, self._order, self._incoming.merge.positions
        while (ready := order.ready()) and (room := assembly.room(ready)):
            if (rows := order.take(room)) is not None:
                assembly.add(rows, positions)

    def _pull(self) -> bool:
        """Take in what the readers have; false where nothing will ever come."""
        try:
            items = self._incoming.pull()
        except AllEnded:
            if not self._accounting.position.end_known:
                raise StreamError("the readers have ended before their stream did") from None
            return False
        except WorkerDied as died:
            if self._idleness.stopping:
                return False
            self._accounting.count()
            self._incoming.replace(died)
            items = None
        for item in items or ():
            self._take_in(item)
        self._idleness.go_on()
        return True

    def _take_in(self, item: Item) -> None:
        match item:
            case SlottedChunk() | Chunk():
                self._incoming.buffer(item)
                self._idleness.received()
            case Undecodable():
                self._incoming.reject(item)
                self._idleness.received()
            case Expired():
                self._accounting.position.hear(item)
                self._incoming.add_holes(item.lost)
            case Absent():
                self._incoming.add_holes((item,))
            case Subscribed() | Heard() | Away() | Ended():
                self._accounting.position.hear(item)
            case Waited():
                self._stages.blame(item)
            case Failed(StreamReplaced() as replaced) if self._accounting.position.on_loss == "continue":
                self.replaced = replaced
                self._incoming.close_readers()
                self._incoming.add_holes(self._accounting.position.lose_rest(self._incoming.merge.received()))
            case Failed(PartitionsAdded() as added):
                self._incoming.grow(added)
            case Failed():
                raise self._accounting.position.explained(item.error)

    def waiting(self) -> dict[int, int]:
        """Records by partition that have come and are not copied yet."""
        counts = self._incoming.merge.buffered()
        for partition, records in self._order.gathered().items():
            counts[partition] = counts.get(partition, 0) + records
        return counts

    def close(self) -> None:
        """End the readers; what waits is read again another time."""
        self._accounting.count()  # readers that leave say once more what was trained
        self._incoming.close(self._order.gathered())
