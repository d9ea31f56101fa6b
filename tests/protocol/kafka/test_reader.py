"""A topic read as a stream, from real brokers: what its messages become, and what is said where they cannot be."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from protocol.chunk import Chunk, Ragged
from protocol.dealing import Dealing, Positions
from protocol.errors import (
    AccessDenied,
    BeyondLogEnd,
    PartitionsAdded,
    RecordsLost,
    StreamReplaced,
    StreamTimeout,
    UnknownMessage,
    UsageError,
)
from protocol.kafka.clients import Clients, settings_of
from protocol.kafka.cluster import Cluster
from protocol.kafka.events import KafkaEvents
from protocol.kafka.messages import open_messages
from protocol.kafka.reading import KafkaReading
from protocol.kafka.url import kafka_topic
from protocol.open_reader import open_reader
from protocol.reader import Reader
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.subscription import (
    Absent,
    Away,
    Ended,
    Event,
    Expired,
    Heard,
    ReaderSettings,
    Subscribed,
    Subscription,
    Undecodable,
)
from tests.faults.proxy import Proxy
from tests.protocol.kafka.brokers import (
    Further,
    MockCluster,
    committed,
    create_topic,
    free_port,
    produce,
    shipped_broker,
)


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker holds its answer back for half a second where there is nothing new; tests have many ends to wait for."""
    monkeypatch.setenv("HEADRACE_KAFKA_FETCH_WAIT_MAX_MS", "10")


def as_json(*records: Any) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def everything(url: str, positions: Positions | None = None, *, pass_lost: bool = True, **asked: Any) -> list[Event]:
    """All events up to the end, but for the signs of life."""
    with open_reader(f"{url}{'&' if '?' in url else '?'}until=end") as reader:
        start = reader.describe(timeout_s=30).log_start if positions is None else positions
        events = reader.read(Subscription(split="", positions=start, pass_lost=pass_lost, **asked))
        found = [event for together in events for event in together]
    return [event for event in found if isinstance(event, Chunk | Absent | Expired | Undecodable | Ended)]


def column(events: Sequence[Event], name: str, partition: int = 0) -> list[Any]:
    """The values of a field in one partition, texts as texts."""
    values: list[Any] = []
    for chunk in (event for event in events if isinstance(event, Chunk) and event.partition == partition):
        found = chunk.columns[name]
        if isinstance(found, Ragged):
            values += [found[row : row + 1].values.tobytes().decode() for row in range(len(found))]
        else:
            values += found.tolist()
    return values


# --- what a message is -------------------------------------------------------------------------------------------


def test_json_records_in_four_partitions_are_read_in_the_order_of_each(broker: str) -> None:
    create_topic(broker, "numbers", 4)
    produce(broker, "numbers", {p: as_json(*({"id": 10 * p + i, "x": [0.5, i]} for i in range(7))) for p in range(4)})
    url = f"kafka://{broker}/numbers?format=json"
    with open_reader(url) as reader:
        said = reader.describe(timeout_s=30)
    assert said.info.schema == Schema((Field("id", "int64", ()), Field("x", "float64", (2,))))
    assert (said.info.order, said.info.dealing.partitions) == ("arrival", 4)
    assert (said.log_start, said.log_end) == (dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 7))
    events = everything(url, {0: 3, 2: 0})
    assert (column(events, "id"), column(events, "id", 2)) == ([3, 4, 5, 6], list(range(20, 27)))
    assert column(events, "x", 2)[4] == [0.5, 4.0]
    assert events[-1] == Ended({0: 7, 2: 7})


def test_msgpack_maps_hold_arrays_texts_and_numbers(broker: str) -> None:
    create_topic(broker, "maps", 1)
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    told = {"dtype": "uint8", "shape": [2, 3], "data": array.tobytes()}
    messages = [msgpack.packb({"image": told, "words": "ab" * n, "label": n}) for n in range(3)]
    produce(broker, "maps", {0: messages})
    events = everything(f"kafka://{broker}/maps")
    assert column(events, "image") == [array.tolist()] * 3
    assert (column(events, "words"), column(events, "label")) == (["", "ab", "abab"], [0, 1, 2])


