"""Why a connection does not come about: what libzmq's monitor and a server's greeting tell.

libzmq tries again in silence where a handshake fails, or gives the connection up in silence; whichever side sees
first that the two do not fit cuts the link, and the other learns no reason. The greeting names it.
"""

import socket
import time
from collections.abc import Iterator
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.errors import AccessDenied
from protocol.rate_limit import RateLimit
from protocol.security import ClientKeys

#: Signature and version of a ZMTP 3.0 greeting (RFC 23): upon these a server says the rest of its own.
GREETING: Final = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0"
MECHANISM: Final = slice(12, 32)
GREETING_TIMEOUT_S: Final = 1.0
#: So many handshakes that were cut by a server which has keys mean that they are others; one may be an accident.
IN_VAIN: Final = 4
PAUSE_S: Final = 0.1
#: A greeting is asked for this often: else a gateway that turns everybody away met twice as many connections.
ASK_EVERY_S: Final = 1.0
#: What a turn looks at: strangers may cause more.
LOOKED_AT: Final = 64


class Failed(Enum):
    """How a handshake ended."""

    REFUSED = "the key is not on the server's list"
    OTHER_MECHANISM = "one side has keys, the other has none"
    OTHER_KEY = "the client expects another server"
    NONSENSE = "the other side does not speak as ZeroMQ does"
    CUT = "the other side went away, and only it knows why"


class Handshakes:
    """The handshakes of one socket, by its monitor (zmq_socket_monitor). Belongs to the socket's thread."""

    def __init__(self, watched: "zmq.Socket[bytes]") -> None:
        self.socket = watched.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )
        self.succeeded = False

    def failed(self) -> Iterator[Failed]:
        """Those that have failed since the last call, the oldest first, and a limited number of them."""
        for _ in range(LOOKED_AT):
            if not self.socket.poll(0):
                return
            said = recv_monitor_message(self.socket)
            match said["event"], said["value"]:
                case zmq.EVENT_HANDSHAKE_SUCCEEDED, _:
                    self.succeeded = True
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH, _:
                    yield Failed.REFUSED
                case _, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                    yield Failed.OTHER_MECHANISM
                case _, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
                    yield Failed.OTHER_KEY
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, _:
                    yield Failed.NONSENSE
                case _:
                    yield Failed.CUT


class Admission:
    """Whether the producer at `url` lets this reader in. `keys` None: the reader has none."""

    def __init__(self, connected: "zmq.Socket[bytes]", url: str, keys: ClientKeys | None) -> None:
        self._connected, self._url, self._keys = connected, url, keys
        self._handshakes = Handshakes(connected)
        self.socket = self._handshakes.socket
        self._in_vain, self._seldom = 0, RateLimit(ASK_EVERY_S)

    def check(self) -> None:
        """Look at the handshakes that have failed. Raises `AccessDenied` where no other try can succeed."""
        for failed in self._handshakes.failed():
            if (why := self._verdict(failed)) is not None:
                raise AccessDenied(f"the producer at {self._url} {why}")
            if failed is not Failed.CUT:  # libzmq has given this connection up, and pauses only between its own tries
                time.sleep(PAUSE_S)
                self._connected.disconnect(self._url)
                self._connected.connect(self._url)

    def _verdict(self, failed: Failed) -> str | None:
        keys = self._keys
        if failed is Failed.REFUSED and keys is not None:
            return f"refuses this key: let its allowed_clients name {keys.own.public.decode()}, or give another --keys"
        self._in_vain += 1
        if not self._seldom.allows(time.monotonic()):
            return None
        match mechanism_at(self._url):
            case "NULL" if keys is not None:
                return "speaks without keys: start it with --keys, or leave --keys out here"
            case "CURVE" if keys is None:
                return "asks for keys: give --keys DIR (keys=DIR in a program)"
            case "CURVE" if keys is not None and not self._handshakes.succeeded and self._in_vain >= IN_VAIN:
                return f"has another key than {keys.folder / 'producer.key'}: copy its producer.key anew"
        return None


def mechanism_at(url: str) -> str:
    """The security mechanism that the greeting of a ZeroMQ server names, "NULL" or "CURVE"; "" where nothing greets."""
    greeting = b""
    try:
        with _connected(url) as server:
            server.sendall(GREETING)
            while len(greeting) < MECHANISM.stop and (more := server.recv(MECHANISM.stop - len(greeting))):
                greeting += more
    except OSError:
        return ""
    return greeting[MECHANISM].rstrip(b"\0").decode("ascii", "replace")


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "tcp":
        return socket.create_connection((parts.hostname, parts.port or 0), GREETING_TIMEOUT_S)
    path = url.removeprefix("ipc://")
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(GREETING_TIMEOUT_S)
    try:
        connected.connect("\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        connected.close()
        raise
    return connected
