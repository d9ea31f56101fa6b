"""The thin shell around a `Service`: one thread, one ROUTER socket, the clock."""

import logging
import os
import time
from collections.abc import Callable

from producer.service import Service
from protocol.codec import decode_request, encode
from protocol.errors import AccessDenied, PeerError
from protocol.memory import keep_freed_memory
from protocol.messages import Message
from protocol.rate_limit import RateLimit
from protocol.server_socket import ServerSocket

logger = logging.getLogger(__name__)

#: Requests taken in before chunks are sent again, so that a flood of one does not starve the other.
REQUESTS_A_TURN = 64


class Server:
    """Serves until it is told to stop. `serve` runs in one thread; `wake` and `stop` may be called from any."""

    def __init__(self, service: Service, socket: ServerSocket) -> None:
        keep_freed_memory()
        self.service = service
        service.rights_of = socket.rights_of
        self._socket = socket
        self.address = socket.address
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        socket.wake_on(self._wake_read)
        self._asleep = False
        self._seldom = RateLimit(logger)

    def serve(self, each_turn: Callable[[float], None] | None = None) -> None:
        """Serve until `stop`. `each_turn` is called with the time at least once a second; it may raise to end."""
        while not self._stopping:
            now_s = time.monotonic()
            self._asleep = True  # from here on, since this turn may have looked before an append or the end
            self.turn(now_s)
            if each_turn is not None:
                each_turn(now_s)
            self._socket.wait(self.service.due_in_s())
            self._asleep = False
            self._drain_wake_ups()

    def turn(self, now_s: float) -> None:
        """Take in what has come, say what is due, send what may be sent."""
        if self._socket.watch(now_s):
            for user in self.service.end_denied():
                logger.warning("%s has lost a right: its session was ended", self._socket.name_of(user))
        for _ in range(REQUESTS_A_TURN):
            received = self._socket.receive()
            if received is None:
                break
            peer, user, frames = received
            try:
                request = decode_request(frames)
            except PeerError as error:
                self.service.refuse(peer, error)
            else:
                refused = self.service.receive(peer, request, now_s, user)
                if isinstance(refused, AccessDenied):
                    self._seldom.warn(user, f"refused {self._socket.name_of(user)}: {refused}", now_s)
        for name in self.service.advance(now_s):
            logger.warning("group %s never saved and has fallen silent: it holds no records back any more", name)
        self.service.pump(self._send, now_s)

    def wake(self) -> None:
        """The log has grown: readers may be waiting for it."""
        if self._asleep:
            self._asleep = False
            try:
                os.write(self._wake_write, b"!")
            except BlockingIOError:
                return  # a wake-up is waiting already

    def stop(self) -> None:
        """Let `serve` return soon."""
        self._stopping = True
        self._asleep = True
        self.wake()

    def close(self) -> None:
        """Release socket and pipe; only after `serve` has returned."""
        self._socket.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _send(self, peer: bytes, message: Message) -> bool:
        return self._socket.send(peer, encode(message))

    def _drain_wake_ups(self) -> None:
        try:
            while os.read(self._wake_read, 1024):
                continue
        except BlockingIOError:
            return