def test_raw_values_are_the_fields_one_after_the_other(broker: str) -> None:
    create_topic(broker, "raw", 1)
    dtype = np.dtype([("x", "<f4", (2,)), ("n", "<i8"), ("on", "?")])
    rows = np.array([((0.5, n), n * 7, n % 2 == 0) for n in range(5)], dtype)
    produce(broker, "raw", {0: [row.tobytes() for row in rows]})
    events = everything(f"kafka://{broker}/raw?format=raw&schema=x:float32[2],n:int64,on:bool")
    assert column(events, "x") == rows["x"].tolist()
    assert (column(events, "n"), column(events, "on")) == (rows["n"].tolist(), rows["on"].tolist())
    assert column(everything(f"kafka://{broker}/raw?format=raw&schema=all:uint8[17]"), "all")[1] == list(
        rows[1].tobytes()
    )


def test_headers_are_fields_and_one_that_is_missing_is_the_records_fault(broker: str) -> None:
    create_topic(broker, "headed", 1)
    produce(broker, "headed", {0: as_json({"x": 1})}, headers=[("source", b"a"), ("at", b"12")])
    produce(broker, "headed", {0: as_json({"x": 2})}, headers=[("source", b"b")])
    produce(broker, "headed", {0: as_json({"x": 3})}, headers=[("source", b"c"), ("at", b"soon")])
    events = everything(f"kafka://{broker}/headed?format=json&headers=source:text,at:int16")
    assert (column(events, "x"), column(events, "source"), column(events, "at")) == ([1], ["a"], [12])
    reasons = [event.reason for event in events if isinstance(event, Undecodable)]
    assert "offset 1 does not fit the stream: there is no header 'at'" in reasons[0]
    assert "offset 2 does not fit the stream: the header 'at' is no int16" in reasons[1]


def test_several_records_a_message_leave_offsets_that_hold_none(broker: str) -> None:
    create_topic(broker, "several", 1)
    lists = [[{"n": 10 * k + i} for i in range(count)] for k, count in enumerate((3, 1, 3, 0, 2))]
    produce(broker, "several", {0: [json.dumps(each).encode() for each in lists]})
    url = f"kafka://{broker}/several?format=json&records_per_message=3"
    events = everything(url)
    assert column(events, "n") == [0, 1, 2, 10, 20, 21, 22, 40, 41]
    chunks = [(event.offset, event.count) for event in events if isinstance(event, Chunk)]
    assert sum(count for _, count in chunks) == 9
    gaps = [event for event in events if isinstance(event, Absent)]
    assert gaps == [Absent(0, 4, 6), Absent(0, 9, 12), Absent(0, 14, 15)]
    for start in range(16):  # a position inside a message, also where it holds nothing more
        rest = everything(url, {0: start})
        offsets = [
            offset for offset, n in ((0, 0), (1, 1), (2, 2), (3, 10), (6, 20), (7, 21), (8, 22), (12, 40), (13, 41))
        ]
        assert len(column(rest, "n")) == sum(offset >= start for offset in offsets)
        assert rest[-1] == Ended({0: max(start, 15)})
    assert everything(url.replace("=3", "=2"))[0].reason.endswith(  # type: ignore[union-attr]
        "a message of 3 records, where records_per_message=2 is the most"
    )


class Halves:
    """A decoder: two records a message, none where the value is 'none'."""

    def __init__(self, scale: str = "1") -> None:
        self.schema, self._scale = Schema((Field("half", "float32", ()), Field("key", "uint8", (None,)))), int(scale)

    def records(self, value: bytes, key: bytes | None, headers: Mapping[str, bytes]) -> Iterator[Mapping[str, Any]]:
        if value != b"none":
            half = float(value) / 2 * self._scale
            yield from ({"half": half, "key": key or b"-"}, {"half": -half, "key": headers.get("k", b"")})


