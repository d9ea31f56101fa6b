"""The server's side over ZeroMQ: a bound ROUTER, which with keys lets in only the clients that its list names.

CURVE is libzmq's (zmq_curve, RFC 26), the answer at each handshake is `zmq.auth`'s (ZAP, RFC 27). Who a message is
from is the public key that its connection was let in with.
"""

import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from protocol.chunk import Buffer
from protocol.codec import MAX_REQUEST_BYTES
from protocol.errors import StreamError, UnknownMessage, UsageError
from protocol.handshake import Failed, Handshakes
from protocol.in_flight import InFlight
from protocol.rate_limit import RateLimit
from protocol.security import EVERYTHING, SAID_EVERY_S, AllowedClients, ProducerKeys, Right, producer_keys
from protocol.zmq_transport import QUEUED_MESSAGES, guard

logger = logging.getLogger(__name__)

MAX_PORT = 65535
LINGER_MS = 1000
#: What waits for one peer is bounded in bytes as well, whatever its credit; frames from this size on are counted, since
#: smaller ones are copied.
QUEUED_BYTES = 16 << 20
COUNTED_BYTES = 1 << 16
#: A request up to this size is taken in, so that its sender can be told that it is too large; beyond it ZeroMQ cuts the
#: connection.
MAX_REQUEST_FRAME_BYTES = 4 * MAX_REQUEST_BYTES
#: Of what is pushed, in maps or in columns; and messages that wait in each connection.
MAX_PUSH_FRAME_BYTES = 1 << 24
QUEUED_PUSHES = 4
#: What the kernel keeps of one peer's requests; by itself it would let this grow to megabytes, for whoever floods.
RECEIVED_BYTES = 1 << 18
ZAP_DOMAIN = "headrace"
#: A change of the list of clients is seen within this time, and at each handshake.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Door:
    """What a socket is for: the option that names its address, and how large what it takes in may be."""

    option: str = "--bind"
    max_frame_bytes: int = MAX_REQUEST_FRAME_BYTES
    queued_messages: int = QUEUED_MESSAGES


READERS: Final = Door()
WRITERS: Final = Door(option="--inlet", max_frame_bytes=MAX_PUSH_FRAME_BYTES, queued_messages=QUEUED_PUSHES)


