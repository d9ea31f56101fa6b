"""The readers that a server serves now: who gets the next chunk, and what each hears in between."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from producer.access import right_to_read
from producer.outbox import Outbox, Send
from protocol.chunk import MAX_CHUNK_BYTES, Chunk, to_frames
from protocol.dealing import Positions
from protocol.errors import AccessDenied, OversizedMessage, RecordsLost, UnknownMessage
from protocol.log import Log
from protocol.messages import STREAM, ChunkMessage, Refusal, Status
from protocol.security import Right
from protocol.server_session import Reading, ServerSession


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How readers are served."""

    linger_s: float = 0.002
    """A small chunk waits this long for more records, unless it is the first after a pause."""
    sign_of_life_s: float = 1.0
    """Each reader hears this often that the producer lives and how far the log reaches."""
    silent_reader_s: float = 60.0
    """A reader that has said nothing for this long is forgotten; it subscribes again when it wakes."""
    save_soon_at: float = 0.75
    """A log that is filled to this share asks its groups for an early checkpoint."""
    chunk_bytes: int = 4 << 20
    """Records that differ in size are sent in chunks of at most this, or one by one where each is larger."""
    most_sessions: int = 1024
    """Readers at the same time."""
    full_link_most_s: float = 1.0
    """A link that takes no more is tried again after `linger_s`, twice that, and so on up to this."""


@dataclass(frozen=True)
class _Full:
    """When a link was last found full, and how long it is left alone."""

    tried_s: float
    pause_s: float