def test_a_decoder_of_ones_own_says_schema_and_records(broker: str) -> None:
    create_topic(broker, "decoded", 1)
    produce(broker, "decoded", {0: [b"1", b"none", b"what?", b"3"]}, headers=[("k", b"v")])
    path = f"{__name__}.Halves"
    events = everything(f"kafka://{broker}/decoded?decoder={path}&decoder.scale=2&records_per_message=2")
    assert column(events, "half") == [1.0, -1.0, 3.0, -3.0]
    assert column(events, "key") == ["-", "v", "-", "v"]
    (bad,) = (event for event in events if isinstance(event, Undecodable))
    assert bad.chunk.offset == 4
    assert f"offset 2, record 0 does not fit the stream: {path}: ValueError" in bad.reason
    with pytest.raises(UsageError, match="cannot be made"):
        everything(f"kafka://{broker}/decoded?decoder={path}&decoder.size=2")


def test_a_schema_that_changes_under_way_is_the_fault_of_those_records_alone(broker: str) -> None:
    create_topic(broker, "changes", 1)
    bad = (b'{"x": "one"}', b'{"y": 1}', b"[1]", b"{", b'{"x": null}', b"")
    produce(broker, "changes", {0: [*as_json({"x": 0}), *bad, *as_json({"x": 7})]})
    events = everything(f"kafka://{broker}/changes?format=json")
    assert column(events, "x") == [0, 7]
    kept = [event for event in events if isinstance(event, Undecodable)]
    assert [(each.chunk.offset, each.chunk.count) for each in kept] == [(n, 1) for n in range(1, 7)]
    assert kept[0].record == {"x": "one"}
    assert kept[3].record == {"value": b"{"}
    assert "the message at partition 0, offset 2 does not fit the stream: field 'x' is missing" in kept[1].reason


def test_tombstones_hold_no_record(broker: str) -> None:
    create_topic(broker, "stones", 1)
    produce(broker, "stones", {0: [None, *as_json({"x": 1}), None, None, *as_json({"x": 2})]})
    events = everything(f"kafka://{broker}/stones?format=json")
    assert column(events, "x") == [1, 2]
    assert [event for event in events if isinstance(event, Absent)] == [
        Absent(0, 0, 1),
        Absent(0, 2, 3),
        Absent(0, 3, 4),
    ]


# --- what is lost, what is away, what is another ---------------------------------------------------------------------


def topic_of(mock: MockCluster, name: str, records: int, partitions: int = 1) -> str:
    """A topic of records with an id, and its URL."""
    mock.create(name, partitions)
    produce(mock.brokers, name, {p: as_json(*({"id": n} for n in range(records))) for p in range(partitions)})
    return f"kafka://{mock.brokers}/{name}?format=json"


def test_what_has_expired_is_told_by_partition_and_offset(mock: MockCluster) -> None:
    url = topic_of(mock, "expired", 20, partitions=3)
    mock.expire("expired", 1, 7)
    events = everything(url, dict.fromkeys(range(3), 2))
    (expired,) = (event for event in events if isinstance(event, Expired))
    assert [each[:3] for each in expired.lost] == [(1, 2, 7)]
    assert expired.log_start[1] == 7
    assert [len(column(events, "id", p)) for p in range(3)] == [18, 13, 18]
    with pytest.raises(RecordsLost, match="partition 1 lost 5 records: offsets 2 to 6"):
        everything(url, dict.fromkeys(range(3), 2), pass_lost=False)


