"""What a server does with messages, without a socket: requests and the time in, replies and chunks out.

It answers questions, keeps one session a reader, hears what groups have trained and committed, and lets the log
forget what nobody needs. A fault of one peer is answered to that peer, counted, and touches no other.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from producer.groups import Groups
from protocol.chunk import MAX_CHUNK_BYTES, Chunk, to_frames
from protocol.dealing import Positions
from protocol.errors import OutOfRange, OversizedMessage, PeerError, RecordsLost, UnknownMessage
from protocol.log import Log
from protocol.messages import (
    STREAM,
    Bye,
    ChunkMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Drop,
    Dropped,
    GroupState,
    Message,
    Refusal,
    Request,
    Subscribe,
    Welcome,
)
from protocol.server_session import Reading, ServerSession
from protocol.stream import StreamInfo
from protocol.values import shown

#: Hands a message to a peer; false where its link is full. Raises `UnknownMessage` where the peer is gone.
Send = Callable[[bytes, Message], bool]


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How a stream is served."""

    linger_s: float = 0.002
    """A small chunk waits this long for more records, unless it is the first after a pause."""
    sign_of_life_s: float = 1.0
    """Each reader hears this often that the producer lives and how far the log reaches."""
    silent_reader_s: float = 60.0
    """A reader that has said nothing for this long is forgotten; it subscribes again when it wakes."""
    group_time_to_live_s: float = 600.0
    """A group that never saved and is silent for this long holds nothing back any more."""
    save_soon_at: float = 0.75
    """A log that is filled to this share asks its groups for an early checkpoint."""
    chunk_bytes: int = 4 << 20
    """Records that differ in size are sent in chunks of at most this, or one by one where each is larger."""
    most_sessions: int = 1024
    """Readers at the same time."""


