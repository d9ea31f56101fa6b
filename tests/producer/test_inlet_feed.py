"""The inlet on a real socket: who may push, what is too large, and what another version is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.inlet import InletSettings
from producer.inlet_feed import InletFeed
from producer.intake import Intake
from producer.open_log import open_log
from protocol.chunk import Buffer
from protocol.codec import decode_reply, encode
from protocol.errors import AccessDenied
from protocol.keygen import make_keys
from protocol.messages import Greeting, Hello, Push, RecordsMessage, Refusal, Taken
from protocol.open_reader import open_reader
from protocol.security import client_keys
from protocol.server_socket import MAX_PUSH_FRAME_BYTES, WRITERS, ServerSocket
from tests.protocol.serving import ANY_PORT, serving


class Peer:
    """A bare connection to an inlet."""

    def __init__(self, url: str, keys: Path | None = None) -> None:
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        if keys is not None:
            own = client_keys(keys)
            self._dealer.curve_publickey, self._dealer.curve_secretkey = own.own.public, own.own.secret
            self._dealer.curve_serverkey = own.producer
        self._dealer.connect(url)

    def say(self, *messages: Push) -> Any:
        """The first word that it hears of them."""
        for message in messages:
            self.send(*encode(message))
        return self.hear()

    def send(self, *frames: Buffer) -> None:
        self._dealer.send_multipart(frames)

    def hear(self) -> Any:
        assert self._dealer.poll(30_000), "not a word"
        return decode_reply(self._dealer.recv_multipart())

    def close(self) -> None:
        self._context.destroy(linger=0)


@contextmanager
def opened(keys: Path | None = None) -> Iterator[InletFeed]:
    socket = ServerSocket(ANY_PORT, keys=keys / "producer" if keys else "", door=WRITERS)
    log = partial(open_log, partitions=4, settings=LogSettings(), source="inlet")
    feed = InletFeed(socket, Intake(log, BadRecords(BadRecordSettings())), InletSettings())
    feed.start()
    yield feed
    feed.stop()
    assert feed.error is None


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Whoever is in it is closed at the end."""
    peers: list[Peer] = []
    yield peers
    for peer in peers:
        peer.close()


def record(n: int) -> RecordsMessage:
    return RecordsMessage(session=1, number=n, count=1, frames=(msgpack.packb([{"n": n}]),))


def test_whoever_may_push_pushes_and_does_not_read_and_whoever_reads_does_not_push(
    tmp_path: Path, peers: list[Peer]
) -> None:
    keys = tmp_path / "keys"
    for name, rights in (("camera", "push"), ("trainer", "read,commit")):
        make_keys(keys, [name], rights)
    with opened(keys) as feed:
        peers += [Peer(feed.address, keys / name) for name in ("camera", "trainer")]
        camera, trainer = peers
        denied = trainer.say(Hello(session=1, writer="trainer"))
        assert isinstance(denied, Refusal)
        assert (denied.code, denied.text[:29]) == ("denied", "hello needs the right to push")
        assert trainer.say(record(0)).code == "no_session"
        assert isinstance(camera.say(Hello(session=1, writer="camera")), Greeting)
        while not isinstance(taken := camera.say(record(0)), Taken) or taken.durable == 0:
            continue
        with serving(feed.log, keys=keys) as server:
            with open_reader(server.address, keys=keys / "trainer") as reader:
                assert sum(reader.describe(timeout_s=60).log_end.values()) == 1
            with (
                open_reader(server.address, keys=keys / "camera") as reader,
                pytest.raises(AccessDenied, match="describe needs the right to read"),
            ):
                reader.describe(timeout_s=60)


def test_another_version_is_refused_with_both(peers: list[Peer]) -> None:
    with opened() as feed:
        peers.append(peer := Peer(feed.address))
        peer.send(msgpack.packb({"v": 2, "type": "hello", "session": 1, "writer": "a"}))
        refusal = peer.hear()
        assert (refusal.code, refusal.text) == (
            "version",
            "this side speaks version 1 of the protocol, the other side 2",
        )


def test_what_is_too_large_truncated_or_nonsense_disturbs_no_other_writer(peers: list[Peer]) -> None:
    with opened() as feed:
        peers += [honest := Peer(feed.address), strange := Peer(feed.address)]
        assert isinstance(honest.say(Hello(session=1, writer="honest")), Greeting)
        strange.send(b"\xc1")
        assert strange.hear().code == "malformed"
        whole = encode(record(0))
        strange.send(whole[0][:-1], whole[1])
        assert strange.hear().code == "malformed"
        strange.send(*encode(Hello(session=1, writer="strange")), bytes(MAX_PUSH_FRAME_BYTES + 1))  # its link is cut
        honest.send(*encode(record(0)))
        while (taken := honest.hear()).due == 0:
            continue
        assert isinstance(taken, Taken)


def test_a_feed_that_stops_leaves_nobody_waiting() -> None:
    before = threading.active_count()
    with opened():
        assert threading.active_count() > before
    assert threading.active_count() == before
