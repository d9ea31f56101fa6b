"""What a server has to say besides chunks, and the count of what it refused."""

from collections import Counter
from collections.abc import Callable

from protocol.errors import PeerError, UnknownMessage
from protocol.messages import Refusal, Reply
from protocol.values import MAX_TEXT_LENGTH

#: Hands a message to a peer; false where its link is full. Raises `UnknownMessage` where the peer is gone.
Send = Callable[[bytes, Reply], bool]


class Outbox:
    """Messages to peers, in the order in which they were said. A few a turn: each request has one answer at most."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        #: What was last wrong, by code.
        self.last_refusal: dict[str, str] = {}
        self._messages: list[tuple[bytes, Reply]] = []

    def say(self, peer: bytes, message: Reply) -> None:
        """Send it at the next flush."""
        self._messages.append((peer, message))

    def refuse(self, peer: bytes, error: PeerError, *, session: int | None = None, request: int | None = None) -> None:
        """Tell a peer what was wrong with what it sent, and count it."""
        self.refused[error.code] += 1
        text = self.last_refusal[error.code] = str(error)[:MAX_TEXT_LENGTH]
        self.say(peer, Refusal(code=error.code, text=text, session=session, request=request))

    def flush(self, send: Send) -> set[bytes]:
        """Send everything; the peers that are gone. A full link loses its message: all are said or asked for again."""
        messages, self._messages = self._messages, []
        gone = set()
        for peer, message in messages:
            try:
                send(peer, message)
            except UnknownMessage:
                gone.add(peer)
        return gone