class Service:
    """The stream (split "") and its finite splits, served to any number of readers.

    Times are seconds of any monotonic clock.
    """

    def __init__(self, logs: Mapping[str, Log], settings: ServiceSettings, now_s: float) -> None:
        self.logs, self.settings = logs, settings
        self.stream = logs[STREAM]
        self.groups = Groups(self.stream.info.dealing.partitions, settings.group_time_to_live_s)
        self.sessions: dict[bytes, ServerSession] = {}
        self.sent = 0
        self.refused: Counter[str] = Counter()
        self._outbox: list[tuple[bytes, Message]] = []
        self._started_s = now_s
        self._checked_s = now_s
        self._turn = 0
        self._more = False

    # --- messages in ---------------------------------------------------------------------------------------------

    def receive(self, peer: bytes, request: Request, now_s: float) -> None:
        """Obey one request, or refuse it to its sender."""
        try:
            match request:
                case Subscribe():
                    self._subscribe(peer, request, now_s)
                case Credit():
                    self._credit(peer, request, now_s)
                case Describe():
                    self._describe(peer, request, now_s)
                case Commit():
                    self._commit(peer, request, now_s)
                case Drop():
                    known = self.groups.drop(request.group)
                    self._trim()
                    self._say(peer, Dropped(request=request.request, group=request.group, known=known))
                case Bye():
                    if (session := self.sessions.get(peer)) is not None and session.token == request.session:
                        del self.sessions[peer]
        except PeerError as error:
            session, number = getattr(request, "session", None), getattr(request, "request", None)
            self.refuse(peer, error, session=session, request=number)

    def refuse(self, peer: bytes, error: PeerError, *, session: int | None = None, request: int | None = None) -> None:
        """Tell a peer what was wrong with what it sent, and count it."""
        self.refused[error.code] += 1
        self._say(peer, Refusal(code=error.code, text=str(error), session=session, request=request))

    def _subscribe(self, peer: bytes, asked: Subscribe, now_s: float) -> None:
        log = self._log(asked.split)
        info = log.info
        self._check_subscribe(peer, asked, info)
        if asked.incarnation is not None and asked.incarnation != info.incarnation:
            self.sessions.pop(peer, None)
            text = f"this stream is {info.incarnation}, not {asked.incarnation}"
            self._say(peer, Refusal(code="replaced", text=text, session=asked.session, incarnation=info.incarnation))
            return
        known = self.sessions.get(peer)
        if known is None or known.token != asked.session:
            self.sessions.pop(peer, None)
            if not self._open(peer, asked, log, now_s):
                return
        end = log.log_end()
        self._say(peer, Welcome(session=asked.session, info=info, log_end={p: end[p] for p in asked.positions}))

    def _check_subscribe(self, peer: bytes, asked: Subscribe, info: StreamInfo) -> None:
        if not asked.positions:
            raise OutOfRange("a subscription to no partition")
        _check_partitions(asked.positions, info)
        _check_partitions(asked.committed or {}, info)
        if not asked.trained.keys() <= asked.positions.keys():
            raise OutOfRange("partitions that were not subscribed to are said to be trained")
        if any(offset > asked.positions[partition] for partition, offset in asked.trained.items()):
            raise OutOfRange("records that were never received are said to be trained")
        if peer not in self.sessions and len(self.sessions) >= self.settings.most_sessions:
            raise OutOfRange(f"{self.settings.most_sessions} readers are served already")

    def _open(self, peer: bytes, asked: Subscribe, log: Log, now_s: float) -> bool:
        """Begin a session, unless the log does not have what was asked for."""
        log.reach(asked.positions)
        start, end = log.log_start(), log.log_end()
        for partition, offset in asked.positions.items():
            if offset < start[partition]:
                self._expired(peer, asked.session, partition, offset, start[partition])
                return False
            if offset > end[partition]:
                text = f"partition {partition} ends at {end[partition]}, before the position {offset} that was asked"
                self._say(peer, Refusal(code="beyond_end", text=text, session=asked.session, partition=partition))
                return False
        session = ServerSession(asked, log.info.dealing, now_s)
        if session.group is not None:
            committed = asked.committed
            if committed is not None:
                _check_reached(committed, end)
            trained = asked.positions | asked.trained
            self.groups.join(session.group, durable=asked.durable, trained=trained, committed=committed, now_s=now_s)
        self.sessions[peer] = session
        return True

    def _credit(self, peer: bytes, credit: Credit, now_s: float) -> None:
        session = self.sessions.get(peer)
        if session is None or session.token != credit.session:
            self._say(peer, Refusal(code="no_session", text="subscribe first", session=credit.session))
            return
        session.credit(credit, now_s)
        if session.group is not None:
            self.groups.heard(session.group, credit.trained, durable=credit.durable, now_s=now_s)
            self._trim()

    def _describe(self, peer: bytes, asked: Describe, now_s: float) -> None:
        log = self._log(asked.split)
        ended, end = _end_of(log)
        self._say(
            peer,
            Description(
                request=asked.request,
                info=log.info,
                log_start=log.log_start(),
                log_end=end,
                ended=ended,
                uptime_s=max(0.0, now_s - self._started_s),
                refused=self.refused.total(),
                groups=self.group_states(now_s),
            ),
        )

    def _commit(self, peer: bytes, commit: Commit, now_s: float) -> None:
        info = self.stream.info
        if commit.incarnation != info.incarnation:
            raise OutOfRange(f"a commit for stream {commit.incarnation}; this is {info.incarnation}")
        _check_partitions(commit.positions, info)
        self.stream.reach(commit.positions)
        _check_reached(commit.positions, self.stream.log_end())
        self.groups.commit(commit.group, commit.positions, now_s)
        self._trim()
        self._say(peer, Committed(request=commit.request, group=commit.group))

    def _log(self, split: str) -> Log:
        if split not in self.logs:
            names = ", ".join(sorted(name for name in self.logs if name != STREAM)) or "none"
            raise UnknownMessage(f"there is no split {shown(split)}; there are: {names}")
        return self.logs[split]

    def _expired(self, peer: bytes, session: int, partition: int, first: int, end: int) -> None:
        text = f"partition {partition} begins at {end}; the position {first} has passed"
        self._say(peer, Refusal(code="expired", text=text, session=session, partition=partition, first=first, end=end))

    # --- the time ------------------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> list[str]:
        """Signs of life and expiry; returns the names of the groups that have expired."""
        self._say_signs_of_life(now_s)
        if now_s - self._checked_s < 1.0:
            return []
        self._checked_s = now_s
        for peer, session in list(self.sessions.items()):
            if now_s - session.heard_s > self.settings.silent_reader_s:
                del self.sessions[peer]
        expired = self.groups.expire(now_s)
        if expired:
            self._trim()
        return expired

    def _say_signs_of_life(self, now_s: float) -> None:
        ends = {split: (log.log_end(), log.ended) for split, log in self.logs.items()}
        save_soon = self.stream.filled >= self.settings.save_soon_at
        for peer, session in self.sessions.items():
            end, ended = ends[session.split]
            status = session.status(
                end, ended=ended, save_soon=save_soon, now_s=now_s, every_s=self.settings.sign_of_life_s
            )
            if status is not None:
                self._say(peer, status)

    def due_in_s(self) -> float:
        """How long the server may sleep if no message comes: a hungry reader waits for nothing but the log."""
        if self._more:
            return 0.0
        wait_s = min(1.0, self.settings.sign_of_life_s)
        ends = {split: log.log_end() for split, log in self.logs.items()}
        for session in self.sessions.values():
            if session.hungry(ends[session.split]):
                due_s = self.logs[session.split].due_in_s()
                wait_s = min(wait_s, wait_s if due_s is None else max(due_s, self.settings.linger_s))
            elif session.reading(ends[session.split], float("inf"), 0.0) is not None:
                wait_s = min(wait_s, self.settings.linger_s)
        return wait_s

    # --- messages out --------------------------------------------------------------------------------------------

    def pump(self, send: Send, now_s: float, most_chunks: int = 16) -> None:
        """Send what has been said, then at most `most_chunks` chunks, to the readers in turn."""
        outbox, self._outbox = self._outbox, []
        for peer, message in outbox:
            try:
                send(peer, message)  # a full link loses it; every message is said again or asked for again
            except UnknownMessage:
                self.sessions.pop(peer, None)
        ends = {split: log.log_end() for split, log in self.logs.items()}
        peers = list(self.sessions)
        self._turn += 1
        blocked: set[bytes] = set()
        sent = 1
        while sent and most_chunks > 0:
            sent = 0
            for index in range(len(peers)):
                peer = peers[(index + self._turn) % len(peers)]
                if peer not in blocked and peer in self.sessions:
                    if self._send_chunk(peer, ends, send, now_s):
                        sent += 1
                        most_chunks -= 1
                    else:
                        blocked.add(peer)
        self._more = sent > 0

    def _send_chunk(self, peer: bytes, ends: Mapping[str, Positions], send: Send, now_s: float) -> bool:
        session = self.sessions[peer]
        log = self.logs[session.split]
        reading: Reading | None = session.reading(ends[session.split], now_s, self.settings.linger_s)
        if reading is None:
            return False
        try:
            chunk = self._fitting(log.read(reading.partition, reading.offset, reading.count))
            message = ChunkMessage(
                session=session.token,
                partition=chunk.partition,
                offset=chunk.offset,
                count=chunk.count,
                first_time_ns=chunk.first_time_ns,
                last_time_ns=chunk.last_time_ns,
                frames=tuple(to_frames(log.info.schema, chunk.columns)),
            )
            if not send(peer, message):
                return False
        except RecordsLost as error:
            del self.sessions[peer]
            self._expired(peer, session.token, error.partition, error.first, error.end)
            return False
        except UnknownMessage:
            del self.sessions[peer]
            return False
        except OversizedMessage as error:
            del self.sessions[peer]
            self.refuse(peer, error, session=session.token)
            return False
        session.sent(chunk, now_s)
        self.sent += chunk.count
        return True

    def _fitting(self, chunk: Chunk) -> Chunk:
        """Only records of differing size make a stripe that is larger than what fits."""
        while chunk.count > 1 and chunk.nbytes > self.settings.chunk_bytes:
            chunk = chunk.part(0, chunk.count // 2)
        if chunk.nbytes > MAX_CHUNK_BYTES:
            raise OversizedMessage(f"{chunk.nbytes} bytes at offset {chunk.offset} are over the {MAX_CHUNK_BYTES} of a chunk")
        return chunk

    # --- what others ask -----------------------------------------------------------------------------------------

    def group_states(self, now_s: float) -> tuple[GroupState, ...]:
        """All groups, for people."""
        readers = Counter(each.group for each in self.sessions.values() if each.group is not None)
        return self.groups.states(readers, now_s)

    def untaken(self) -> int:
        """Records that the stream has and some group still needs; all of them while there is no group."""
        floor = self.groups.floor() or {}
        start, end = self.stream.log_start(), self.stream.log_end()
        return sum(end[p] - max(start[p], floor.get(p, 0)) for p in end)

    def _say(self, peer: bytes, message: Message) -> None:
        self._outbox.append((peer, message))

    def _trim(self) -> None:
        floor = self.groups.floor()
        if floor is not None:
            self.stream.trim(floor)


def _end_of(log: Log) -> tuple[bool, Positions]:
    """Whether the log has ended, and its end; asked in this order, so that an end said to be final is the final one."""
    ended = log.ended
    return ended, log.log_end()


def _check_partitions(positions: Positions, info: StreamInfo) -> None:
    if positions and max(positions) >= info.dealing.partitions:
        raise OutOfRange(f"partition {max(positions)} of a stream that has {info.dealing.partitions}")


def _check_reached(positions: Positions, end: Positions) -> None:
    for partition, offset in positions.items():
        if offset > end[partition]:
            raise OutOfRange(f"offset {offset} of partition {partition}, which ends at {end[partition]}, is committed")
