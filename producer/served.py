"""The interface of what a server's thread drives: messages and the time in, messages out, without a socket."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from producer.outbox import Outbox, Send
from protocol.chunk import Buffer
from protocol.errors import PeerError
from protocol.security import EVERYTHING, Right

Heard = TypeVar("Heard")


class Served(ABC, Generic[Heard]):
    """A stream to readers, or a log to writers; `Heard` is what its peers say.

    Times are seconds of any monotonic clock. A fault of one peer is answered to that peer and touches no other.
    """

    def __init__(self) -> None:
        self.outbox = Outbox()
        #: What a user may do; everybody may do everything unless a server says otherwise.
        self.rights_of: Callable[[str], Right] = lambda _user: EVERYTHING

    @property
    def full(self) -> bool:
        """Whether no further message can be taken in now."""
        return False

    @abstractmethod
    def decode(self, frames: Sequence[Buffer]) -> Heard:
        """The message that a peer has sent. Raises a `PeerError`."""

    @abstractmethod
    def receive(self, peer: bytes, message: Heard, now_s: float, user: str = "") -> None:
        """Obey one message, or refuse it to its sender. `user` is whose key it came with, "" without keys."""

    def refuse(self, peer: bytes, error: PeerError) -> None:
        """A peer has sent something that is no message."""
        self.outbox.refuse(peer, error)

    @abstractmethod
    def end_denied(self) -> list[str]:
        """The rights have changed: end the sessions that need one which their user has no more; those users."""

    @abstractmethod
    def advance(self, now_s: float) -> list[str]:
        """Forget who has been silent for too long; returns the names of the groups that have expired."""

    @abstractmethod
    def pump(self, send: Send, now_s: float) -> None:
        """Send what has been said, and what is due."""

    @abstractmethod
    def due_in_s(self) -> float:
        """How long the server may sleep if no message comes."""