class ServerSocket:
    """A bound ROUTER. `address` is where it listens, with the port that the system chose for `tcp://…:*`.

    `keys` is a producer's folder of keys. Without one, everybody who reaches the address may do everything, so an
    address that other machines reach is refused unless `insecure` says that this is meant.
    """

    def __init__(self, url: str, *, keys: str | Path = "", insecure: bool = False, door: Door = READERS) -> None:
        own = producer_keys(keys) if keys else None
        if own is None and not insecure:
            _check_local(url)
        _check_free(url, door.option)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        guard(self._socket)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.RCVHWM, door.queued_messages)
        self._socket.setsockopt(zmq.MAXMSGSIZE, door.max_frame_bytes)
        self._socket.setsockopt(zmq.RCVBUF, RECEIVED_BYTES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._clients: AllowedClients | None = None
        self._gate: ThreadAuthenticator | None = None
        if own is not None:
            self._lock(own)
        self._handshakes, self._seldom = Handshakes(self._socket), RateLimit(SAID_EVERY_S)
        self._looked_s, self._version = float("-inf"), 0
        try:
            self._socket.bind(url)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(_bind_mend(url, door.option, error)) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._in_flight = InFlight(QUEUED_BYTES)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._handshakes.socket, zmq.POLLIN)

    def _lock(self, own: ProducerKeys) -> None:
        """Let in nobody but the clients of the list; also where the gate had failed (ZAP_ENFORCE_DOMAIN)."""
        self._clients = own.clients
        self._gate = ThreadAuthenticator(self._context)
        self._gate.configure_curve_callback(ZAP_DOMAIN, own.clients)
        self._gate.start()
        self._socket.setsockopt(zmq.CURVE_SERVER, 1)
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, own.pair.secret)
        self._socket.setsockopt_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    # --- messages ------------------------------------------------------------------------------------------------

    def wake_on(self, descriptor: int) -> None:
        """End a `wait` early when this file descriptor becomes readable."""
        self._poller.register(descriptor, zmq.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Sleep until a message, a wake-up, a failed handshake, or the time-out comes."""
        self._poller.poll(max(0, int(timeout_s * 1000 + 0.999)))

    def receive(self) -> tuple[bytes, str, list[bytes]] | None:
        """The next (peer, user, frames), None where none is waiting. `user` is the sender's public key, or ""."""
        try:
            if self._clients is None:
                peer, *frames = self._socket.recv_multipart(zmq.DONTWAIT)
                return peer, "", frames
            received = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return None
        peer, *frames = [frame.bytes for frame in received]
        return peer, str(received[-1].get("User-Id")), frames

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
        self._socket.close(linger=LINGER_MS)
        if self._gate is not None:
            self._gate.stop()
        self._context.destroy(linger=LINGER_MS)
        address = getattr(self, "address", "")
        if address.startswith("ipc://") and not address.startswith("ipc://@"):
            Path(address.removeprefix("ipc://")).unlink(missing_ok=True)

    # --- who is there --------------------------------------------------------------------------------------------

    def rights_of(self, user: str) -> Right:
        """What the sender of a message may do."""
        return EVERYTHING if self._clients is None else self._clients.rights_of(user)

    def name_of(self, user: str) -> str:
        """The sender's name in the list of clients."""
        return "a client" if self._clients is None else self._clients.name_of(user)

    def watch(self, now_s: float) -> bool:
        """Say which handshakes have failed; whether the list of clients has changed since the last call."""
        for failed in self._handshakes.failed():
            if failed is not Failed.REFUSED and self._seldom.allows(now_s):  # of a refused key the list says more
                more = f" (and {self._seldom.held} more handshakes have failed)" if self._seldom.held else ""
                logger.warning("%s%s", self._why(failed), more)
        if self._clients is None or now_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        self._clients.refresh()
        before, self._version = self._version, self._clients.version
        return self._version != before

    def _why(self, failed: Failed) -> str:
        other = "that has keys, and this producer has none" if self._clients is None else "without keys: give it --keys"
        match failed:
            case Failed.OTHER_MECHANISM:
                return f"refused a client {other}"
            case Failed.OTHER_KEY:
                return "refused a client that expects another key of this producer: give it the producer.key of now"
            case _:
                return f"a connection ended in its handshake; it may be a client {other}"


def _tracked(frame: Buffer) -> zmq.Frame:
    """A frame that is not copied and knows when it has left."""
    return zmq.Frame(frame, track=True, copy=False)


# --- where it may listen -----------------------------------------------------------------------------------------


def _check_local(url: str) -> None:
    """Raise `UsageError` for an address that other machines may reach."""
    scheme, _, address = url.partition("://")
    if scheme != "tcp" or ":" not in address:
        return  # a file of this machine, or an address that cannot be bound
    host = address.rpartition(":")[0].strip("[]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in ("localhost", "lo")
    if not local:
        keys = "give it keys (--keys DIR; python -m protocol keygen makes them)"
        raise UsageError(f"{url} can be reached from other machines: {keys}, or say --insecure")


def _check_free(url: str, option: str) -> None:
    """Raise `UsageError` where ZeroMQ would bind without a word: it takes over the socket file of a living producer,
    and of a port number it keeps the lowest 16 bits.
    """
    scheme, _, address = url.partition("://")
    port = address.rpartition(":")[2]
    if scheme == "tcp" and port.isdecimal() and int(port) > MAX_PORT:
        raise UsageError(f"{url!r}: a port is at most {MAX_PORT}; give another {option}")
    if scheme == "ipc":
        with socket.socket(socket.AF_UNIX) as caller:
            try:
                caller.connect(address)
            except OSError:
                return  # nobody listens there; whether it can be bound will be seen
        raise UsageError(_in_use(url, option))


def _bind_mend(url: str, option: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return _in_use(url, option)
    return f"cannot bind {url!r}: {error.strerror}; use tcp://HOST:PORT of this machine or ipc://PATH with {option}"


def _in_use(url: str, option: str) -> str:
    return f"{url} is in use: stop the other producer, or give another {option} (tcp://127.0.0.1:* picks a free port)"
