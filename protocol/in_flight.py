"""How many bytes wait in the queue of each connection: ZeroMQ's high-water marks count messages of whatever size."""

from collections import deque
from typing import Protocol


class Tracked(Protocol):
    """What tells that a message has left: `zmq.MessageTracker`."""

    @property
    def done(self) -> bool:
        """Whether its memory is no longer needed."""


class InFlight:
    """Messages by peer that were handed to ZeroMQ and have not left yet."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._messages: dict[bytes, deque[tuple[Tracked, int]]] = {}
        self._bytes: dict[bytes, int] = {}

    def has_room(self, peer: bytes) -> bool:
        """Whether fewer than `max_bytes` wait for this peer; one message of any size always may."""
        if peer not in self._messages:
            return True
        self._forget_sent(peer)
        return self._bytes.get(peer, 0) < self._max_bytes

    def add(self, peer: bytes, message: Tracked, nbytes: int) -> None:
        """A message was handed over."""
        if peer not in self._messages:
            for other in list(self._messages):  # nobody says that one has left which was sent everything
                self._forget_sent(other)
        self._messages.setdefault(peer, deque()).append((message, nbytes))
        self._bytes[peer] = self._bytes.get(peer, 0) + nbytes

    def forget(self, peer: bytes) -> None:
        """The peer is gone, and with it what waited for it."""
        self._messages.pop(peer, None)
        self._bytes.pop(peer, None)

    def _forget_sent(self, peer: bytes) -> None:
        messages = self._messages[peer]
        while messages and messages[0][0].done:
            self._bytes[peer] -= messages.popleft()[1]
        if not messages:
            self.forget(peer)
