"""A producer and a reader whose keys do not fit: one clear line on both sides, over real sockets, and soon."""

import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from protocol import handshake, zmq_transport
from protocol.chunk import Chunk
from protocol.errors import AccessDenied, StreamTimeout
from protocol.handshake import ASK_EVERY_S, mechanism_at
from protocol.keygen import make_keys
from protocol.open_reader import open_reader
from protocol.security import client_keys
from protocol.subscription import ReaderSettings, Subscription
from tests.faults.proxy import Proxy
from tests.protocol.serving import ANY_PORT, computed, one_by_one, serving

#: Longer than any test waits: a reader that was refused must not wait for it.
PATIENCE_S = 60.0


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Of a producer and its trainer; those in `strangers` belong to another producer."""
    for folder in (tmp_path / "keys", tmp_path / "keys/strangers"):
        make_keys(folder, ["trainer"], "read,commit")
    return tmp_path / "keys"


def url_of(scheme: str, folder: Path) -> str:
    return ANY_PORT if scheme == "tcp" else f"ipc://{folder}/socket"


def stranger_who_knows_the_producer(keys: Path) -> Path:
    """Its own key is not on the list."""
    shutil.copy(keys / "producer/producer.key", keys / "strangers/trainer")
    return keys / "strangers/trainer"


#: Whether the producer has keys, those of the client, what the client hears and what the producer says.
MISFITS: dict[str, tuple[bool, Callable[[Path], Path | None], str, str]] = {
    "no key": (True, lambda _: None, "asks for keys: give --keys DIR", "a client without keys: give it --keys"),
    "a wrong key": (
        True,
        stranger_who_knows_the_producer,
        "refuses this key: let its allowed_clients name {own}",
        "refused a client: {keys}/producer/allowed_clients does not name {own}",
    ),
    "another producer's key": (
        True,
        lambda keys: keys / "strangers/trainer",
        "has another key than {client}/producer.key: copy its producer.key anew",
        "refused a client that expects another key of this producer",
    ),
    "a producer without keys": (
        False,
        lambda keys: keys / "trainer",
        "speaks without keys: start it with --keys, or leave --keys out here",
        "a client that has keys, and this producer has none",
    ),
}


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
@pytest.mark.parametrize("name", MISFITS)
def test_both_sides_say_in_one_line_why_they_do_not_come_together(
    keys: Path, scheme: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    locked, chosen, heard, said = MISFITS[name]
    client = chosen(keys)
    own = "" if client is None else client_keys(client).own.public.decode()
    known = {"keys": keys, "client": client, "own": own}
    with serving(computed(), url=url_of(scheme, keys), keys=keys if locked else None) as server:
        with open_reader(server.address, keys=str(client or "")) as reader, pytest.raises(AccessDenied) as denied:
            reader.describe(timeout_s=PATIENCE_S)
        assert str(denied.value).startswith(f"the producer at {server.address} {heard.format(**known)}")
        with open_reader(server.address, keys=str(keys / "trainer") if locked else "") as reader:
            assert reader.describe(timeout_s=PATIENCE_S).info.source == "numbers", "and others are served meanwhile"
    (line,) = caplog.messages
    assert said.format(**known) in line


def test_a_reader_hears_it_while_it_reads_as_well(keys: Path) -> None:
    with serving(computed(), keys=keys) as server, open_reader(server.address) as reader:
        events = one_by_one(reader.read(Subscription(split="", positions={0: 0})))
        with pytest.raises(AccessDenied, match="asks for keys"):
            list(events)


def test_a_producer_that_comes_back_without_its_keys_is_not_waited_for(keys: Path) -> None:
    url = f"ipc://{keys}/socket"
    with open_reader(url, keys=keys / "trainer") as reader:
        with serving(computed(), url=url, keys=keys):
            reader.describe(timeout_s=PATIENCE_S)
        with serving(computed(), url=url), pytest.raises(AccessDenied, match="speaks without keys"):
            reader.describe(timeout_s=PATIENCE_S)


def test_a_producer_that_comes_back_with_its_keys_is_found_again(keys: Path) -> None:
    url = f"ipc://{keys}/socket"
    with open_reader(url, keys=keys / "trainer") as reader:
        for _ in range(3):
            with serving(computed(), url=url, keys=keys):
                assert reader.describe(timeout_s=PATIENCE_S).info.source == "numbers"


def test_what_greets_and_then_talks_nonsense_is_tried_again_and_is_no_refusal() -> None:
    """libzmq gives such a connection up for good; what stands at the address may be a producer the next time."""
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
    connections: list[socket.socket] = []

    def greet(listener: socket.socket) -> None:
        while True:
            try:
                connections.append(listener.accept()[0])
                connections[-1].sendall(greeting + b"\4\3\2xy")  # a command of three bytes with a name of two
            except OSError:
                return

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        greeting_thread = threading.Thread(target=greet, args=(listener,))
        greeting_thread.start()

        def seen(_waited_s: float) -> None:
            if len(connections) > 4:  # two to look at the greeting, and those of the reader
                raise KeyboardInterrupt

        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with open_reader(url) as reader, pytest.raises(KeyboardInterrupt):
            reader.describe(on_wait=seen)
        listener.shutdown(socket.SHUT_RDWR)
        greeting_thread.join()
    for connection in connections:
        connection.close()


def test_a_gateway_that_turns_everybody_away_is_seldom_asked_for_its_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(url: str) -> str:
        asked.append(url)
        return ""

    monkeypatch.setattr(handshake, "mechanism_at", silent)
    began_s = time.monotonic()
    with Proxy("tcp://127.0.0.1:9") as gateway, closing(open_reader(gateway.url)) as reader:
        gateway.turns_away = True
        while len(gateway.connected_s) < 8:
            with pytest.raises(StreamTimeout):
                reader.describe(timeout_s=0.1)
    assert 1 <= len(asked) <= 1 + (time.monotonic() - began_s) / ASK_EVERY_S


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_the_greeting_of_a_server_names_its_mechanism(keys: Path, scheme: str) -> None:
    with serving(computed(), url=url_of(scheme, keys), keys=keys) as server:
        assert mechanism_at(server.address) == "CURVE"
    with serving(computed(), url=url_of(scheme, keys)) as server:
        assert mechanism_at(server.address) == "NULL"
    assert mechanism_at(server.address) == "", "where nobody is"


@pytest.mark.parametrize("locked", [False, True])
def test_a_column_of_the_largest_size_is_received(keys: Path, locked: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """CURVE adds some bytes to each frame, and libzmq counts those as well."""
    stripe = 1024
    monkeypatch.setattr(zmq_transport, "MAX_CHUNK_BYTES", stripe * 8)
    with serving(computed(2 * stripe, stripe=stripe), keys=keys if locked else None) as server:
        with_keys = str(keys / "trainer") if locked else ""
        with open_reader(server.address, ReaderSettings(window_bytes=1), keys=with_keys) as reader:
            events = one_by_one(reader.read(Subscription(split="", positions={0: 0, 1: 0})))
            counts = [event.count for event in events if isinstance(event, Chunk)]
    assert counts == [stripe, stripe]
