"""What an inlet does with messages, without a socket: writers push, their records enter the log, each of them once.

A writer numbers its records from 0 on, and the log knows how many of each it has taken: what comes again is passed
over, a gap is said. A fault of one peer is answered to that peer, counted, and touches no other. While the log has no
room, nothing more is taken in: one message waits, and the writers' queues hold back the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producer.access import check_right
from producer.inlet_session import InletSession
from producer.intake import ROOM_S, Intake
from producer.outbox import Send
from producer.served import Served
from protocol.chunk import Buffer
from protocol.codec import decode_push
from protocol.errors import AccessDenied, OutOfRange, PeerError, StillFull
from protocol.messages import ColumnsMessage, Done, Hello, Push, RecordsMessage, Refusal
from protocol.schema import MAX_NAME_LENGTH
from protocol.security import Right

#: A log on disk may be asked for this many bytes of a writer's records before the first is durable.
WINDOW_BYTES: Final = 64 << 20
MOST_RECORDS: Final = 1 << 14
LEAST_RECORDS: Final = 64


@dataclass(frozen=True, kw_only=True)
class InletSettings:
    """How an inlet treats its writers."""

    ends: bool = False
    """Whether the stream ends once a writer is done and no other is there."""
    max_writers: int = 1024
    silent_writer_s: float = 60.0
    """A writer that has said nothing for this long must say hello again."""
    sign_of_life_s: float = 1.0
    told_every_s: float = 0.005
    """What was taken and what is durable is told this often, however often it changes."""


class Inlet(Served[Push]):
    """Any number of writers into one log."""

    def __init__(self, intake: Intake, settings: InletSettings) -> None:
        super().__init__()
        self._intake, self._settings = intake, settings
        self._sessions: dict[bytes, InletSession] = {}
        self._waiting: tuple[bytes, RecordsMessage | ColumnsMessage] | None = None
        self._one_is_done = self._ended = self._unsettled = False
        self._looked_s = self._checked_s = float("-inf")

    # --- messages in ---------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self._waiting is not None

    def decode(self, frames: Sequence[Buffer]) -> Push:
        return decode_push(frames)

    def receive(self, peer: bytes, message: Push, now_s: float, user: str = "") -> None:
        self._unsettled = True
        try:
            check_right(message, user, self.rights_of(user))
            if isinstance(message, Hello):
                self._hello(peer, message, now_s, user)
                return
            session = self._sessions.get(peer)
            if session is None or session.token != message.session:
                self.outbox.say(peer, Refusal(code="no_session", text="say hello first", session=message.session))
                return
            session.heard_s = now_s
            if isinstance(message, Done):
                self._done(peer, session, message)
            else:
                session.check(message)
                self._take(peer, session, message)
        except PeerError as error:
            self._end(peer, error, message.session)

    def _hello(self, peer: bytes, hello: Hello, now_s: float, user: str) -> None:
        session = self._sessions.get(peer)
        if session is None or session.token != hello.session:  # else the link has doubled it: answering again is enough
            self._check_hello(peer, hello)
            self._take_over(peer, hello.writer)
            session = self._sessions[peer] = InletSession(hello, self._window(), now_s, user)
        due, durable = self._intake.due(session.writer), self._intake.durable(session.writer)
        self.outbox.say(peer, session.greeting(self._intake.schema, due, durable))

    def _check_hello(self, peer: bytes, hello: Hello) -> None:
        if not 0 < len(hello.writer.encode()) <= MAX_NAME_LENGTH:
            raise OutOfRange(f"a writer's name has 1 to {MAX_NAME_LENGTH} bytes of UTF-8")
        others = sum(at != peer and each.writer != hello.writer for at, each in self._sessions.items())
        if others >= self._settings.max_writers:
            raise OutOfRange(f"{others} writers are served already")
        if hello.schema is not None:
            self._intake.agree(hello.schema)

    def _take_over(self, peer: bytes, writer: str) -> None:
        """Who speaks under a name last is that writer: the one before may have died without a word."""
        for other, session in list(self._sessions.items()):
            if session.writer == writer and other != peer:
                self._end(other, OutOfRange(f"writer {writer} speaks from another connection now"), session.token)

    def _done(self, peer: bytes, session: InletSession, done: Done) -> None:
        due = self._intake.due(session.writer)
        if done.number > due:
            self._say_gap(peer, session, done.number, due)
        else:
            session.finish(done, due)

    def _say_gap(self, peer: bytes, session: InletSession, number: int, due: int) -> None:
        if (gap := session.gap(number, due)) is not None:
            self.outbox.say(peer, gap)

    def _end(self, peer: bytes, error: PeerError, token: int) -> None:
        """The peer's session is over, if it had one, and it is told why."""
        self._sessions.pop(peer, None)
        self.outbox.refuse(peer, error, session=token)

    def _take(self, peer: bytes, session: InletSession, push: RecordsMessage | ColumnsMessage) -> None:
        """What of a message is not in the log yet; all that finds no room waits, and everybody with it."""
        due = self._intake.due(session.writer)
        if push.number > due:
            self._say_gap(peer, session, push.number, due)
        elif push.number + push.count > due:
            if self._ended:  # whoever asks again what was taken is answered: the last word may have been lost
                raise OutOfRange("the stream has ended: it takes no more records")
            try:
                self._intake.take(session.writer, push)
            except StillFull:
                self._waiting = peer, push

    # --- the time, and messages out ------------------------------------------------------------------------------

    def advance(self, now_s: float) -> list[str]:
        """Try again what waits for room, and forget who has been silent for too long; here are no groups."""
        if self._waiting is not None:
            (peer, push), self._waiting = self._waiting, None
            self.receive(peer, push, now_s)
            for session in self._sessions.values():
                session.heard_s = now_s  # nobody was listened to meanwhile: that is no silence of theirs
        if now_s - self._checked_s >= 1.0:
            self._checked_s = now_s
            for peer, session in list(self._sessions.items()):
                if now_s - session.heard_s > self._settings.silent_writer_s:
                    del self._sessions[peer]
            self._end_the_stream()
        return []

    def end_denied(self) -> list[str]:
        denied = {peer: each for peer, each in self._sessions.items() if Right.PUSH not in self.rights_of(each.user)}
        for peer, session in denied.items():
            self._end(peer, AccessDenied("this key has lost the right to push"), session.token)
        return [session.user for session in denied.values()]

    def pump(self, send: Send, now_s: float) -> None:
        if now_s - self._looked_s >= self._settings.told_every_s:
            self._looked_s = now_s
            self._tell(now_s)
        for peer in self.outbox.flush(send):
            self._sessions.pop(peer, None)

    def due_in_s(self) -> float:
        return self._settings.told_every_s if self._unsettled else ROOM_S

    def _tell(self, now_s: float) -> None:
        self._unsettled = False
        for peer, session in list(self._sessions.items()):
            due, durable = self._intake.due(session.writer), self._intake.durable(session.writer)
            self._unsettled |= durable < due
            if (taken := session.taken(due, durable, now_s, self._settings.sign_of_life_s)) is not None:
                self.outbox.say(peer, taken)
                if taken.done:
                    del self._sessions[peer]
                    self._one_is_done = True
                    self._end_the_stream()

    def _end_the_stream(self) -> None:
        if self._settings.ends and self._one_is_done and not self._sessions and self._intake.log is not None:
            self._ended = True
            self._intake.log.end()

    def _window(self) -> int:
        """Records that a writer may have sent and that are not durable yet."""
        schema = self._intake.schema
        record_bytes = 1 if schema is None else max(1, schema.record_bytes)
        return max(LEAST_RECORDS, min(MOST_RECORDS, WINDOW_BYTES // record_bytes))
