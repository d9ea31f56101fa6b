"""The reader's side over ZeroMQ: a DEALER. The server's is in server_socket.

Options follow the libzmq reference (zmq_setsockopt) and what was probed: see the traps in docs/design.md. Errors of
ZeroMQ are translated here, at the edge.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from protocol.chunk import MAX_CHUNK_BYTES, Buffer, Chunk
from protocol.codec import decode_reply, encode
from protocol.dealing import Positions
from protocol.errors import (
    HeadraceError,
    OutOfRange,
    StreamTimeout,
    UsageError,
    VersionMismatch,
    peer_error,
)
from protocol.handshake import Admission
from protocol.messages import (
    STREAM,
    Commit,
    Committed,
    Describe,
    Description,
    Drop,
    Dropped,
    Refusal,
    Reply,
    Request,
)
from protocol.reader import OnWait, Reader
from protocol.reader_session import ReaderSession, State
from protocol.security import ClientKeys
from protocol.subscription import Event, Progress, ReaderSettings, Subscription
from protocol.waits import Waits

#: Messages that wait in each direction of a connection. An honest reader's credit bounds the bytes; of any other, a
#: server bounds them itself.
QUEUED_MESSAGES = 64
REQUEST_RETRY_S = 1.0
#: Messages that a reader hands over at once, if they have come already.
TOGETHER = 4
#: Frames of one message; a reader's has one, a chunk one or two a field.
MAX_FRAMES = 130
#: What CURVE adds to a frame at most (RFC 26, the MESSAGE command: 33 bytes).
SEALED_BYTES = 64


def new_token() -> int:
    """A number that no other session or request of this server will have."""
    return secrets.randbits(63)


def guard(socket: "zmq.Socket[bytes]") -> None:
    """What both sides set: a peer that is half there must not hold anything for long.

    Where the other machine is gone, the system notices and not ZMTP's heartbeats: libzmq 4.3.5 aborts the process
    where one is missed while a full queue keeps it from reading (github.com/zeromq/libzmq/issues/4767).
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.setsockopt(zmq.TCP_MAXRT, 30_000)
    socket.setsockopt(zmq.SNDHWM, QUEUED_MESSAGES)


