"""The server's side of one subscription, without socket, clock or thread.

It keeps only soft state (what to send next and how far credit reaches): a server that was restarted knows none of
it, says so, and the reader subscribes again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions, Turns
from protocol.errors import OutOfRange
from protocol.messages import STREAM, Credit, End, Status, Subscribe


@dataclass(frozen=True)
class Reading:
    """What may be read and sent now: `count` records of `partition` from `offset` on, within one stripe."""

    partition: int
    offset: int
    count: int


class ServerSession:
    """One reader's subscription: its partitions are sent strictly in stream order.

    Times are seconds of any monotonic clock. `user` is whose subscription it is, where the server knows.
    """

    def __init__(self, subscribe: Subscribe, dealing: Dealing, now_s: float, user: str = "") -> None:
        self.token, self.user = subscribe.session, user
        self.split = subscribe.split
        self.group = subscribe.group if subscribe.split == STREAM else None  # groups are of the stream itself
        self._turns = Turns(dealing, subscribe.positions)
        self.next: Positions = self._turns.positions
        self.heard_s = now_s
        self._until: Positions = dict(subscribe.positions)
        self._partial_s = float("-inf")
        #: Seconds in which there was credit and the log ended too soon.
        self.short_s = 0.0
        self._short_since_s: float | None = None
        self._status_s = now_s
        self._said_end = False

    def credit(self, message: Credit, now_s: float) -> None:
        """Credit is cumulative, so an old message that arrives late changes nothing. Raises `OutOfRange`."""
        if not message.until.keys() <= self.next.keys() or not message.trained.keys() <= self.next.keys():
            raise OutOfRange("credit for partitions that were not subscribed to")
        self.heard_s = now_s
        for partition, offset in message.until.items():
            self._until[partition] = max(offset, self._until[partition])

    def believed(self, trained: Positions) -> Positions:
        """What a reader says to have trained, up to what it was sent."""
        return {partition: min(offset, self.next[partition]) for partition, offset in trained.items()}

    def reading(self, log_end: Mapping[int, int], now_s: float, linger_s: float) -> Reading | None:
        """What to send now. None where log or credit is at its end, or where a small chunk may still grow.

        A chunk that ends before its stripe does is *partial*; two of them are at least `linger_s` apart.
        """
        partition, whole = self._turns.partition, self._turns.turn_end
        offset = self.next[partition]
        end = min(whole, log_end[partition], self._until[partition])
        if end <= offset or (end < whole and now_s < self._partial_s + linger_s):
            return None
        return Reading(partition, offset, end - offset)

    def sent(self, chunk: Chunk, now_s: float) -> None:
        """The chunk is on its way."""
        whole = chunk.end == self._turns.turn_end
        self._turns.move(chunk.count)
        if not whole:
            self._partial_s = now_s

    def hungry(self, log_end: Mapping[int, int]) -> bool:
        """Whether it waits for the log, having credit left."""
        partition = self._turns.partition
        return log_end[partition] <= self.next[partition] < self._until[partition]

    def rest(self, log_end: Mapping[int, int], now_s: float) -> None:
        """What could be sent now was sent; until `resume` the time counts as short if the log is why no more was."""
        partition = self._turns.partition
        short = log_end[partition] < min(self._turns.turn_end, self._until[partition])
        self._short_since_s = now_s if short else None

    def resume(self, now_s: float) -> None:
        """Somebody looks again."""
        if self._short_since_s is not None:
            self.short_s += max(0.0, now_s - self._short_since_s)
            self._short_since_s = None

    def status(
        self, log_end: Mapping[int, int], *, ended: bool, save_soon: bool, now_s: float, every_s: float
    ) -> Status | End | None:
        """The sign of life that is due, if one is; END takes its place once everything has been sent."""
        done = ended and all(log_end[partition] == offset for partition, offset in self.next.items())
        if now_s < self._status_s and (self._said_end or not done):
            return None
        self._status_s = now_s + every_s
        self._said_end = done
        if done:
            return End(session=self.token, final=dict(self.next))
        ends = {partition: log_end[partition] for partition in self.next}
        return Status(session=self.token, next=dict(self.next), log_end=ends, save_soon=save_soon)
