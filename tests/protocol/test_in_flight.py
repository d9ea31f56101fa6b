from contextlib import closing
from dataclasses import dataclass

import numpy as np
import zmq

from protocol.in_flight import InFlight
from protocol.server_socket import QUEUED_BYTES, ServerSocket
from tests.programs import wait_until
from tests.protocol.serving import ANY_PORT

A, B = b"a", b"b"


@dataclass
class Sent:
    done: bool = False


def test_a_peer_has_room_until_too_much_waits_for_it_and_again_once_that_has_left() -> None:
    in_flight, messages = InFlight(100), [Sent(), Sent(), Sent()]
    for message, nbytes in zip(messages, (60, 39, 500), strict=True):
        assert in_flight.has_room(A)
        in_flight.add(A, message, nbytes)
    assert not in_flight.has_room(A)
    assert in_flight.has_room(B), "what waits for one holds up no other"
    messages[0].done = messages[1].done = True
    assert not in_flight.has_room(A)
    messages[2].done = True
    assert in_flight.has_room(A)


def test_a_peer_that_is_gone_is_forgotten() -> None:
    in_flight = InFlight(1)
    in_flight.add(A, Sent(), 1)
    in_flight.forget(A)
    assert in_flight.has_room(A)
    in_flight.forget(A)


def test_peers_that_came_and_went_leave_nothing_behind() -> None:
    in_flight = InFlight(100)
    for number in range(1000):
        in_flight.add(str(number).encode(), Sent(done=True), 60)
    assert len(in_flight._messages) == len(in_flight._bytes) == 1


def test_a_server_keeps_little_for_a_reader_that_does_not_read() -> None:
    with (
        closing(ServerSocket(ANY_PORT)) as server,
        zmq.Context() as context,
        closing(context.socket(zmq.DEALER)) as silent,
    ):
        silent.setsockopt(zmq.RCVHWM, 1)
        silent.setsockopt(zmq.LINGER, 0)
        silent.connect(server.address)
        silent.send(b"hello")
        while (received := server.receive()) is None:
            server.wait(60)  # its handshake ends a wait as well
        peer, sent, megabyte = received[0], 0, np.zeros(1 << 20, np.uint8)
        while server.send(peer, [b"header", megabyte.data, b"small"]):
            sent += 1
            assert sent < 500
        assert sent >= QUEUED_BYTES >> 20, "this many wait here, and some more in the system's buffers"
        assert sum(server._in_flight._bytes.values()) <= QUEUED_BYTES + megabyte.nbytes
        for _ in range(sent):
            silent.recv_multipart()
        wait_until(lambda: server.send(peer, [b"small"]), "room")
