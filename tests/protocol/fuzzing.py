"""Hostile frames by a seed: golden messages with other bytes and other values, and what must hold whatever comes."""

import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack
import numpy as np

from producer.computed_log import ComputedLog, split_log
from producer.service import Service, ServiceSettings
from protocol.chunk import Buffer, Chunk
from protocol.codec import decode_reply, decode_request, encode
from protocol.errors import HeadraceError, PeerError
from protocol.messages import Reply, Request
from protocol.reader_session import ReaderSession
from protocol.subscription import ReaderSettings, Subscription
from protocol.values import MAX_NUMBER
from tests.protocol.golden_messages import FILE, INFO, MESSAGES, read_golden
from tests.protocol.serving import numbered

GOLDEN: Final = read_golden(FILE.read_text())
#: Bytes that were found to matter: each was once a fault, or is what a fault would look like.
HOSTILE_FILE: Final = FILE.with_name("hostile.txt")
HOSTILE: Final = read_golden(HOSTILE_FILE.read_text())
REQUESTS: Final = [GOLDEN[name] for name, message in MESSAGES.items() if isinstance(message, Request)]
REPLIES: Final = [GOLDEN[name] for name, message in MESSAGES.items() if isinstance(message, Reply)]

SESSION: Final = 1234567890123456789
EDGES: Final[Sequence[Any]] = (
    0, 1, -1, 2, 3, 4, 7, 4095, 4096, 1 << 31, 1 << 32, MAX_NUMBER, MAX_NUMBER + 1, -(1 << 63), (1 << 64) - 1,
    0.0, -0.5, float("nan"), float("inf"), 1e308, True, False, None, "", "run", "x" * 5000, "\x00\x1b[2J", b"", b"x",
    [], [[]], [[0, 0]], [[0, 0], [0, 1]], [[1, MAX_NUMBER]], [[5000, 1]], {}, {"x": 1}, {1: 2}, [None] * 300,
    SESSION, "c0ffee", "test", "subscribe", "chunk", "credit", msgpack.ExtType(3, b"x"), msgpack.Timestamp(1),
)  # fmt: skip


