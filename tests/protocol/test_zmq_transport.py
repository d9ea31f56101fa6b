import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from producer.computed_log import split_log
from producer.memory_log import MemoryLog
from producer.service import ServiceSettings
from protocol.chunk import Chunk
from protocol.codec import MAX_REQUEST_BYTES, VERSION, decode_reply, encode
from protocol.dealing import Dealing
from protocol.errors import OutOfRange, StreamTimeout, UnknownMessage, UsageError, VersionMismatch
from protocol.messages import Bye, Describe, Refusal, Subscribe
from protocol.open_reader import open_reader
from protocol.reader import Reader, read_split
from protocol.server_socket import MAX_REQUEST_FRAME_BYTES, ServerSocket
from protocol.subscription import Away, Ended, Progress, ReaderSettings, Subscribed, Subscription, Waited
from tests.protocol.serving import ANY_PORT, ID, computed, numbered, one_by_one, serving

#: Away is seen soon, and credit is always short.
QUICK = ReaderSettings(window_bytes=1, sign_of_life_s=0.1, away_after_s=0.4, retry_first_s=0.05, retry_most_s=0.1)


def give_up(waited_s: float) -> None:
    assert waited_s >= 1.0
    raise KeyboardInterrupt


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def everywhere(partitions: int = 4, **asked: Any) -> Subscription:
    return Subscription(split="", positions=dict.fromkeys(range(partitions), 0), **asked)


def ids(chunk: Chunk) -> list[int]:
    return list(np.asarray(chunk.columns["id"]).tolist())


def read_all(reader: Reader, asked: Subscription) -> list[int]:
    """The ids of everything, in the order in which it came, up to the end."""
    return [each for event in one_by_one(reader.read(asked)) if isinstance(event, Chunk) for each in ids(event)]