class Sessions:
    """One session a peer. A full link, a peer that is gone or a record that is lost concerns its own session only.

    `clock_s` tells how long a log was read, and nothing else.
    """

    def __init__(
        self, logs: Mapping[str, Log], settings: SessionSettings, outbox: Outbox, clock_s: Callable[[], float]
    ) -> None:
        self._logs, self._settings, self._outbox, self._clock_s = logs, settings, outbox, clock_s
        self._sessions: dict[bytes, ServerSession] = {}
        self.sent = 0
        self._read_s = 0.0  # inside logs, for whichever reader: meanwhile the others wait as well
        self._read_before_s: dict[bytes, float] = {}
        self._full: dict[bytes, _Full] = {}
        self._next = b""  # the peer whose turn it is where the last turn left somebody waiting

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, peer: bytes, token: int) -> ServerSession | None:
        """The peer's session, if it bears this number."""
        session = self._sessions.get(peer)
        return session if session is not None and session.token == token else None

    def full_for(self, peer: bytes) -> bool:
        """Whether there is no room for this peer."""
        return peer not in self._sessions and len(self) >= self._settings.most_sessions

    def open(self, peer: bytes, session: ServerSession) -> None:
        """Serve a reader."""
        self._sessions[peer] = session
        self._read_before_s[peer] = self._read_s

    def close(self, peer: bytes) -> None:
        """Serve it no longer, if it was served."""
        self._sessions.pop(peer, None)
        self._read_before_s.pop(peer, None)
        self._full.pop(peer, None)

    def readers(self) -> Counter[str]:
        """Number of readers by group."""
        return Counter(each.group for each in self._sessions.values() if each.group is not None)

    # --- the time ------------------------------------------------------------------------------------------------

    def forget_silent(self, now_s: float) -> None:
        """Close the sessions of readers that have said nothing for too long."""
        for peer, session in list(self._sessions.items()):
            if now_s - session.heard_s > self._settings.silent_reader_s:
                self.close(peer)

    def end_denied(self, rights_of: Callable[[str], Right]) -> list[str]:
        """End the sessions whose user has lost a right that they need; those users."""
        denied = {
            peer: session
            for peer, session in self._sessions.items()
            if right_to_read(session.group) not in rights_of(session.user)
        }
        for peer, session in denied.items():
            self.close(peer)
            text = "this key has lost the right to what it reads here"
            self._outbox.say(peer, Refusal(code=AccessDenied.code, text=text, session=session.token))
        return [session.user for session in denied.values()]

    def say_signs_of_life(self, now_s: float) -> None:
        """Status and END where they are due."""
        ends = {split: end_of(log) for split, log in self._logs.items()}
        save_soon = self._logs[STREAM].filled >= self._settings.save_soon_at
        for peer, session in self._sessions.items():
            ended, end = ends[session.split]
            status = session.status(
                end, ended=ended, save_soon=save_soon, now_s=now_s, every_s=self._settings.sign_of_life_s
            )
            if isinstance(status, Status):
                status = replace(status, source_s=self._source_s(peer, session))
            if status is not None:
                self._outbox.say(peer, status)

    def due_in_s(self) -> float:
        """How long the server may sleep if no message comes: a hungry reader waits for nothing but the log."""
        if self._next:
            return 0.0
        wait_s = min(1.0, self._settings.sign_of_life_s)
        ends = self._ends()
        for peer, session in self._sessions.items():
            if (full := self._full.get(peer)) is not None:
                wait_s = min(wait_s, full.pause_s)
            elif session.hungry(ends[session.split]):
                due_s = self._logs[session.split].due_in_s()
                wait_s = min(wait_s, wait_s if due_s is None else max(due_s, self._settings.linger_s))
            elif session.reading(ends[session.split], float("inf"), 0.0) is not None:
                wait_s = min(wait_s, self._settings.linger_s)
        return wait_s

    # --- chunks out ----------------------------------------------------------------------------------------------

    def send_chunks(self, send: Send, now_s: float, most_chunks: int) -> None:
        """At most `most_chunks` chunks, to the readers in turn; the next call goes on where this one stopped."""
        ends, read_before_s = self._ends(), self._read_s
        for session in self._sessions.values():
            session.resume(now_s)
        waiting = deque(self._sessions)
        if self._next in self._sessions:
            waiting.rotate(-waiting.index(self._next))
        while waiting and most_chunks > 0:
            peer = waiting.popleft()
            if self._send_chunk(peer, ends, send, now_s):
                most_chunks -= 1
                waiting.append(peer)
        self._next = waiting[0] if waiting else b""
        for session in self._sessions.values():
            session.rest(ends[session.split], now_s + self._read_s - read_before_s)

    def _send_chunk(self, peer: bytes, ends: Mapping[str, Positions], send: Send, now_s: float) -> bool:
        """Whether one was sent; where none will be, the session is closed and its reader told why."""
        session = self._sessions[peer]
        log = self._logs[session.split]
        reading = session.reading(ends[session.split], now_s, self._settings.linger_s)
        if reading is None:
            return False
        try:
            if not self._open_again(peer, session, ends[session.split], send, now_s):
                return False
            chunk = self._fitting(self._read(log, reading))
            if not send(peer, _message(session.token, chunk, log, self._source_s(peer, session))):
                self._full[peer] = _Full(now_s, self._settings.linger_s)
                return False
        except UnknownMessage:
            self.close(peer)
            return False
        except RecordsLost as error:
            self.close(peer)
            self._outbox.say(peer, expired(session.token, error, log))
            return False
        except OversizedMessage as error:
            self.close(peer)
            self._outbox.refuse(peer, error, session=session.token)
            return False
        session.sent(chunk, now_s)
        self.sent += chunk.count
        return True

    def _open_again(self, peer: bytes, session: ServerSession, end: Positions, send: Send, now_s: float) -> bool:
        """Whether a link that was full has room: asked with a status, since a read in vain would cost all readers."""
        full = self._full.get(peer)
        if full is None:
            return True
        if now_s < full.tried_s + full.pause_s:
            return False
        log_end = {partition: end[partition] for partition in session.next}
        status = Status(session=session.token, next=dict(session.next), log_end=log_end, save_soon=False)
        if not send(peer, replace(status, source_s=self._source_s(peer, session))):
            self._full[peer] = _Full(now_s, min(2 * full.pause_s, self._settings.full_link_most_s))
            return False
        del self._full[peer]
        return True

    def _read(self, log: Log, reading: Reading) -> Chunk:
        began_s = self._clock_s()
        try:
            return log.read(reading.partition, reading.offset, reading.count)
        finally:
            self._read_s += self._clock_s() - began_s

    def _source_s(self, peer: bytes, session: ServerSession) -> float:
        """Seconds of this session in which its reader waited for records to come into the log or out of it."""
        return session.short_s + self._read_s - self._read_before_s[peer]

    def _fitting(self, chunk: Chunk) -> Chunk:
        """Only records that differ in size make a stripe that is larger than what fits."""
        while chunk.count > 1 and chunk.nbytes > self._settings.chunk_bytes:
            chunk = chunk.part(0, chunk.count // 2)
        if chunk.nbytes > MAX_CHUNK_BYTES:
            size = f"{chunk.nbytes} bytes, over the {MAX_CHUNK_BYTES} that can be sent"
            raise OversizedMessage(f"the record at offset {chunk.offset} of partition {chunk.partition} has {size}")
        return chunk

    def _ends(self) -> dict[str, Positions]:
        return {split: log.log_end() for split, log in self._logs.items()}


def end_of(log: Log) -> tuple[bool, Positions]:
    """Whether the log has ended, and its end; asked in this order, so that an end said to be final is the final one."""
    ended = log.ended
    return ended, log.log_end()


def expired(session: int, lost: RecordsLost, log: Log) -> Refusal:
    """What a reader hears whose position retention has passed."""
    return Refusal(
        code="expired",
        text=str(lost),
        session=session,
        partition=lost.partition,
        first=lost.first,
        end=lost.end,
        log_start=log.log_start(),
    )


def _message(session: int, chunk: Chunk, log: Log, source_s: float) -> ChunkMessage:
    return ChunkMessage(
        session=session,
        partition=chunk.partition,
        offset=chunk.offset,
        count=chunk.count,
        first_time_ns=chunk.first_time_ns,
        last_time_ns=chunk.last_time_ns,
        source_s=source_s,
        frames=tuple(to_frames(log.info.schema, chunk.columns)),
    )
