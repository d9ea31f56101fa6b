"""The thin shell around a `Service`, or an `Inlet`: one thread, one ROUTER socket, the clock."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from producer.served import Served
from protocol.codec import encode
from protocol.errors import PeerError
from protocol.memory import keep_freed_memory
from protocol.messages import Message
from protocol.rate_limit import RateLimit
from protocol.server_socket import ServerSocket

logger = logging.getLogger(__name__)

#: Requests taken in before chunks are sent again, so that a flood of one does not starve the other.
REQUESTS_A_TURN = 64
#: The same in time: some requests cost far more than others.
REQUESTS_S = 0.0002
#: What was refused is said this often, each kind in one line with its number.
REFUSALS_SAID_S = 1.0
#: Characters of a refusal that are said; a stranger may have written some of them.
SHOWN = 200


ServedT = TypeVar("ServedT", bound=Served[Any])


class Server(Generic[ServedT]):
    """Serves until it is told to stop. `serve` runs in one thread; `wake` and `stop` may be called from any."""

    def __init__(self, service: ServedT, socket: ServerSocket) -> None:
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
        self._refusals_said: Counter[str] = Counter()
        self._refusals_limit = RateLimit(REFUSALS_SAID_S)

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
        enough_s = time.monotonic() + REQUESTS_S
        if self._socket.watch(now_s):
            for user in self.service.end_denied():
                logger.warning("%s has lost a right: its session was ended", self._socket.name_of(user))
        for _ in range(REQUESTS_A_TURN):
            received = None if self.service.full else self._socket.receive()
            if received is None:
                break
            peer, user, frames = received
            try:
                request = self.service.decode(frames)
            except PeerError as error:
                self.service.refuse(peer, error)
            else:
                self.service.receive(peer, request, now_s, user)
            if time.monotonic() > enough_s:
                break
        for name in self.service.advance(now_s):
            logger.warning("group %s never saved and has fallen silent: it holds no records back any more", name)
        self.service.pump(self._send, now_s)
        if self.service.outbox.refused != self._refusals_said and self._refusals_limit.allows(now_s):
            self._say_refusals()

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

    def _say_refusals(self) -> None:
        refused = self.service.outbox.refused
        for code, count in (refused - self._refusals_said).items():
            last = self.service.outbox.last_refusal[code][:SHOWN]
            logger.warning("refused messages of peers (%s): %d more, the last: %r", code, count, last)
        self._refusals_said = Counter(refused)

    def _drain_wake_ups(self) -> None:
        try:
            while os.read(self._wake_read, 1024):
                continue
        except BlockingIOError:
            return
