"""What a server does with messages, without a socket: requests and the time in, replies and chunks out.

It answers questions, opens one session a reader, hears what groups have trained and committed, and lets the log
forget what nobody needs. A fault of one peer is answered to that peer, counted, and touches no other.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from producer.access import check_right
from producer.bad_records import BadRecords, BadRecordSettings
from producer.groups import Groups
from producer.outbox import Send
from producer.served import Served
from producer.sessions import Sessions, SessionSettings, end_of, expired
from protocol.chunk import Buffer
from protocol.codec import decode_request
from protocol.dealing import Positions
from protocol.errors import BeyondLogEnd, OutOfRange, PeerError, RecordsLost, UnknownMessage
from protocol.log import Log
from protocol.messages import (
    STREAM,
    Bye,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Drop,
    Dropped,
    GroupState,
    Refusal,
    Request,
    Subscribe,
    Welcome,
)
from protocol.server_session import ServerSession
from protocol.stream import StreamInfo
from protocol.values import shown


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(SessionSettings):
    """How a stream is served."""

    group_time_to_live_s: float = 600.0
    """A group that never saved and is silent for this long holds nothing back any more."""


class Service(Served[Request]):
    """The stream (split "") and its finite splits, served to any number of readers.

    Times are seconds of any monotonic clock. `clock_s` only tells how long the reading of a log takes.
    """

    def __init__(
        self,
        logs: Mapping[str, Log],
        settings: ServiceSettings,
        now_s: float,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.logs = logs
        self.stream = logs[STREAM]
        self.groups = Groups(
            self.stream.info.dealing.partitions,
            settings.group_time_to_live_s,
            keep=self.stream.keep_group,
            kept=self.stream.groups(),
            now_s=now_s,
        )
        self.sessions = Sessions(logs, settings, self.outbox, clock_s)
        #: Where the records went that the stream's log did not let in; a dataset has none.
        self.bad_records = BadRecords(BadRecordSettings())
        self._started_s = now_s
        self._checked_s = now_s
        self._trim()

    # --- messages in ---------------------------------------------------------------------------------------------

    def decode(self, frames: Sequence[Buffer]) -> Request:
        return decode_request(frames)

    def receive(self, peer: bytes, message: Request, now_s: float, user: str = "") -> None:
        try:
            check_right(message, user, self.rights_of(user))
            match message:
                case Subscribe():
                    self._subscribe(peer, message, now_s, user)
                case Credit():
                    self._credit(peer, message, now_s)
                case Describe():
                    self._describe(peer, message, now_s)
                case Commit():
                    self._commit(peer, message, now_s)
                case Drop():
                    known = self.groups.drop(message.group)
                    self._trim()
                    self.outbox.say(peer, Dropped(request=message.request, group=message.group, known=known))
                case Bye():
                    if self.sessions.get(peer, message.session) is not None:
                        self.sessions.close(peer)
        except PeerError as error:
            session, number = getattr(message, "session", None), getattr(message, "request", None)
            self.outbox.refuse(peer, error, session=session, request=number)

    def _subscribe(self, peer: bytes, asked: Subscribe, now_s: float, user: str) -> None:
        log = self._log(asked.split)
        info = log.info
        self._check_subscribe(peer, asked, info)
        if self.sessions.get(peer, asked.session) is None:  # else the link has doubled it: answering again is enough
            self.sessions.close(peer)
            if (refusal := self._refusal(asked, log)) is not None:
                self.outbox.say(peer, refusal)
                return
            self._open(peer, asked, log, now_s, user)
        end = log.log_end()
        log_end = {partition: end[partition] for partition in asked.positions}
        self.outbox.say(peer, Welcome(session=asked.session, info=info, log_end=log_end))

    def _check_subscribe(self, peer: bytes, asked: Subscribe, info: StreamInfo) -> None:
        if not asked.positions:
            raise OutOfRange("a subscription to no partition")
        _check_partitions(asked.positions, info)
        _check_partitions(asked.committed or {}, info)
        if not asked.trained.keys() <= asked.positions.keys():
            raise OutOfRange("partitions that were not subscribed to are said to be trained")
        if any(offset > asked.positions[partition] for partition, offset in asked.trained.items()):
            raise OutOfRange("records that were never received are said to be trained")
        if self.sessions.full_for(peer):
            raise OutOfRange(f"{len(self.sessions)} readers are served already")

    def _refusal(self, asked: Subscribe, log: Log) -> Refusal | None:
        """Why the log cannot be read from there, if so: no fault of the peer's."""
        found = log.info.incarnation
        if asked.incarnation is not None and asked.incarnation != found:
            text = f"this stream is {found}, not {shown(asked.incarnation)}"
            return Refusal(code="replaced", text=text, session=asked.session, incarnation=found)
        try:
            log.reach(asked.positions)
        except BeyondLogEnd as error:
            return Refusal(code="beyond_end", text=str(error), session=asked.session)
        start, end = log.log_start(), log.log_end()
        for partition, offset in asked.positions.items():
            if offset < start[partition]:
                return expired(asked.session, RecordsLost(partition, offset, start[partition]), log)
            if offset > end[partition]:
                text = f"partition {partition} ends at {end[partition]}, before the position {offset} that was asked"
                return Refusal(code="beyond_end", text=text, session=asked.session, partition=partition)
        return None

    def _open(self, peer: bytes, asked: Subscribe, log: Log, now_s: float, user: str) -> None:
        session = ServerSession(asked, log.info.dealing, now_s, user)
        if session.group is not None:
            committed = asked.committed
            if committed is not None:
                _check_reached(committed, log.log_end())
            trained = asked.positions | asked.trained
            self.groups.join(session.group, durable=asked.durable, trained=trained, committed=committed, now_s=now_s)
        self.sessions.open(peer, session)

    def _credit(self, peer: bytes, credit: Credit, now_s: float) -> None:
        session = self.sessions.get(peer, credit.session)
        if session is None:
            self.outbox.say(peer, Refusal(code="no_session", text="subscribe first", session=credit.session))
            return
        session.credit(credit, now_s)
        if session.group is not None:
            trained = session.believed(credit.trained)
            self.groups.heard(session.group, trained, durable=credit.durable, now_s=now_s)
            self._trim()

    def _describe(self, peer: bytes, asked: Describe, now_s: float) -> None:
        log = self._log(asked.split)
        ended, end = end_of(log)
        self.outbox.say(
            peer,
            Description(
                request=asked.request,
                info=log.info,
                log_start=log.log_start(),
                log_end=end,
                ended=ended,
                uptime_s=max(0.0, now_s - self._started_s),
                refused=self.refused.total(),
                rejected=self.bad_records.rejected,
                groups=self.group_states(now_s),
                at=None if asked.time_ns is None else log.at(asked.time_ns),
            ),
        )

    def _commit(self, peer: bytes, commit: Commit, now_s: float) -> None:
        info = self.stream.info
        if commit.incarnation != info.incarnation:
            raise OutOfRange(f"a commit for stream {shown(commit.incarnation)}; this is {info.incarnation}")
        _check_partitions(commit.positions, info)
        try:
            self.stream.reach(commit.positions)
        except BeyondLogEnd as error:
            raise OutOfRange(str(error)) from error
        _check_reached(commit.positions, self.stream.log_end())
        self.groups.commit(commit.group, commit.positions, now_s)
        self._trim()
        self.outbox.say(peer, Committed(request=commit.request, group=commit.group))

    def _log(self, split: str) -> Log:
        if split not in self.logs:
            names = ", ".join(sorted(name for name in self.logs if name != STREAM)) or "none"
            raise UnknownMessage(f"there is no split {shown(split)}; there are: {names}")
        return self.logs[split]

    # --- the time, and messages out ------------------------------------------------------------------------------

    def advance(self, now_s: float) -> list[str]:
        """Forget who has been silent for too long; returns the names of the groups that have expired."""
        if now_s - self._checked_s < 1.0:
            return []
        self._checked_s = now_s
        self.sessions.forget_silent(now_s)
        gone = self.groups.expire(now_s)
        if gone:
            self._trim()
        return gone

    def end_denied(self) -> list[str]:
        return self.sessions.end_denied(self.rights_of)

    def pump(self, send: Send, now_s: float, most_chunks: int = 16) -> None:
        """Send what has been said, then chunks as far as credit reaches, then signs of life where they are due."""
        self._flush(send)
        self.sessions.send_chunks(send, now_s, most_chunks)
        self.sessions.say_signs_of_life(now_s)
        self._flush(send)

    def due_in_s(self) -> float:
        """How long the server may sleep if no message comes."""
        return self.sessions.due_in_s()

    # --- what others ask -----------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        """Records sent, to all readers together."""
        return self.sessions.sent

    @property
    def refused(self) -> Counter[str]:
        """Messages refused, by code."""
        return self.outbox.refused

    def group_states(self, now_s: float) -> tuple[GroupState, ...]:
        """All groups, for people."""
        return self.groups.states(self.sessions.readers(), now_s)

    def untaken(self) -> int:
        """Records that the stream has and some group still needs; all of them while there is no group."""
        floor = self.groups.floor() or {}
        start, end = self.stream.log_start(), self.stream.log_end()
        return sum(end[partition] - max(start[partition], floor.get(partition, 0)) for partition in end)

    def _flush(self, send: Send) -> None:
        for peer in self.outbox.flush(send):
            self.sessions.close(peer)

    def _trim(self) -> None:
        if self.stream.filled == 0:
            return  # it keeps nothing that could be forgotten
        floor = self.groups.floor()
        if floor is not None:
            self.stream.trim(floor)


def _check_partitions(positions: Positions, info: StreamInfo) -> None:
    if positions and max(positions) >= info.dealing.partitions:
        raise OutOfRange(f"partition {max(positions)} of a stream that has {info.dealing.partitions}")


def _check_reached(positions: Positions, end: Positions) -> None:
    for partition, offset in positions.items():
        if offset > end[partition]:
            raise OutOfRange(
                f"offset {offset} of partition {partition} is said to be committed; the log has {end[partition]}"
            )