def test_what_expires_behind_a_gap_that_no_message_has_shown_is_told(mock: MockCluster) -> None:
    topic = kafka_topic(topic_of(mock, "gap", 30) + "&schema=id:int64")
    mock.expire("gap", 0, 20)
    clients, messages = Clients(topic), open_messages(topic, iter(()))
    cluster = Cluster(topic, clients)
    events = KafkaEvents({0: 9}, messages, per_message=1, most_rows=64, gaps_lost=False)
    asked = Subscription(split="", positions={0: 9}, pass_lost=True)
    info = StreamInfo(incarnation="i", schema=messages.schema, dealing=Dealing(1, 64), order="arrival")
    found: list[Event] = []
    until_s = time.monotonic() + 20
    told = {"bootstrap.servers": mock.brokers, "group.id": "g", "auto.offset.reset": "error", "log_level": 0}
    with closing(Further({**told, "enable.partition.eof": True, "enable.auto.offset.store": False})) as consumer:
        reading = KafkaReading(topic, clients, cluster, consumer, events)
        facts = cluster.facts(timeout_s=30)
        for together in reading.events(facts, info, asked, away_after_s=4, idle_s=0.1):
            found += together
            if events.positions == {0: 30}:
                break
            assert time.monotonic() < until_s, "the partition is silent"
    (expired,) = (event for event in found if isinstance(event, Expired))
    assert [each[:3] for each in expired.lost] == [(0, 9, 20)]
    assert column(found, "id") == list(range(20, 30))


def test_a_position_that_the_log_has_not_reached_is_an_error(mock: MockCluster) -> None:
    with pytest.raises(BeyondLogEnd, match="ends at 3, before the position 9"):
        everything(topic_of(mock, "short", 3), {0: 9})


def read_until(reader: Reader, asked: Subscription, done: Callable[[list[Event]], bool]) -> list[Event]:
    """Events until what came is enough."""
    found: list[Event] = []
    until_s = time.monotonic() + 60
    for events in reader.read(asked, idle_s=0.1):
        found += events
        if done(found):
            return found
        assert time.monotonic() < until_s, found
    return found


def test_brokers_that_go_down_and_come_back_lose_and_double_nothing(mock: MockCluster) -> None:
    url = topic_of(mock, "outage", 50, partitions=3)
    seen: list[tuple[int, int]] = []
    state = "begun"
    with open_reader(url, ReaderSettings(away_after_s=1.2)) as reader:
        for events in reader.read(Subscription(split="", positions=dict.fromkeys(range(3), 0)), idle_s=0.1):
            seen += [(e.partition, o) for e in events if isinstance(e, Chunk) for o in range(e.offset, e.end)]
            if state == "begun" and len(seen) == 150:
                for each in range(1, 4):
                    mock.take_down(each)
                state = "down"
            elif state == "down" and any(isinstance(event, Away) for event in events):
                for each in range(1, 4):
                    mock.bring_up(each)
                produce(mock.brokers, "outage", {p: as_json({"id": 50}) for p in range(3)})
                state = "up"
            elif state == "up" and any(isinstance(event, Subscribed) for event in events):
                state = "back"
            if state == "back" and len(seen) == 153:
                break
    assert sorted(seen) == [(p, o) for p in range(3) for o in range(51)]


def test_another_topic_of_the_same_name_is_another_stream(mock: MockCluster) -> None:
    url = topic_of(mock, "again", 3)
    with open_reader(url) as reader:
        first = reader.describe(timeout_s=30).info.incarnation
        asked = Subscription(split="", positions={0: 0}, incarnation=first)
        events = reader.read(asked, idle_s=0.1)
        assert isinstance(next(events)[0], Subscribed)
        mock.delete("again")
        mock.create("again", 1)
        with pytest.raises(StreamReplaced):
            list(events)
    with open_reader(url) as reader, pytest.raises(UnknownMessage, match="another topic now"):
        reader.commit("g", first, {0: 1}, timeout_s=30)


def test_another_topic_that_is_shorter_is_another_stream_and_no_log_that_is_cut(mock: MockCluster) -> None:
    topic = kafka_topic(topic_of(mock, "shorter", 9) + "&schema=id:int64")
    clients, messages = Clients(topic), open_messages(topic, iter(()))
    cluster = Cluster(topic, clients)
    facts = cluster.facts(timeout_s=30)
    info = StreamInfo(
        incarnation=f"kafka-{facts.identity}-1", schema=messages.schema, dealing=Dealing(1, 64), order="arrival"
    )
    events = KafkaEvents({0: 9}, messages, per_message=1, most_rows=64, gaps_lost=False)
    cluster.look(time.monotonic())  # what this will answer is of before
    mock.delete("shorter")
    topic_of(mock, "shorter", 3)
    with closing(clients.consumer(None, window_bytes=0)) as consumer:
        reading = KafkaReading(topic, clients, cluster, consumer, events)
        with pytest.raises(StreamReplaced):
            list(reading.events(facts, info, Subscription(split="", positions={0: 9}), away_after_s=4, idle_s=0.1))


