"""The reader's side of a subscription, without socket, clock or thread.

Replies and the time go in; events come out, and requests gather in `outbox` for whoever owns the socket. The session
repairs every loss on the link by subscribing again from what it has received: a gap between chunks, a status that
speaks of chunks that never came, silence, or a server that does not know it (it was restarted).
"""

from collections.abc import Callable
from enum import Enum

from protocol.chunk import MAX_CHUNK_BYTES, Chunk, from_frames
from protocol.dealing import TARGET_STRIPE_BYTES, Positions, Turns
from protocol.errors import (
    BeyondLogEnd,
    OutOfRange,
    PeerError,
    RecordsLost,
    StreamReplaced,
    VersionMismatch,
    lost_between,
    peer_error,
)
from protocol.messages import Bye, ChunkMessage, Credit, End, Refusal, Reply, Request, Status, Subscribe, Welcome
from protocol.stream import StreamInfo
from protocol.subscription import Away, Ended, Event, Expired, Heard, Progress, ReaderSettings, Subscribed, Subscription


class State(Enum):
    """Where a session stands."""

    SUBSCRIBING = "subscribing"
    STREAMING = "streaming"
    ENDED = "ended"


class ReaderSession:
    """One subscription of one reader.

    `tokens` draws session numbers that no other session of this server will have; `progress` is asked whenever
    something is said to the server. Times are seconds of any monotonic clock.
    """

    def __init__(
        self,
        subscription: Subscription,
        settings: ReaderSettings,
        tokens: Callable[[], int],
        now_s: float,
        progress: Callable[[], Progress] = Progress,
    ) -> None:
        self.subscription, self.settings = subscription, settings
        self._tokens, self._progress = tokens, progress
        self.state = State.SUBSCRIBING
        self.outbox: list[Request] = []
        self.received = dict(subscription.positions)
        self._turns: Turns | None = None
        self._taken = dict(subscription.positions)
        self._until: Positions = {}
        self._info: StreamInfo | None = None
        self._window = 0
        self._granted_at = 0
        self._taken_count = 0
        self._away = False
        #: Seconds for which the server had nothing to send, as far as it has said so.
        self.source_s = self._session_source_s = 0.0
        self._heard_s = self._checked_s = now_s
        self._retry_pause_s = settings.retry_first_s
        self._subscribe(now_s)

    # --- the time ------------------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> list[Event]:
        """Let the time pass: retries, signs of life, and the notice that the server is away."""
        events: list[Event] = []
        if now_s - self._checked_s > self.settings.away_after_s:
            self._heard_s = now_s  # this side was not listening: the silence is its own
        self._checked_s = now_s
        if self.state is State.ENDED:
            return events
        if now_s - self._heard_s > self.settings.away_after_s and not self._away:
            self._away = True
            self.state = State.SUBSCRIBING
            events.append(Away(now_s - self._heard_s))
        if now_s >= self._due_s:
            if self.state is State.STREAMING:
                self._grant(now_s)
            else:
                self._retry_pause_s = min(2 * self._retry_pause_s, self.settings.retry_most_s)
                self._subscribe(now_s)
        return events

    def due_s(self) -> float:
        """When `advance` has something to do again."""
        return self._due_s

    # --- what the owner says -------------------------------------------------------------------------------------

    def take(self, partition: int, end: int, now_s: float) -> None:
        """Everything of `partition` before `end` has been handed over, so that there is room for more."""
        end = max(end, self._taken[partition])  # lost records may lie behind a chunk that is taken only now
        self._taken_count += end - self._taken[partition]
        self._taken[partition] = end
        if self.state is State.STREAMING and self._taken_count - self._granted_at >= self._window // 2:
            self._grant(now_s)

    def stay(self, now_s: float) -> None:
        """Nothing can be taken now: say the sign of life that is due. Silence of the server is not judged meanwhile."""
        if self.state is State.STREAMING and now_s >= self._due_s:
            self._grant(now_s)

    def leave(self) -> None:
        """End the subscription, saying once more what has been trained."""
        if self.state is not State.SUBSCRIBING:
            progress = self._progress()
            self.outbox.append(
                Credit(session=self._session, until={}, trained=progress.trained, durable=progress.durable)
            )
        self.outbox.append(Bye(session=self._session))

    # --- what the server says ------------------------------------------------------------------------------------

    def receive(self, reply: Reply, now_s: float) -> list[Event]:
        """Take in one message.

        Raises `RecordsLost`, `BeyondLogEnd` or `StreamReplaced` where the subscription cannot hold, `PeerError`
        where the server breaks the protocol. What belongs to another session is passed over.
        """
        if isinstance(reply, Refusal) and reply.code == VersionMismatch.code:
            raise VersionMismatch(reply.text)  # it names no session: the server could not read the message
        if getattr(reply, "session", None) != self._session or self.state is State.ENDED:
            return []
        self._heard_s = now_s
        match reply:
            case Welcome():
                return self._welcome(reply, now_s)
            case Refusal():
                return self._refused(reply, now_s)
            case _ if self.state is not State.STREAMING:
                return []
            case ChunkMessage():
                self._hear_source(reply.source_s)
                return self._chunk(reply, now_s)
            case Status():
                self._hear_source(reply.source_s)
                return self._status(reply, now_s)
            case End():
                return self._end(reply, now_s)
            case _:
                raise PeerError(f"{type(reply).__name__} belongs to no subscription")

    def _welcome(self, welcome: Welcome, now_s: float) -> list[Event]:
        if self.state is State.STREAMING:
            return []
        expected = self._incarnation
        if expected is not None and welcome.info.incarnation != expected:
            raise StreamReplaced(expected, welcome.info.incarnation)
        if welcome.info.order != "stripes":
            raise OutOfRange(f"a server sends in stream order, and this stream's is {welcome.info.order}")
        self._info = welcome.info
        self._turns = Turns(welcome.info.dealing, self.received)
        self.received = self._turns.positions
        self._window = self._window_of(welcome.info)
        self.state = State.STREAMING
        self._away = False
        self._retry_pause_s = self.settings.retry_first_s
        self._grant(now_s)
        return [Subscribed(welcome.info), Heard(welcome.log_end, save_soon=False)]

    def _window_of(self, info: StreamInfo) -> int:
        """Records that may be in flight."""
        stripe, record_bytes = info.dealing.stripe, max(1, info.schema.record_bytes)
        if info.schema.ragged:
            return stripe * max(2, self.settings.window_bytes // TARGET_STRIPE_BYTES)
        return max(2 * stripe, self.settings.window_bytes // record_bytes)

    def _chunk(self, message: ChunkMessage, now_s: float) -> list[Event]:
        assert self._info is not None
        assert self._turns is not None
        expected = self.received.get(message.partition)
        end = message.offset + message.count
        if expected is None:
            raise OutOfRange(f"a chunk of partition {message.partition}, which was not asked for")
        if message.count < 1 or end > self._info.dealing.stripe_end(message.offset):
            raise OutOfRange(f"a chunk from {message.offset} to {end} is no part of a stripe")
        if end > self._until[message.partition]:
            raise OutOfRange(f"a chunk that ends at {end} where credit ends at {self._until[message.partition]}")
        columns = from_frames(self._info.schema, message.count, message.frames, MAX_CHUNK_BYTES)
        if end <= expected:
            return []
        if message.offset > expected or message.partition != self._turns.partition:
            self._subscribe(now_s)  # a chunk was lost: those of all partitions come in stream order
            return []
        chunk = Chunk(message.partition, message.offset, columns, message.first_time_ns, message.last_time_ns)
        self._turns.move(end - expected)
        return [chunk if message.offset == expected else chunk.part(expected - message.offset, message.count)]

    def _status(self, status: Status, now_s: float) -> list[Event]:
        if status.next.keys() != self.received.keys():
            raise OutOfRange("a status of other partitions than were asked for")
        if any(self.received[partition] < offset for partition, offset in status.next.items()):
            self._subscribe(now_s)
            return []
        return [Heard(status.log_end, status.save_soon)]

    def _hear_source(self, source_s: float) -> None:
        """It is cumulative within a session, so what arrives late or twice changes nothing."""
        self.source_s += max(0.0, source_s - self._session_source_s)
        self._session_source_s = max(source_s, self._session_source_s)

    def _end(self, end: End, now_s: float) -> list[Event]:
        if end.final.keys() != self.received.keys():
            raise OutOfRange("an end of other partitions than were asked for")
        if self.received != end.final:
            self._subscribe(now_s)
            return []
        self.state = State.ENDED
        self.leave()
        return [Ended(end.final)]

    def _refused(self, refusal: Refusal, now_s: float) -> list[Event]:
        match refusal.code:
            case "no_session":
                self._subscribe(now_s)
                return []
            case "replaced":
                raise StreamReplaced(self._incarnation or "any", refusal.incarnation or "unknown")
            case "expired":
                return self._expired(refusal, now_s)
            case "beyond_end":
                raise BeyondLogEnd(refusal.text)
            case _:
                raise peer_error(refusal.code, f"the server refused the subscription: {refusal.text}")

    def _expired(self, refusal: Refusal, now_s: float) -> list[Event]:
        """What was received tells what is lost: the server may speak of an old subscription that arrived late."""
        log_start = refusal.log_start or {refusal.partition or 0: refusal.end or 0}
        lost = lost_between(self.received, log_start)
        if lost and not self.subscription.pass_lost:
            raise RecordsLost(*lost[0][:3], lost[1:])
        self.received.update({each.partition: each.end for each in lost})
        self._subscribe(now_s)
        for each in lost:
            self.take(each.partition, each.end, now_s)
        return [Expired(lost, log_start)] if lost else []

    # --- what is said to the server ------------------------------------------------------------------------------

    @property
    def _incarnation(self) -> str | None:
        """The stream that is read: the one asked for, or the first that was found."""
        return self.subscription.incarnation if self._info is None else self._info.incarnation

    def _subscribe(self, now_s: float) -> None:
        asked, progress = self.subscription, self._progress()
        self.state = State.SUBSCRIBING
        self._session = self._tokens()
        self._session_source_s = 0.0
        self._due_s = now_s + self._retry_pause_s
        self.outbox.append(
            Subscribe(
                session=self._session,
                split=asked.split,
                group=asked.group,
                durable=progress.durable,
                incarnation=self._incarnation,
                positions=dict(self.received),
                trained=progress.trained,
                committed=progress.committed,
            )
        )

    def _grant(self, now_s: float) -> None:
        assert self._info is not None
        self._until = self._info.dealing.advance(self._taken, self._window)
        self._granted_at = self._taken_count
        self._due_s = now_s + self.settings.sign_of_life_s
        progress = self._progress()
        self.outbox.append(
            Credit(session=self._session, until=self._until, trained=progress.trained, durable=progress.durable)
        )
