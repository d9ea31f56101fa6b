"""A service on the bench: requests of several peers in, what each hears out, and a clock that stands still."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from producer.append_log import LogSettings
from producer.computed_log import ComputedLog
from producer.memory_log import MemoryLog
from producer.service import Service, ServiceSettings
from producer.source import ColumnSource
from protocol.dealing import Dealing, Positions
from protocol.errors import UnknownMessage
from protocol.log import Log
from protocol.messages import (
    ChunkMessage,
    Commit,
    Credit,
    Message,
    Push,
    Refusal,
    Reply,
    Request,
    Subscribe,
)
from protocol.schema import Field, Schema

ID = Schema((Field("id", "int64"),))
#: Two peers.
A, B = b"peer a", b"peer b"


def numbered(count: int) -> ColumnSource:
    return ColumnSource("numbers", ID, {"id": np.arange(count)})


def stream(count: int = 64, passes: int = 1) -> ComputedLog:
    return ComputedLog(numbered(count), Dealing(2, 4), passes=passes)


def live(count: int, full: Any = "block", stripes: int = 100) -> MemoryLog:
    log = MemoryLog(ID, Dealing(2, 4), LogSettings(bytes=stripes * 64, full=full))
    if count:
        log.append_columns({"id": np.arange(count)})
    return log


class Bench:
    """A service, the time, and what each peer has heard since it was last asked."""

    def __init__(
        self,
        log: Log,
        splits: Mapping[str, Log] | None = None,
        clock_s: Callable[[], float] = lambda: 0.0,
        **settings: Any,
    ) -> None:
        self.now_s = 0.0
        self.settings = ServiceSettings(**settings)
        self.service = Service({"": log, **(splits or {})}, self.settings, self.now_s, clock_s=clock_s)
        self.info = log.info
        self.full: set[bytes] = set()
        self.gone: set[bytes] = set()
        self._heard: list[tuple[bytes, Reply]] = []

    def say(self, peer: bytes, request: Request) -> list[Reply]:
        """What the peer hears at once."""
        self.service.receive(peer, request, self.now_s)
        return self.heard(peer)

    def heard(self, peer: bytes, most_chunks: int = 1000) -> list[Reply]:
        self.service.advance(self.now_s)
        self.service.pump(self.send, self.now_s, most_chunks)
        mine = [message for to, message in self._heard if to == peer]
        self._heard = [(to, message) for to, message in self._heard if to != peer]
        return mine

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def subscribe(self, peer: bytes, positions: Positions | None = None, **changed: Any) -> list[Reply]:
        start = {0: 0, 1: 0} if positions is None else positions
        facts: dict[str, Any] = {
            "session": 1,
            "split": "",
            "group": None,
            "durable": False,
            "incarnation": None,
            "positions": start,
            "trained": {},
            "committed": None,
            **changed,
        }
        return self.say(peer, Subscribe(**facts))

    def credit(self, peer: bytes, until: Positions, trained: Positions | None = None, **changed: Any) -> list[Reply]:
        facts: dict[str, Any] = {"session": 1, "until": until, "trained": trained or {}, "durable": False, **changed}
        return self.say(peer, Credit(**facts))

    def commit(self, peer: bytes, positions: Positions, **changed: Any) -> list[Reply]:
        facts: dict[str, Any] = {"request": 9, "group": "run", "incarnation": self.info.incarnation, **changed}
        return self.say(peer, Commit(positions=positions, **facts))

    def send(self, peer: bytes, message: Message) -> bool:
        if peer in self.gone:
            raise UnknownMessage("the peer is gone")
        if peer in self.full:
            return False
        assert not isinstance(message, Request | Push)
        self._heard.append((peer, message))
        return True


def spans(messages: list[Reply]) -> list[tuple[int, int, int]]:
    return [(each.partition, each.offset, each.count) for each in messages if isinstance(each, ChunkMessage)]


def refusal(messages: list[Reply]) -> Refusal:
    (found,) = [each for each in messages if isinstance(each, Refusal)]
    return found