def test_answers_that_take_longer_than_a_sign_of_life_are_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with Proxy(f"tcp://127.0.0.1:{port}") as link:
        address = link.url.removeprefix("tcp://")
        with shipped_broker(tmp_path, port=port, advertised=address):
            create_topic(address, "slow", 1)
            produce(address, "slow", {0: as_json({"x": 1})})
            link.delay_s = 0.02
            with open_reader(f"kafka://{address}/slow?format=json") as reader:
                asked = Subscription(split="", positions={0: 0})
                found: list[list[Event]] = []
                for events in reader.read(asked, idle_s=0.01):
                    found.append(events)
                    if any(isinstance(event, Chunk) for event in events):
                        break
                    assert len(found) < 6000
    assert found[0] == []  # a sign of life


def test_whoever_reads_no_more_waits_for_no_broker() -> None:
    with open_reader(f"kafka://127.0.0.1:{free_port()}/t?format=raw") as reader:
        events = reader.read(Subscription(split="", positions={0: 0}), idle_s=0.01)
        assert next(events) == []
        began_s = time.monotonic()
        events.close()  # type: ignore[attr-defined]  # it is a generator
        assert time.monotonic() - began_s < 5
    assert not [each for each in threading.enumerate() if each.name == "headrace-kafka"]


def test_whoever_knows_of_fewer_partitions_is_told(mock: MockCluster) -> None:
    url = topic_of(mock, "grown", 3, partitions=5)
    with open_reader(url) as reader, pytest.raises(PartitionsAdded) as grown:
        list(reader.read(Subscription(split="", positions={0: 0}, partitions=4)))
    assert (grown.value.before, grown.value.now) == (4, 5)


def test_the_end_of_the_log_and_what_was_waited_for_are_said(mock: MockCluster) -> None:
    url = topic_of(mock, "signs", 5)
    with open_reader(url) as reader:
        asked = Subscription(split="", positions={0: 0})
        found = read_until(reader, asked, lambda seen: any(isinstance(event, Heard) for event in seen))
    assert Heard({0: 5}, save_soon=False) in found


def test_a_commit_is_seen_by_kafkas_own_tools_and_says_messages(broker: str) -> None:
    create_topic(broker, "commits", 2)
    produce(broker, "commits", {p: as_json(*([{"n": n}, {"n": -n}] for n in range(4))) for p in range(2)})
    url = f"kafka://{broker}/commits?format=json&records_per_message=2"
    with open_reader(f"{url}&groups=run-1,run-2") as reader:
        info = reader.describe(timeout_s=30).info
        reader.commit("run-1", info.incarnation, {0: 5, 1: 8}, timeout_s=30)
        assert committed(broker, "commits", "run-1", 2) == {0: 2, 1: 4}  # the message in which record 5 lies is due
        groups = {group.name: group.committed for group in reader.describe(timeout_s=30).groups}
        assert groups == {"run-1": {0: 4, 1: 8}, "run-2": {0: 0, 1: 0}}
        assert reader.drop("run-1", timeout_s=30)


def test_a_moment_lies_at_an_offset(broker: str) -> None:
    create_topic(broker, "moments", 2)
    produce(broker, "moments", {0: as_json({"x": 1}, {"x": 2})})
    between_ns = time.time_ns() + 2_000_000
    while time.time_ns() < between_ns + 2_000_000:
        time.sleep(0.001)
    produce(broker, "moments", {0: as_json({"x": 3})})
    with open_reader(f"kafka://{broker}/moments?format=json") as reader:
        assert reader.describe(time_ns=between_ns, timeout_s=30).at == {0: 2, 1: 0}


# --- mistakes ----------------------------------------------------------------------------------------------------


