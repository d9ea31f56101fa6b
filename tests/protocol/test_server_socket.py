"""Who may connect where: keys, rights and their loss, over real sockets."""

import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import zmq

from producer.memory_log import MemoryLog
from protocol import server_socket
from protocol.chunk import Chunk
from protocol.dealing import Dealing
from protocol.errors import AccessDenied, UsageError
from protocol.keygen import make_keys
from protocol.open_reader import open_reader
from protocol.security import client_keys, producer_keys
from protocol.server_socket import ServerSocket
from protocol.subscription import Subscription
from tests.programs import wait_until
from tests.protocol.serving import ANY_PORT, ID, computed, one_by_one, serving

EVERYTHING = Subscription(split="", positions=dict.fromkeys(range(4), 0))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["trainer"], "read,commit")
    make_keys(tmp_path / "keys", ["viewer"], "read")
    return tmp_path / "keys"


def edit(keys: Path, pattern: str, replacement: str) -> None:
    """Change the list of clients as an editor does that writes a new file."""
    path = keys / "producer/allowed_clients"
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


# --- with keys ---------------------------------------------------------------------------------------------------


def test_a_stream_is_the_same_with_keys(keys: Path) -> None:
    with serving(computed(), keys=keys) as server, open_reader(server.address, keys=keys / "viewer") as reader:
        chunks = [event for event in one_by_one(reader.read(EVERYTHING)) if isinstance(event, Chunk)]
    assert [number for chunk in chunks for number in np.asarray(chunk.columns["id"])] == list(range(1000))


@contextmanager
def listener_between(url: str) -> Iterator[tuple[str, bytearray]]:
    """Where it can be reached instead, and what it hears of one connection."""
    heard = bytearray()
    host, port = url.removeprefix("tcp://").split(":")
    with socket.create_server(("127.0.0.1", 0)) as door:

        def listen() -> None:
            with door.accept()[0] as client, socket.create_connection((host, int(port))) as server:
                onward = {client: server, server: client}
                while True:
                    for side in select.select([client, server], [], [])[0]:
                        said = side.recv(1 << 16)
                        if not said:
                            return
                        heard.extend(said)
                        onward[side].sendall(said)

        listening = threading.Thread(target=listen)
        listening.start()
        yield f"tcp://127.0.0.1:{door.getsockname()[1]}", heard
        listening.join()


def test_no_word_crosses_the_wire_in_clear(keys: Path) -> None:
    def overheard(of: Path | None) -> bytes:
        with serving(computed(), keys=of) as server, listener_between(server.address) as (url, heard):
            reader = open_reader(url, keys=str(of / "viewer") if of else "")
            assert reader.describe(timeout_s=60).info.source == "numbers"
            reader.close()
        return bytes(heard)

    assert b"numbers" in overheard(None), "else nothing was heard"
    assert b"numbers" not in overheard(keys)


