"""What an inlet does with messages, without a socket: writers push, their records enter the log, each of them once.

A writer numbers its records from 0 on, and the log knows how many of each it has taken: what comes again is passed
over, a gap is said. A fault of one peer is answered to that peer, counted, and touches no other. While the log has no
room, nothing more is taken in: one message waits, and the writers' queues hold back the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from producer.access import check_right
from producer.append_log import AppendLog
from producer.bad_records import BadRecords
from producer.inference import infer_schema
from producer.inlet_session import InletSession
from producer.outbox import Send
from producer.served import Served
from producer.writers import Numbered
from protocol.chunk import MAX_CHUNK_BYTES, Buffer, from_frames
from protocol.codec import decode_push
from protocol.errors import (
    AccessDenied,
    DataFault,
    LogFull,
    MalformedMessage,
    NoRoom,
    OutOfRange,
    PeerError,
    StillFull,
    Unfit,
    UnknownMessage,
    UsageError,
)
from protocol.messages import ColumnsMessage, Done, Hello, Push, RecordsMessage, Refusal
from protocol.records import records_from
from protocol.schema import MAX_NAME_LENGTH, Schema
from protocol.security import Right

#: A log on disk may be asked for this many bytes of a writer's records before the first is durable.
WINDOW_BYTES: Final = 64 << 20
MOST_RECORDS: Final = 1 << 14
LEAST_RECORDS: Final = 64
#: While records wait for room, signs of life are said this often.
ROOM_S: Final = 0.25


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
    """Any number of writers into one log.

    `open_log` makes it for records of a schema, or finds one (None) that a folder holds already.
    """

    def __init__(
        self,
        open_log: Callable[[Schema | None], AppendLog | None],
        bad_records: BadRecords,
        settings: InletSettings,
    ) -> None:
        super().__init__()
        self.log = open_log(None)
        self._open_log, self._bad_records, self._settings = open_log, bad_records, settings
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
        schema = None if self.log is None else self.log.info.schema
        self.outbox.say(peer, session.greeting(schema, *self._numbers(session.writer)))

    def _check_hello(self, peer: bytes, hello: Hello) -> None:
        if not 0 < len(hello.writer.encode()) <= MAX_NAME_LENGTH:
            raise OutOfRange(f"a writer's name has 1 to {MAX_NAME_LENGTH} bytes of UTF-8")
        if peer not in self._sessions and len(self._sessions) >= self._settings.max_writers:
            raise OutOfRange(f"{len(self._sessions)} writers are served already")
        if self._ended:
            raise OutOfRange("the stream has ended: it takes no more records")
        if hello.schema is not None:
            self._log_for(hello.schema)

    def _take_over(self, peer: bytes, writer: str) -> None:
        """Who speaks under a name last is that writer: the one before may have died without a word."""
        for other, session in list(self._sessions.items()):
            if session.writer == writer and other != peer:
                self._end(other, OutOfRange(f"writer {writer} speaks from another connection now"), session.token)

    def _done(self, peer: bytes, session: InletSession, done: Done) -> None:
        due, _ = self._numbers(session.writer)
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

    # --- records into the log ------------------------------------------------------------------------------------

    def _take(self, peer: bytes, session: InletSession, push: RecordsMessage | ColumnsMessage) -> None:
        """What of a message is not in the log yet; all that finds no room waits, and everybody with it."""
        due, _ = self._numbers(session.writer)
        if push.number > due:
            self._say_gap(peer, session, push.number, due)
        elif push.number + push.count > due:
            try:
                if isinstance(push, RecordsMessage):
                    self._take_records(session.writer, push, due)
                else:
                    self._take_columns(session.writer, push, due)
            except StillFull:
                self._waiting = peer, push
            except LogFull as error:
                raise NoRoom(str(error)) from error
            except DataFault as fault:
                raise Unfit(f"record {self._numbers(session.writer)[0]} of {session.writer}: {fault}") from fault

    def _take_records(self, writer: str, push: RecordsMessage, due: int) -> None:
        if len(push.frames) != 1:
            raise MalformedMessage(f"records have one frame after the header, not {len(push.frames)}")
        records = records_from(push.frames[0], push.count)
        log = self.log or self._log_for(_first_schema(records[0]))
        for number, record in enumerate(records[due - push.number :], due):
            self._append(log, record, push.time_ns, (writer, number))

    def _take_columns(self, writer: str, push: ColumnsMessage, due: int) -> None:
        if (log := self.log) is None:
            raise UnknownMessage("nobody has said what a record is: say it in hello, or push a map first")
        found = from_frames(log.info.schema, push.count, push.frames, MAX_CHUNK_BYTES)
        columns = {name: column[due - push.number :] for name, column in found.items()}
        try:
            self._bad_records.check(columns)
            log.append_columns(columns, times_ns=push.time_ns, timeout_s=ROOM_S, writer=(writer, due))
        except DataFault as fault:
            for number, record in enumerate(self._bad_records.one_by_one(columns, fault), due):
                self._append(log, record, push.time_ns, (writer, number))

    def _append(self, log: AppendLog, record: Mapping[str, Any], time_ns: int | None, writer: Numbered) -> None:
        try:
            self._bad_records.check(record)
            log.append(record, time_ns=time_ns, timeout_s=ROOM_S, writer=writer)
        except DataFault as fault:
            self._bad_records.take(record, fault)
            log.pass_over(writer)

    def _log_for(self, schema: Schema) -> AppendLog:
        """The log, which is made for the first schema that is said. Raises `Unfit` where it has another."""
        if self.log is None:
            try:
                self.log = self._open_log(schema)
            except UsageError as error:
                raise Unfit(str(error)) from error
            assert self.log is not None
        own = self.log.info.schema
        if schema != own:
            what = "with another label or other classes" if schema.fields == own.fields else f"of {schema.fields_text}"
            raise Unfit(f"this stream has records of {own.fields_text}; this writer would push records {what}")
        return self.log

    # --- the time, and messages out ------------------------------------------------------------------------------

    def advance(self, now_s: float) -> list[str]:
        """Try again what waits for room, and forget who has been silent for too long; here are no groups."""
        if self._waiting is not None:
            (peer, push), self._waiting = self._waiting, None
            self.receive(peer, push, now_s)
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
            due, durable = self._numbers(session.writer)
            self._unsettled |= durable < due
            if (taken := session.taken(due, durable, now_s, self._settings.sign_of_life_s)) is not None:
                self.outbox.say(peer, taken)
                if taken.done:
                    del self._sessions[peer]
                    self._one_is_done = True
                    self._end_the_stream()

    def _end_the_stream(self) -> None:
        if self._settings.ends and self._one_is_done and not self._sessions and self.log is not None:
            self._ended = True
            self.log.end()

    def _numbers(self, writer: str) -> tuple[int, int]:
        """(due, durable) of a writer."""
        return (0, 0) if self.log is None else (self.log.taken(writer), self.log.durable_of(writer))

    def _window(self) -> int:
        """Records that a writer may have sent and that are not durable yet."""
        record_bytes = 1 if self.log is None else max(1, self.log.info.schema.record_bytes)
        return max(LEAST_RECORDS, min(MOST_RECORDS, WINDOW_BYTES // record_bytes))


def _first_schema(record: Mapping[str, Any]) -> Schema:
    try:
        return infer_schema(record)
    except UsageError as error:
        raise Unfit(str(error)) from error