def test_brokers_that_nobody_is_are_one_line(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with open_reader(f"kafka://127.0.0.1:{free_port()}/t?format=raw") as reader, pytest.raises(StreamTimeout) as silent:
        reader.describe(timeout_s=0.5)
    assert "no Kafka broker answered at 127.0.0.1" in str(silent.value)
    assert "Connection refused" in str(silent.value)
    assert time.monotonic() - began_s < 5


def test_a_topic_that_is_not_there_is_one_line(broker: str) -> None:
    with open_reader(f"kafka://{broker}/nowhere") as reader, pytest.raises(UsageError, match="no topic 'nowhere' at"):
        reader.describe(timeout_s=30)


def test_a_first_message_that_shows_no_schema_is_named(broker: str) -> None:
    create_topic(broker, "pictures", 1)
    produce(broker, "pictures", {0: [b"\xff\xd8\xff\xe0"]})
    with open_reader(f"kafka://{broker}/pictures?format=json") as reader, pytest.raises(UsageError) as refused:
        reader.describe(timeout_s=30)
    assert "the first message (partition 0, offset 0)" in str(refused.value)
    assert "declare it (schema=), or say what it is (format=)" in str(refused.value)


def test_an_empty_topic_has_a_declared_schema_or_is_waited_for(broker: str) -> None:
    create_topic(broker, "empty", 2)
    with (
        open_reader(f"kafka://{broker}/empty?format=json") as reader,
        pytest.raises(StreamTimeout, match="has no message"),
    ):
        reader.describe(timeout_s=0.5)
    assert everything(f"kafka://{broker}/empty?format=json&schema=x:int64") == [Ended({0: 0, 1: 0})]


def test_settings_are_passed_through_and_secrets_never_shown(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text("security.protocol: sasl_plaintext\nsasl.mechanism: PLAIN\nsasl.username: me\n")
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_PASSWORD", "hush-hush")
    url = f"kafka://{broker}/t?format=raw&settings={file}"
    with open_reader(url) as reader, pytest.raises(AccessDenied, match="SASL PLAIN mechanism") as refused:
        reader.describe(timeout_s=30)
    assert "hush-hush" not in f"{refused.value} {refused.value.__cause__!r} {reader!r}"
    file.write_text("security.protocol: hush-hush\n")
    with pytest.raises(UsageError, match="settings for Kafka are refused") as wrong:
        open_reader(url)
    assert "hush-hush" not in str(wrong.value)
    for text, said in (
        ("group.id: mine", "'group.id', which headrace sets itself"),
        ("no.such.setting: 1", "No such configuration property"),
        ("[1, 2]", "no list of names and values"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=said):
            open_reader(url)
    file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        open_reader(url)


@pytest.mark.parametrize(
    "password", ["!hush", "*hush", "%hush", '"hush', "@hush", "[hush", "hush: x", "&hush", "hush\n%hush x: : y"]
)
def test_a_file_of_settings_that_is_wrong_is_not_repeated(password: str, tmp_path: Path) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text(f"sasl.username: me\nsasl.password: {password}\n")
    with pytest.raises(UsageError, match=r"kafka\.yaml") as refused:
        open_reader(f"kafka://127.0.0.1:1/t?format=raw&settings={file}")
    assert "hush" not in "".join(traceback.format_exception(refused.value))
    assert "\n" not in str(refused.value)


def test_a_setting_is_the_text_that_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "kafka.yaml"
    file.write_text("sasl.password: 0123456\nsocket.keepalive.enable: False\nssl.ca.location: 1_0\nretries: 3\n")
    found = settings_of(kafka_topic(f"kafka://127.0.0.1:1/t?format=raw&settings={file}"))
    assert [found[name] for name in ("sasl.password", "socket.keepalive.enable", "ssl.ca.location", "retries")] == [
        "0123456",
        "False",
        "1_0",
        "3",
    ]
    file.write_text("socket.keepalive.enable: False\nretries: 3\n")
    with open_reader(f"kafka://127.0.0.1:1/t?format=raw&settings={file}") as reader:  # librdkafka reads them
        assert reader is not None