def test_whoever_may_only_read_reads_and_neither_commits_nor_drops(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(computed(), keys=keys) as server:
        with open_reader(server.address, keys=keys / "trainer") as trainer:
            incarnation = trainer.describe(timeout_s=60).info.incarnation
            trainer.commit("run", incarnation, {0: 16}, timeout_s=60)
        with open_reader(server.address, keys=keys / "viewer") as viewer:
            with pytest.raises(AccessDenied, match="commit needs the right to commit"):
                viewer.commit("run", incarnation, {0: 32}, timeout_s=60)
            with pytest.raises(AccessDenied, match="drop needs the right to commit"):
                viewer.drop("run", timeout_s=60)
            in_its_name = Subscription(split="", positions={0: 0}, group="run")
            with pytest.raises(AccessDenied, match="subscribe needs the right to commit"):
                list(one_by_one(viewer.read(in_its_name)))
            (group,) = viewer.describe(timeout_s=60).groups
            assert (group.committed, group.readers) == ({0: 16}, 0)
        assert server.service.refused == {"denied": 3}
    key = client_keys(keys / "viewer").own.public.decode()
    said = "commit needs the right to commit, which the producer's allowed_clients does not give " + key
    assert caplog.messages[0] == f"refused messages of peers (denied): 1 more, the last: {said!r}"


@pytest.fixture
def endless() -> Iterator[MemoryLog]:
    log = MemoryLog(ID, Dealing(4, 16))
    for number in range(100):
        log.append({"id": number})
    yield log
    log.close()


@pytest.mark.parametrize(
    ("pattern", "replacement", "group"),
    [("^trainer.*\n", "", None), ("^trainer.*\n", "", "run"), ("^trainer  read,commit", "trainer  read", "run")],
    ids=["a reader's key is taken off", "a group's key is taken off", "the right to commit is taken away"],
)
def test_a_session_ends_with_the_right_that_it_needs_and_no_other_does(
    keys: Path, endless: MemoryLog, caplog: pytest.LogCaptureFixture, pattern: str, replacement: str, group: str | None
) -> None:
    with serving(endless, keys=keys) as server:
        mine, another = (open_reader(server.address, keys=keys / name) for name in ("trainer", "viewer"))
        with mine as reader, another as other:
            asked = Subscription(split="", positions=dict.fromkeys(range(4), 0), group=group)
            events, others = one_by_one(reader.read(asked)), one_by_one(other.read(EVERYTHING))
            assert list(islice((each for each in events if isinstance(each, Chunk)), 1))
            assert list(islice((each for each in others if isinstance(each, Chunk)), 1))
            edit(keys, pattern, replacement)
            with pytest.raises(AccessDenied, match="has lost the right"):
                list(events)
            endless.append({"id": 100})
            assert any(100 in np.asarray(each.columns["id"]) for each in others if isinstance(each, Chunk))
            assert len(server.service.sessions) == 1
    assert caplog.messages.count("trainer has lost a right: its session was ended") == 1


def test_a_key_taken_off_the_list_opens_no_door_and_one_put_on_it_does(keys: Path) -> None:
    with serving(computed(), keys=keys) as server:
        edit(keys, "^viewer.*\n", "")
        shut_out = open_reader(server.address, keys=keys / "viewer")
        with shut_out, pytest.raises(AccessDenied, match="refuses this key"):
            shut_out.describe(timeout_s=60)
        make_keys(keys, ["late"], "read")
        with open_reader(server.address, keys=keys / "late") as reader:
            assert reader.describe(timeout_s=60).info.source == "numbers"


def test_a_key_that_replaces_another_under_its_name_leaves_the_old_one_nothing(keys: Path, endless: MemoryLog) -> None:
    with serving(endless, keys=keys) as server, open_reader(server.address, keys=keys / "viewer") as reader:
        events = one_by_one(reader.read(EVERYTHING))
        next(events)
        edit(keys, "^viewer  read .*", f"viewer  read {zmq.curve_keypair()[0].decode()}")
        with pytest.raises(AccessDenied, match="has lost the right"):
            list(events)
        wait_until(lambda: len(server.service.sessions) == 0, "the end of the session")
        with pytest.raises(AccessDenied, match="describe needs the right to read"):
            reader.describe(timeout_s=60)


def test_where_nobody_answers_for_the_list_nobody_is_let_in(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    """libzmq lets every key in where there is no ZAP handler, unless ZAP_ENFORCE_DOMAIN is set."""
    guarded = ServerSocket(ANY_PORT, keys=keys / "producer")
    try:
        assert guarded._gate is not None
        guarded._gate.stop()
        client = client_keys(keys / "trainer")
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.linger = 0
            peer.curve_publickey, peer.curve_secretkey = client.own.public, client.own.secret
            peer.curve_serverkey = producer_keys(keys / "producer").pair.public
            peer.connect(guarded.address)
            peer.send(b"open")
            wait_until(lambda: guarded.watch(0.0) or caplog.messages, "the refusal")
            assert guarded.receive() is None
        assert "a connection ended in its handshake" in caplog.text
    finally:
        guarded.close()


def test_nothing_is_left_open_with_keys(keys: Path) -> None:
    def opened() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = opened()
    with serving(computed(), keys=keys) as server, open_reader(server.address, keys=keys / "viewer") as reader:
        reader.describe(timeout_s=60)
    with serving(computed()) as taken, pytest.raises(UsageError, match="in use"):
        ServerSocket(taken.address, keys=keys / "producer")
    assert opened() == before


# --- without keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*", "tcp://eth0:5555", "tcp://192.0.2.1:5555", "tcp://:5555"]
)
def test_an_address_that_other_machines_reach_needs_keys_or_the_word(url: str) -> None:
    with pytest.raises(UsageError, match=r"can be reached from other machines: give it keys .*keygen.*--insecure"):
        ServerSocket(url)


def test_the_word_or_keys_are_enough(keys: Path) -> None:
    ServerSocket("tcp://0.0.0.0:*", insecure=True).close()
    ServerSocket("tcp://0.0.0.0:*", keys=keys / "producer").close()


@pytest.mark.parametrize("url", ["tcp://localhost:5555", "tcp://lo:5555", "tcp://[::1]:*"])
def test_other_names_of_this_machine_need_neither(url: str) -> None:
    """Not every release of libzmq can bind them."""
    server_socket._check_local(url)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:*", "tcp://127.0.0.2:*", "ipc://{}/socket"])
def test_what_only_this_machine_reaches_needs_neither(url: str, tmp_path: Path) -> None:
    ServerSocket(url.format(tmp_path)).close()
