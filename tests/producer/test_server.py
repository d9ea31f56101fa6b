"""The server's thread, turn by turn: what it says of peers that send nonsense, however much of it comes."""

import logging
import math
from typing import Any

import pytest

from producer.server import SHOWN, Server
from producer.service import Service, ServiceSettings
from protocol.codec import encode
from protocol.messages import Describe
from protocol.security import EVERYTHING, Right
from tests.protocol.serving import computed

GARBAGE, NO_SPLIT = [b"\xc1"], [bytes(encode(Describe(request=1, split="\x1b[2Jnowhere" + "x" * 4000))[0])]


class Flooded:
    """A socket with messages without end, and one turn's worth of room."""

    address = "nowhere"

    def __init__(self) -> None:
        self.coming: list[list[bytes]] = []
        self.sent = 0

    def wake_on(self, descriptor: int) -> None:
        """Nobody sleeps."""

    def close(self) -> None:
        """There is nothing to close."""

    def rights_of(self, user: str) -> Right:
        return EVERYTHING

    def watch(self, now_s: float) -> bool:
        return False

    def receive(self) -> tuple[bytes, str, list[bytes]] | None:
        return (b"peer", "", self.coming.pop(0)) if self.coming else None

    def send(self, peer: bytes, frames: Any) -> bool:
        self.sent += 1
        return True


@pytest.fixture
def flooded() -> Flooded:
    return Flooded()


def test_refusals_are_said_at_most_once_a_second_by_kind_with_their_number(
    flooded: Flooded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.server.REQUESTS_S", math.inf)  # a slow machine ends a turn after its first request
    server = Server(Service({"": computed()}, ServiceSettings(), 0.0), flooded)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        for turn in range(2000):
            flooded.coming = [GARBAGE, NO_SPLIT, GARBAGE]
            while flooded.coming:
                server.turn(turn / 1000)
        flooded.coming = []
        server.turn(5.0)
    server.close()
    assert server.service.refused == {"malformed": 4000, "unknown": 2000}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 + 2 * 2, "two kinds: at once, after a second, and at the end"
    for kind, number in server.service.refused.items():
        counts = [int(line.split("): ")[1].split()[0]) for line in said if f"({kind})" in line]
        assert counts[0] <= 2
        assert sum(counts) == number
    assert all("\x1b" not in line and len(line) < SHOWN + 100 for line in said)
    assert said[0].startswith("refused messages of peers (malformed): ")
    assert "frame 0 is not msgpack" in said[0]