class ZmqReader(Reader):
    """A reader over a DEALER socket. Without keys it speaks to producers that have none.

    Whatever asks or reads raises `AccessDenied` where the producer does not let it in.
    """

    def __init__(self, url: str, settings: ReaderSettings, keys: ClientKeys | None = None) -> None:
        self._settings = settings
        self._session: ReaderSession | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        guard(self._socket)
        self._socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_CHUNK_BYTES + SEALED_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        if keys is not None:
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, keys.producer)
        self._admission = Admission(self._socket, url, keys)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._admission.socket, zmq.POLLIN)
        self.url = url
        try:
            self._socket.connect(url)
        except zmq.ZMQError as error:
            self.close()
            text = f"cannot connect to {url!r}: {error.strerror}; use tcp://HOST:PORT or ipc://PATH"
            raise UsageError(text) from error

    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        reply = self._ask(lambda request: Describe(request=request, split=split, time_ns=time_ns), timeout_s, on_wait)
        assert isinstance(reply, Description)
        return reply

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        reply = self._ask(
            lambda request: Commit(request=request, group=group, incarnation=incarnation, positions=positions),
            timeout_s,
        )
        assert isinstance(reply, Committed)

    def drop(self, group: str, *, timeout_s: float) -> bool:
        reply = self._ask(lambda request: Drop(request=request, group=group), timeout_s)
        assert isinstance(reply, Dropped)
        return reply.known

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        now_s = said_s = time.monotonic()
        self._session = session = ReaderSession(subscription, self._settings, new_token, now_s, progress)
        waits = Waits(now_s)
        failure: HeadraceError | None = None
        try:
            while session.state is not State.ENDED:
                self._flush(session)
                asked_s = time.monotonic()
                wait_s = min(session.due_s(), said_s + idle_s) - asked_s
                events: list[Event] = []
                arrived = self._wait(wait_s)
                polled_s = time.monotonic()
                if arrived:
                    failure = self._take_in(session, events)
                now_s = time.monotonic()
                events += session.advance(now_s)
                waits.add(polled_s=polled_s - asked_s, worked_s=time.monotonic() - polled_s)
                alone = session.state is State.SUBSCRIBING
                waited = waits.take(now_s, source_s=session.source_s, heard=arrived, alone=alone)
                if waited is not None:
                    events.insert(0, waited)  # it was waited before they came, and nothing follows an end
                if events or now_s - said_s >= idle_s:
                    yield events
                    said_s = time.monotonic()
                    for event in events:
                        if isinstance(event, Chunk):
                            session.take(event.partition, event.end, said_s)
                if failure is not None:
                    raise failure
        finally:
            if session.state is not State.ENDED:
                session.leave()
            if not self._socket.closed:  # an abandoned iterator may end after its reader
                self._flush(session)

    def _take_in(self, session: ReaderSession, events: list[Event]) -> HeadraceError | None:
        """What has come, a few messages at most. A failure is given back: what came before it is still good."""
        try:
            for _ in range(TOGETHER):
                events += session.receive(decode_reply(self._receive()), time.monotonic())
                if session.state is State.ENDED or not self._wait(0):
                    break
        except HeadraceError as error:
            return error
        return None

    def stay(self) -> None:
        if self._session is not None:
            self._session.stay(time.monotonic())
            self._flush(self._session)

    def close(self) -> None:
        # What was said last (a farewell) gets a moment to leave; it matters to nobody if it does not.
        self._context.destroy(linger=100)

    def _flush(self, session: ReaderSession) -> None:
        while session.outbox:
            if not self._send(session.outbox[0]):
                # The link is full: what is said is cumulative and will be said again.
                session.outbox.clear()
                return
            del session.outbox[0]

    def _send(self, request: Request) -> bool:
        try:
            self._socket.send_multipart(encode(request), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _wait(self, timeout_s: float) -> bool:
        """Whether a message has come within the time. Raises `AccessDenied` where none ever will."""
        until_s = time.monotonic() + timeout_s
        while True:
            ready = dict(self._poller.poll(max(0, int((until_s - time.monotonic()) * 1000 + 0.999))))
            if self._admission.socket not in ready:
                return bool(ready)
            self._admission.check()

    def _receive(self) -> list[Buffer]:
        frame = self._socket.recv(copy=False)
        frames: list[Buffer] = [frame.buffer]
        while frame.more:
            frame = self._socket.recv(copy=False)
            frames.append(frame.buffer)
        if len(frames) > MAX_FRAMES:
            raise OutOfRange(f"a message of {len(frames)} frames")
        return frames

    def _ask(self, make: Callable[[int], Any], timeout_s: float | None, on_wait: OnWait | None = None) -> Reply:
        """Ask until the answer comes: asking twice does no harm. Raises `StreamTimeout` or what was refused."""
        started_s = time.monotonic()
        request = new_token()
        while True:
            self._send(make(request))
            retry_s = time.monotonic() + REQUEST_RETRY_S
            if timeout_s is not None:
                retry_s = min(retry_s, started_s + timeout_s)
            while (left_s := retry_s - time.monotonic()) > 0:
                if not self._wait(left_s):
                    break
                reply = decode_reply(self._receive())
                if isinstance(reply, Refusal) and reply.code == VersionMismatch.code:
                    raise VersionMismatch(reply.text)
                if getattr(reply, "request", None) == request:
                    if isinstance(reply, Refusal):
                        raise peer_error(reply.code, reply.text)
                    return reply
            waited_s = time.monotonic() - started_s
            if timeout_s is not None and waited_s >= timeout_s:
                raise StreamTimeout(f"no producer answered at {self.url} within {timeout_s:g} s")
            if on_wait is not None:
                on_wait(waited_s)