@contextmanager
def dealer(url: str) -> Iterator["zmq.Socket[bytes]"]:
    """A peer of another make."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(url)
        yield peer


def answer(peer: "zmq.Socket[bytes]", frames: list[bytes]) -> Refusal:
    peer.send_multipart(frames)
    assert peer.poll(5000), "no answer"
    reply = decode_reply(peer.recv_multipart())
    assert isinstance(reply, Refusal)
    return reply


@contextmanager
def reading_beside(url: str) -> Iterator[Callable[[], None]]:
    """An honest reader that is in the midst of the stream meanwhile, and gets all of it; ends at the call."""
    with open_reader(url, ReaderSettings(window_bytes=1)) as reader:
        events = one_by_one(reader.read(everywhere()))
        found = [each for event in islice((e for e in events if isinstance(e, Chunk)), 3) for each in ids(event)]

        def rest() -> None:
            for event in events:
                if isinstance(event, Chunk):
                    found.extend(ids(event))
            assert found == list(range(1000))

        yield rest


# --- what a stranger may send --------------------------------------------------------------------------------------

CREDIT = {"v": VERSION, "type": "credit", "session": 1, "until": [], "trained": [], "durable": False}
HOSTILE = {
    "garbage": ([os.urandom(100)], "malformed"),
    "an empty frame": ([b""], "malformed"),
    "half a message": ([msgpack.packb(CREDIT)[:-5]], "malformed"),
    "too large a header": ([bytes(MAX_REQUEST_BYTES + 1)], "oversized"),
    "1000 frames": ([msgpack.packb(CREDIT), *[b"x"] * 999], "malformed"),
    "1000 frames of a chunk": ([msgpack.packb({**CREDIT, "type": "chunk"}), *[b"x"] * 999], "malformed"),
    "an unknown type": ([msgpack.packb({**CREDIT, "type": "fetch"})], "unknown"),
    "another version": ([msgpack.packb({**CREDIT, "v": 2})], "version"),
    "what a server says": ([msgpack.packb({"v": 1, "type": "end", "session": 1, "final": []})], "unknown"),
    "a negative number": ([msgpack.packb({**CREDIT, "session": -1})], "range"),
    "no session": ([msgpack.packb(CREDIT)], "no_session"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_obeyed_is_refused_by_its_kind_and_an_honest_reader_is_undisturbed(name: str) -> None:
    frames, code = HOSTILE[name]
    with serving(computed()) as server, reading_beside(server.address) as finish, dealer(server.address) as peer:
        for _ in range(3):
            assert answer(peer, frames).code == code
        finish()
        assert server.service.refused == ({} if code == "no_session" else {code: 3})


def test_a_refusal_of_another_version_names_both() -> None:
    with serving(computed()) as server, dealer(server.address) as peer:
        text = answer(peer, [msgpack.packb({**CREDIT, "v": 7})]).text
    assert "version 1" in text
    assert "7" in text


def test_a_frame_that_is_not_even_taken_in_ends_the_connection_and_nothing_else() -> None:
    with serving(computed()) as server, reading_beside(server.address) as finish, dealer(server.address) as peer:
        peer.send(bytes(MAX_REQUEST_FRAME_BYTES + 1))
        assert not peer.poll(200)
        finish()
        assert answer(peer, [b""]).code == "malformed", "it may connect again"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\0\0\0\0\0\0\1\x7f\3", os.urandom(2000)])
def test_what_does_not_speak_zeromq_disturbs_nobody(sent: bytes) -> None:
    with serving(computed()) as server, reading_beside(server.address) as finish:
        host, port = server.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(sent)
            finish()


def test_a_flood_of_one_does_not_starve_another() -> None:
    stop = threading.Event()
    with serving(computed(20_000)) as server:

        def flood() -> None:
            with dealer(server.address) as peer:
                while not stop.is_set():
                    with contextlib.suppress(zmq.Again):
                        for _ in range(200):
                            peer.send(b"flood", zmq.DONTWAIT)
                    time.sleep(0.001)  # one interpreter runs all three sides

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            with open_reader(server.address) as reader:
                assert read_all(reader, everywhere()) == list(range(20_000))
        finally:
            stop.set()
            flooding.join()
        assert server.service.refused["malformed"] > 0


def test_replies_of_another_version_are_an_error_that_names_both() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        other.linger = 0
        port = other.bind_to_random_port("tcp://127.0.0.1")

        def reply() -> None:
            peer, _ = other.recv_multipart()
            other.send_multipart([peer, msgpack.packb({"v": 2, "type": "refusal"})])

        replying = threading.Thread(target=reply)
        replying.start()
        with open_reader(f"tcp://127.0.0.1:{port}") as reader, pytest.raises(VersionMismatch, match=r"version 1 .* 2"):
            reader.describe(timeout_s=5)
        replying.join()


# --- where a server listens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_an_address_in_use_is_the_users_mistake_and_the_first_server_goes_on(scheme: str, tmp_path: Path) -> None:
    with serving(computed(), url=ANY_PORT if scheme == "tcp" else f"ipc://{tmp_path}/socket") as server:
        with pytest.raises(UsageError, match="is in use: stop the other producer, or give another --bind"):
            ServerSocket(server.address)
        with open_reader(server.address) as reader:
            assert read_all(reader, everywhere()) == list(range(1000))


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("tcp://127.0.0.1:99999", "at most 65535"),
        ("tcp://192.0.2.1:5555", "HOST:PORT of this machine"),
        ("tcp://127.0.0.1", "use tcp://HOST:PORT"),
        ("ipc:///no/such/folder/socket", "ipc://PATH"),
        ("ipc:///" + "x" * 300, "ipc://PATH"),
        ("smoke://signals", "use tcp://HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_is_said_in_one_line(url: str, mend: str) -> None:
    with pytest.raises(UsageError, match=mend) as error:
        ServerSocket(url, insecure=True)
    assert "\n" not in str(error.value)


def test_a_socket_file_is_gone_afterwards_and_one_that_was_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.exists()
    with serving(computed(), url=f"ipc://{path}") as server, open_reader(server.address) as reader:
        assert path.is_socket()
        assert reader.describe(timeout_s=5).log_end == {0: 256, 1: 256, 2: 248, 3: 240}
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_open() -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    with serving(computed()) as server, open_reader(server.address) as reader:
        reader.describe(timeout_s=5)
        assert opened() > before
    assert opened() == before


# --- questions ----------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_waited_for_as_long_as_was_said() -> None:
    waited: list[float] = []
    with open_reader("tcp://127.0.0.1:9") as reader:
        started_s = time.monotonic()
        with pytest.raises(StreamTimeout, match=r"no producer answered at tcp://127.0.0.1:9 within 0.3 s"):
            reader.describe(timeout_s=0.3, on_wait=waited.append)
        assert 0.3 <= time.monotonic() - started_s < 0.9
        with pytest.raises(KeyboardInterrupt):
            reader.describe(on_wait=give_up)


def test_a_reader_may_be_there_before_its_server(tmp_path: Path) -> None:
    url = f"ipc://{tmp_path}/socket"
    with open_reader(url) as reader:
        time.sleep(0.3)
        with serving(computed(), url=url):
            assert reader.describe(timeout_s=10).info.source == "numbers"


def test_a_commit_is_answered_and_known() -> None:
    with serving(computed()) as server, open_reader(server.address) as reader:
        incarnation = reader.describe(timeout_s=5).info.incarnation
        reader.commit("run", incarnation, {0: 16, 1: 32}, timeout_s=5)
        (group,) = reader.describe(timeout_s=5).groups
        assert (group.name, group.durable, group.committed) == ("run", True, {0: 16, 1: 32})
        assert reader.drop("run", timeout_s=5)
        assert not reader.drop("run", timeout_s=5)
        assert reader.describe(timeout_s=5).groups == ()


def test_what_is_refused_is_an_error_of_its_kind() -> None:
    with serving(computed()) as server, open_reader(server.address) as reader:
        with pytest.raises(UnknownMessage, match="no split 'sound'"):
            reader.describe("sound", timeout_s=5)
        with pytest.raises(OutOfRange, match="offset 999"):
            reader.commit("run", reader.describe(timeout_s=5).info.incarnation, {0: 999}, timeout_s=5)
        with pytest.raises(OutOfRange, match="partition 7"):
            list(one_by_one(reader.read(Subscription(split="", positions={7: 0}))))


def test_splits_are_fetched_whole_and_in_order() -> None:
    splits = {"validation": split_log(numbered(300), stripe=16), "test": split_log(numbered(7), stripe=16)}
    with serving(computed(), splits=splits) as server, open_reader(server.address) as reader:
        for name, size in (("validation", 300), ("test", 7)):
            description = reader.describe(name, timeout_s=5)
            assert description.log_end == {0: size}
            assert [each for chunk in read_split(reader, name, description) for each in ids(chunk)] == list(range(size))


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_readers_share_the_partitions_and_get_everything(scheme: str, tmp_path: Path) -> None:
    with serving(computed(), url=ANY_PORT if scheme == "tcp" else f"ipc://{tmp_path}/socket") as server:
        found: list[int] = []
        for reader in range(3):
            owned = Dealing(4, 16).owned(reader, 3)
            with open_reader(server.address) as connection:
                asked = Subscription(split="", positions=dict.fromkeys(owned, 0))
                mine = read_all(connection, asked)
                assert mine == sorted(mine)
                found += mine
        assert sorted(found) == list(range(1000))
        wait_until(lambda: len(server.service.sessions) == 0)


def test_a_slow_reader_is_sent_no_more_than_its_window() -> None:
    settings = ReaderSettings(window_bytes=100 * 8)
    with serving(computed(20_000)) as server, open_reader(server.address, settings) as reader:
        events = one_by_one(reader.read(everywhere()))
        assert any(isinstance(event, Chunk) for event in events)
        time.sleep(0.3)
        assert server.service.sent == 100


def test_a_record_that_was_just_appended_comes_at_once() -> None:
    log = MemoryLog(ID, Dealing(1, 16))
    with serving(log, settings=ServiceSettings(sign_of_life_s=60.0)) as server, open_reader(server.address) as reader:
        log.on_append = server.wake
        events = one_by_one(reader.read(everywhere(1)))
        assert isinstance(next(events), Subscribed)
        ages_s = []
        for number in range(20):
            time.sleep(0.01)
            log.append({"id": number})
            sent_s = time.monotonic()
            (chunk,) = islice((event for event in events if isinstance(event, Chunk)), 1)
            ages_s.append(time.monotonic() - sent_s)
            assert ids(chunk) == [number]
        assert sorted(ages_s)[10] < 0.1, "half of them would be a minute old if nobody had woken the server"
        log.end()
        ended_s = time.monotonic()
        assert isinstance(list(events)[-1], Ended)
        assert time.monotonic() - ended_s < 0.4, "nor would the end wait for the next sign of life"


def test_a_silent_stream_gives_empty_events() -> None:
    log = MemoryLog(ID, Dealing(1, 16))
    with serving(log, settings=ServiceSettings(sign_of_life_s=60.0)) as server, open_reader(server.address) as reader:
        started_s = time.monotonic()
        events = [event for event in islice(one_by_one(reader.read(everywhere(1), idle_s=0.1)), 6) if event is None]
        assert len(events) >= 3
        assert 0.3 <= time.monotonic() - started_s < 2


def test_a_reader_says_what_it_waited_for_and_its_time_is_accounted_for() -> None:
    log = MemoryLog(ID, Dealing(1, 4))
    with serving(log) as server, open_reader(server.address) as reader:
        began_s = time.monotonic()
        events = one_by_one(reader.read(Subscription(split="", positions={0: 0})))
        waited = list(islice((event for event in events if isinstance(event, Waited)), 2))
        all_s = time.monotonic() - began_s
    source_s, wire_s = sum(each.source_s for each in waited), sum(each.wire_s for each in waited)
    assert source_s > wire_s, "nothing was on its way"
    assert source_s + wire_s + sum(each.reader_s for each in waited) <= all_s


def test_nothing_follows_the_end_even_where_it_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.waits.SAY_EVERY_S", 0.0)  # whatever comes, what was waited for is due
    log = MemoryLog(ID, Dealing(1, 4))
    with serving(log) as server, open_reader(server.address) as reader:
        events = reader.read(Subscription(split="", positions={0: 0}))
        next(events)
        log.end()
        server.wake()
        *_, last = events
    assert isinstance(last[0], Waited)
    assert isinstance(last[-1], Ended)


def test_a_producer_that_is_not_there_is_what_a_reader_waits_for(tmp_path: Path) -> None:
    with open_reader(f"ipc://{tmp_path}/nobody") as reader:
        events = one_by_one(reader.read(Subscription(split="", positions={0: 0})))
        waited = next(event for event in events if isinstance(event, Waited))
    assert waited.source_s > 0
    assert waited.wire_s == 0


def test_leaving_early_tells_the_server_so() -> None:
    with serving(computed()) as server, open_reader(server.address) as reader:
        events = one_by_one(reader.read(everywhere(group="run")))
        next(events)
        assert len(server.service.sessions) == 1
        events.close()  # it is a generator
        wait_until(lambda: len(server.service.sessions) == 0)
        assert len(server.service.groups) == 1


def test_a_restarted_server_is_noticed_and_nothing_comes_twice_or_never(tmp_path: Path) -> None:
    url = f"ipc://{tmp_path}/socket"
    found: list[int] = []
    with open_reader(url, QUICK) as reader:
        events = one_by_one(reader.read(everywhere()))
        for life in range(1, 4):
            with serving(computed(), url=url):
                while len(found) < 250 * life:
                    event = next(events)
                    found += ids(event) if isinstance(event, Chunk) else []
            for event in events:
                found += ids(event) if isinstance(event, Chunk) else []
                if isinstance(event, Away):
                    break
        with serving(computed(), url=url):
            found += [each for event in events if isinstance(event, Chunk) for each in ids(event)]
    assert found == list(range(1000))


def test_what_was_trained_is_reported_without_being_asked() -> None:
    progress = Progress()
    with serving(computed()) as server, open_reader(server.address, QUICK) as reader:
        events = one_by_one(reader.read(everywhere(group="run"), progress=lambda: progress, idle_s=0.05))
        for event in events:
            if isinstance(event, Chunk) and event.partition == 3:
                break
        progress = Progress(trained={0: 16, 1: 16, 2: 3, 3: 0}, durable=True)

        def known() -> bool:
            next(events, None)
            return server.service.group_states(0.0)[0].trained == progress.trained

        wait_until(known)
        assert server.service.group_states(0.0)[0].durable


def test_a_group_that_expires_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    settings = ServiceSettings(group_time_to_live_s=0.1)
    with serving(computed(), settings=settings) as server, caplog.at_level(logging.WARNING):
        with open_reader(server.address) as reader:
            next(one_by_one(reader.read(everywhere(group="silent run"))))
        wait_until(lambda: "silent run" in caplog.text)


def test_stopping_ends_a_sleeping_server_at_once() -> None:
    started_s = time.monotonic()
    with serving(computed(), settings=ServiceSettings(sign_of_life_s=60.0)):
        time.sleep(0.1)
    assert time.monotonic() - started_s < 0.8


def test_the_oldest_of_many_subscriptions_of_a_peer_matters_no_more() -> None:
    with serving(computed()) as server, dealer(server.address) as peer:
        for session in range(1, 50):
            request = Subscribe(
                session=session,
                split="",
                group=None,
                durable=False,
                incarnation=None,
                positions={0: 0},
                trained={},
                committed=None,
            )
            peer.send_multipart(encode(request))
        peer.send_multipart(encode(Bye(session=1)))
        peer.send_multipart(encode(Describe(request=7, split="")))
        while not peer.poll(5000) or decode_reply(peer.recv_multipart()).__dict__.get("request") != 7:
            if not peer.poll(0):
                peer.send_multipart(encode(Describe(request=7, split="")))  # a link may lose an answer
        assert len(server.service.sessions) == 1