class Mutator:
    """Draws messages: those of `seeds` and those found before, changed in one to four places, in bytes or in values."""

    def __init__(self, draw: random.Random, seeds: Sequence[list[bytes]]) -> None:
        self._draw, self._seeds = draw, [*seeds, *HOSTILE.values()]

    def frames(self) -> list[bytes]:
        """The next message."""
        draw = self._draw
        frames = list(draw.choice(self._seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            how = draw.random()
            if how < 0.55:
                frames[:1] = [self._other_value(frames[0])] if frames else []
            elif how < 0.9 and frames:
                at = draw.randrange(len(frames))
                frames[at] = self._other_bytes(frames[at])
            else:
                frames = self._other_frames(frames)
        return frames

    def _other_value(self, frame: bytes) -> bytes:
        """A header with another value somewhere inside, a key more or less."""
        draw = self._draw
        try:
            whole = msgpack.Unpacker()
            whole.feed(frame)
            whole.skip()  # as in the codec: what a frame only announces costs this side no memory either
            header = msgpack.unpackb(frame, strict_map_key=False)
        except Exception:  # noqa: BLE001  (it is no header any more)
            return self._other_bytes(frame)
        inside: Any = header
        while isinstance(inside, dict | list) and inside:
            key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
            if isinstance(inside[key], dict | list) and draw.random() < 0.6:
                inside = inside[key]
                continue
            if draw.random() < 0.1:
                del inside[key]
            elif draw.random() < 0.3 and type(inside[key]) is int:
                inside[key] = max(-(1 << 63), min(inside[key] + draw.choice((-1, 1, 4, 1 << 20)), (1 << 64) - 1))
            else:
                inside[key] = draw.choice(EDGES)
            break
        return bytes(msgpack.packb(header, unicode_errors="surrogatepass"))

    def _other_bytes(self, frame: bytes) -> bytes:
        """Bytes flipped, cut, put in, doubled, or a length that promises more."""
        draw, raw = self._draw, bytearray(frame)
        at = draw.randint(0, len(raw))
        match draw.randrange(6):
            case 0 if raw:
                raw[at % len(raw)] ^= 1 << draw.randrange(8)
            case 1:
                del raw[at:]
            case 2:
                raw[at:at] = draw.randbytes(draw.randint(1, 8))
            case 3:
                raw[at:at] = raw[at : at + draw.randint(1, 64)] * draw.randint(1, 20)
            case 4:
                raw[at : at + 1] = draw.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6")) + struct.pack(
                    ">I", draw.getrandbits(32)
                )
            case _:
                raw[at:at] = draw.choice((b"\xdc\x10\x00", b"\xde\x01\x00", b"\x9f")) * draw.randint(1, 1200)
        return bytes(raw)

    def _other_frames(self, frames: list[bytes]) -> list[bytes]:
        """Frames of another message, doubled, gone, swapped."""
        draw = self._draw
        match draw.randrange(4):
            case 0:
                return [*frames, *draw.choice(self._seeds)[1:]]
            case 1:
                return frames * draw.randint(1, 5)
            case 2:
                return frames[: draw.randint(0, len(frames))]
            case _:
                return draw.sample(frames, len(frames))


def golden_service(now_s: float = 0.0) -> Service:
    """The stream of the golden messages: 14 numbers in 2 partitions, and a split of 3."""
    log = ComputedLog(numbered(14), INFO.dealing, passes=1, shuffle=False)
    log.info = replace(log.info, incarnation=INFO.incarnation, splits=INFO.splits)
    return Service({"": log, "test": split_log(numbered(3), stripe=4)}, ServiceSettings(), now_s)


class HostilePeers:
    """A service under fire from a few peers, and an honest reader that reads all of the stream beside them."""

    def __init__(self, draw: random.Random) -> None:
        self.service, self._draw, self._now_s = golden_service(), draw, 0.0
        self._replies: list[Reply] = []
        self.refused = 0

    def send(self, frames: Sequence[Buffer]) -> None:
        """A message of one of the peers. Everything but a `PeerError` is a fault."""
        peer = bytes([self._draw.randrange(5)])
        self._now_s += 0.0001
        try:
            self.service.receive(peer, decode_request(frames), self._now_s)
        except PeerError as error:
            self.refused += 1
            self.service.refuse(peer, error)
        if self._draw.random() < 0.05:
            self._turn()

    def read(self) -> list[int]:
        """All that an honest reader of the stream is given."""
        tokens = iter(range(1, 1000))
        session = ReaderSession(
            Subscription(split="", positions={0: 0, 1: 0}), ReaderSettings(), tokens.__next__, self._now_s
        )
        found: list[int] = []
        for _ in range(50):
            for request in session.outbox:
                self.service.receive(b"honest", decode_request(encode(request)), self._now_s)
            session.outbox.clear()
            self._now_s += 0.3
            self._turn()
            replies, self._replies = self._replies, []
            for reply in replies:
                for event in session.receive(decode_reply(encode(reply)), self._now_s):
                    if isinstance(event, Chunk):
                        found += np.asarray(event.columns["id"]).tolist()
                        session.take(event.partition, event.end, self._now_s)
            session.advance(self._now_s)
            if len(found) == 14:
                break
        session.leave()
        for request in session.outbox:
            self.service.receive(b"honest", request, self._now_s)
        return found

    def _turn(self) -> None:
        self.service.advance(self._now_s)
        self.service.pump(self._take, self._now_s)

    def _take(self, peer: bytes, message: Reply) -> bool:
        if peer == b"honest":
            self._replies.append(message)
        else:
            decode_reply(encode(message))  # what a server says is always a message, whatever it was told
        return self._draw.random() < 0.9 or peer == b"honest"


class HostileServer:
    """A reader under fire. Everything but an error of ours is a fault, and so is a record that is not the next one."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self.failed = 0
        self._begin()

    def _begin(self) -> None:
        asked = Subscription(split="", positions={0: 8, 1: 4}, group="run")
        self._session = ReaderSession(asked, ReaderSettings(), lambda: SESSION, self._now_s)
        self._positions = {0: 8, 1: 4}

    def send(self, frames: Sequence[Buffer]) -> None:
        """A message of the server's."""
        self._now_s += 0.001
        try:
            for event in self._session.receive(decode_reply(frames), self._now_s):
                if isinstance(event, Chunk):
                    assert event.offset == self._positions[event.partition]
                    self._positions[event.partition] = event.end
                    self._session.take(event.partition, event.end, self._now_s)
            self._session.advance(self._now_s)
            for request in self._session.outbox:
                decode_request(encode(request))
            self._session.outbox.clear()
        except HeadraceError:
            self.failed += 1
            self._begin()
