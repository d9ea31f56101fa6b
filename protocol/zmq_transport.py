"""The sessions' messages over ZeroMQ: a DEALER for a reader, a ROUTER for a server.

Options follow the libzmq reference (zmq_setsockopt) and what was probed: see the traps in docs/design.md. Errors of
ZeroMQ are translated here, at the edge.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zmq

from protocol.chunk import MAX_CHUNK_BYTES, Buffer, Chunk
from protocol.codec import MAX_REQUEST_BYTES, decode_reply, encode
from protocol.dealing import Positions
from protocol.errors import (
    HeadraceError,
    OutOfRange,
    StreamError,
    StreamTimeout,
    UnknownMessage,
    UsageError,
    VersionMismatch,
    peer_error,
)
from protocol.in_flight import InFlight
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
from protocol.subscription import Event, Progress, ReaderSettings, Subscription
from protocol.waits import Waits

MAX_PORT = 65535
#: Messages that wait in each direction of a connection. An honest reader's credit bounds the bytes; of any other,
QUEUED_MESSAGES = 64
#: a server stops at so many, and counts frames from this size on: smaller ones are copied.
QUEUED_BYTES = 16 << 20
COUNTED_BYTES = 1 << 16
REQUEST_RETRY_S = 1.0
#: Messages that a reader hands over at once, if they have come already.
TOGETHER = 4
#: Frames of one message; a reader's has one, a chunk one or two a field.
MAX_FRAMES = 130
LINGER_MS = 1000
#: A request up to this size is taken in, so that its sender can be told that it is too large; beyond it ZeroMQ cuts the
#: connection.
MAX_REQUEST_FRAME_BYTES = 4 * MAX_REQUEST_BYTES


def new_token() -> int:
    """A number that no other session or request of this server will have."""
    return secrets.randbits(63)


def _guard(socket: "zmq.Socket[bytes]") -> None:
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


class ServerSocket:
    """A bound ROUTER. `address` is where it listens, with the port that the system chose for `tcp://…:*`."""

    def __init__(self, url: str) -> None:
        _check_free(url)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        _guard(self._socket)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_FRAME_BYTES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            self._socket.bind(url)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(_bind_mend(url, error)) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._in_flight = InFlight(QUEUED_BYTES)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)

    def wake_on(self, descriptor: int) -> None:
        """End a `wait` early when this file descriptor becomes readable."""
        self._poller.register(descriptor, zmq.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Sleep until a message, a wake-up, or the time-out comes."""
        self._poller.poll(max(0, int(timeout_s * 1000 + 0.999)))

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The next (peer, frames), None where none is waiting."""
        try:
            peer, *frames = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        return peer, frames

    def send(self, peer: bytes, frames: Sequence[Buffer]) -> bool:
        """Whether there was room. Raises `UnknownMessage` where the peer is gone.

        Large frames are handed over without a copy: their memory must not change afterwards.
        """
        if not self._in_flight.has_room(peer):
            return False
        parts = [_tracked(each) if memoryview(each).nbytes >= COUNTED_BYTES else each for each in frames]
        try:
            self._socket.send_multipart([peer, *parts], zmq.DONTWAIT, copy=False)
            for part in parts:
                if isinstance(part, zmq.Frame) and part.tracker is not None:
                    self._in_flight.add(peer, part.tracker, len(part))
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                self._in_flight.forget(peer)
                raise UnknownMessage("the peer is gone") from error
            raise StreamError(f"sending failed: {error}") from error
        return True

    def close(self) -> None:
        """Send what is still queued, for at most a second, and leave no socket file behind."""
        self._context.destroy(linger=LINGER_MS)
        address = getattr(self, "address", "")
        if address.startswith("ipc://") and not address.startswith("ipc://@"):
            Path(address.removeprefix("ipc://")).unlink(missing_ok=True)


def _tracked(frame: Buffer) -> zmq.Frame:
    """A frame that is not copied and knows when it has left."""
    return zmq.Frame(frame, track=True, copy=False)


def _check_free(url: str) -> None:
    """Raise `UsageError` where ZeroMQ would bind without a word: it takes over the socket file of a living producer,
    and of a port number it keeps the lowest 16 bits.
    """
    scheme, _, address = url.partition("://")
    port = address.rpartition(":")[2]
    if scheme == "tcp" and port.isdecimal() and int(port) > MAX_PORT:
        raise UsageError(f"{url!r}: a port is at most {MAX_PORT}; give another --bind")
    if scheme == "ipc":
        with socket.socket(socket.AF_UNIX) as caller:
            try:
                caller.connect(address)
            except OSError:
                return  # nobody listens there; whether it can be bound will be seen
        raise UsageError(_in_use(url))


def _bind_mend(url: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return _in_use(url)
    return f"cannot bind {url!r}: {error.strerror}; use tcp://HOST:PORT of this machine or ipc://PATH with --bind"


def _in_use(url: str) -> str:
    return f"{url} is in use: stop the other producer, or give another --bind (tcp://127.0.0.1:* picks a free port)"


class ZmqReader(Reader):
    """A reader over a DEALER socket."""

    def __init__(self, url: str, settings: ReaderSettings) -> None:
        self._settings = settings
        self._session: ReaderSession | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        _guard(self._socket)
        self._socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_CHUNK_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self.url = url
        try:
            self._socket.connect(url)
        except zmq.ZMQError as error:
            self.close()
            text = f"cannot connect to {url!r}: {error.strerror}; use tcp://HOST:PORT or ipc://PATH"
            raise UsageError(text) from error

    def describe(
        self, split: str = STREAM, *, timeout_s: float | None = None, on_wait: OnWait | None = None
    ) -> Description:
        reply = self._ask(lambda request: Describe(request=request, split=split), timeout_s, on_wait)
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
        """Whether a message has come within the time."""
        return bool(self._poller.poll(max(0, int(timeout_s * 1000 + 0.999))))

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
