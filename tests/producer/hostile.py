"""A stranger who wishes a server no good: `python -m tests.producer.hostile URL KIND`, until it is killed.

It says `ready` once what it does is under way. Raw connections speak ZMTP 3.0 (rfc.zeromq.org/spec/23) as far as they
speak at all.
"""

import itertools
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import zmq

from protocol.codec import encode
from protocol.messages import Credit, Request, Subscribe
from protocol.open_reader import open_reader
from protocol.values import MAX_NUMBER
from protocol.zmq_transport import new_token

NEVER_READING: Final = 20
SILENT: Final = 2000
SLOW: Final = 200
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY: Final = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
#: A frame of a megabyte is announced, more follows in the message.
ENDLESS: Final = b"\x03" + (1 << 20).to_bytes(8, "big")


class Stranger:
    """One peer that speaks the protocol and reads nothing."""

    def __init__(self, url: str, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVHWM, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(url)

    def say(self, request: Request | bytes) -> None:
        """As fast as the link takes it."""
        self._socket.send_multipart([request] if isinstance(request, bytes) else encode(request))


def subscribe(partitions: int, group: str | None = None) -> Subscribe:
    """A subscription that a server must take for an honest one."""
    start = dict.fromkeys(range(partitions), 0)
    return Subscribe(
        session=new_token(), split="", group=group, durable=False, incarnation=None, positions=start, trained={},
        committed=None,
    )  # fmt: skip


def speak(url: str, kind: str) -> Iterator[None]:
    """Messages without end; yields after each."""
    context = zmq.Context()
    with open_reader(url) as reader:
        partitions = reader.describe(timeout_s=30).info.dealing.partitions
    strangers = [Stranger(url, context) for _ in range(NEVER_READING)]
    greedy = [subscribe(partitions) for _ in strangers]
    everything = dict.fromkeys(range(partitions), MAX_NUMBER)
    if kind == "credit":
        for stranger, asked in zip(strangers, greedy, strict=True):
            stranger.say(asked)
    for number in itertools.count():
        at = number % NEVER_READING
        match kind:
            case "subscribes":
                strangers[at].say(subscribe(partitions))
            case "groups":
                strangers[at].say(subscribe(partitions, f"{os.getpid()}-{number}" + "x" * 100))
            case "garbage":
                strangers[at].say(b"\x81\xa1v" + b"\xdc\x10\x00" * 1000)
            case "credit":
                session = greedy[at].session
                strangers[at].say(Credit(session=session, until=everything, trained={}, durable=False))
        yield


def burn() -> Iterator[None]:
    """No stranger at all, but a process that is as busy as one that speaks: what it costs is the machine's to say."""
    while True:
        encode(subscribe(8))
        yield


def connect(url: str, count: int, opening: bytes, drip: bytes) -> Iterator[None]:
    """So many raw connections, each with these first bytes and then a byte now and then; what is cut comes again."""
    host, port = url.removeprefix("tcp://").split(":")
    selector, opened = selectors.DefaultSelector(), 0
    last_s = time.monotonic()
    while True:
        while opened < count:
            each = socket.create_connection((host, int(port)), timeout=30)
            each.setblocking(False)
            each.send(opening)
            selector.register(each, selectors.EVENT_READ)
            opened += 1
        yield
        for key, _ in selector.select(0.05):
            each = key.fileobj  # type: ignore[assignment]
            try:
                open_still = bool(each.recv(1 << 16))
            except OSError:
                open_still = False
            if not open_still:
                selector.unregister(each)
                each.close()
                opened -= 1
        if drip and time.monotonic() - last_s > 0.1:
            last_s = time.monotonic()
            for key in list(selector.get_map().values()):
                try:
                    key.fileobj.send(drip)  # type: ignore[union-attr]
                except OSError:
                    continue


SPEAKING: Final = ("subscribes", "groups", "garbage", "credit")
#: A process that takes as much of the machine and leaves every server alone.
BUSY: Final = "busy"
KINDS: Final[dict[str, Callable[[str], Iterator[None]]]] = {
    **{kind: lambda url, kind=kind: speak(url, kind) for kind in SPEAKING},  # type: ignore[misc]
    "silent": lambda url: connect(url, SILENT, b"", b""),
    "half a handshake": lambda url: connect(url, SLOW, GREETING[:20], b""),
    "slow-loris": lambda url: connect(url, SLOW, GREETING + b"\x04" + bytes([len(READY)]) + READY + ENDLESS, b"x"),
}

if __name__ == "__main__":
    url, kind = sys.argv[1:]
    for turn, _ in enumerate(burn() if kind == BUSY else KINDS[kind](url)):
        if turn == 0:
            print("ready", flush=True)
