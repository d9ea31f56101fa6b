"""A stream written into a topic: each record once, in the order of its partition, over any number of kills."""

import os
import random
import re
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer import kafka_sink
from producer.append_log import LogSettings
from producer.kafka_sink import HEADER, KafkaSink
from producer.memory_log import MemoryLog
from producer.open_log import open_log
from producer.settings import ProducerSettings
from protocol.chunk import Chunk, concatenate
from protocol.dealing import Dealing, Positions
from protocol.errors import AccessDenied, StreamTimeout, UsageError
from protocol.log import KeptGroup
from protocol.open_reader import open_reader
from protocol.schema import Field, Schema
from protocol.subscription import Subscription
from tests.protocol.kafka.brokers import MockCluster, create_topic, produce
from tests.protocol.serving import computed
from tests.trainer.lives import Started, end, tail, wait, wait_until

RAW = "format=raw&schema=id:int64,payload:uint8[32],label:int64"
#: The kind of question in which a consumer asks for messages.
FETCH = 1
#: What a life says once brokers have confirmed some records.
WRITTEN = re.compile(r"[1-9][\d,]* records of this life")


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCluster]:
    cluster = MockCluster(1)
    yield cluster
    cluster.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """For topics that nobody else can still be writing."""
    monkeypatch.setattr(kafka_sink, "SETTLE_S", 0.01)
    monkeypatch.setenv("HEADRACE_KAFKA_FETCH_WAIT_MAX_MS", "20")  # the end of a partition is told that much sooner


def written(mock: MockCluster, name: str) -> tuple[str, Positions]:
    """A topic that a sink has written 100 records into, and how far it came."""
    log = computed(100)
    mock.create(name, log.info.dealing.partitions)
    sink = KafkaSink(f"kafka://{mock.brokers}/{name}", log, print)
    assert sink.write(lambda: False, lambda _: None)
    return f"kafka://{mock.brokers}/{name}", sink.positions


def topic(url: str) -> tuple[Schema, Positions, dict[int, list[Any]]]:
    """Schema and log end of a topic, and the ids of each partition in order."""
    with open_reader(f"{url}&until=end") as reader:
        said = reader.describe(timeout_s=30)
        chunks: dict[int, list[Chunk]] = {partition: [] for partition in said.log_start}
        final: Positions = {}
        for events in reader.read(Subscription(split="", positions=said.log_start)):
            for event in events:
                if isinstance(event, Chunk):
                    chunks[event.partition].append(event)
                final |= getattr(event, "final", {})
    field = said.info.schema["id"]
    ids = {p: np.asarray(concatenate(field, [c.columns["id"] for c in found])).tolist() for p, found in chunks.items()}
    return said.info.schema, final, ids


def _wrote(life: Started) -> bool:
    return WRITTEN.search(life.log.read_text()) is not None


def expected(log: Any) -> dict[int, list[Any]]:
    """The ids of each partition of a stream that has ended."""
    found: dict[int, list[Any]] = {}
    for partition, last in log.log_end().items():
        found[partition] = []
        while (at := len(found[partition])) < last:
            found[partition] += np.asarray(log.read(partition, at, last - at).columns["id"]).tolist()
    return found


@pytest.mark.parametrize(
    "options",
    [pytest.param("format=msgpack", marks=pytest.mark.faults), "format=msgpack&records_per_message=7"],
)
def test_a_stream_that_was_written_is_read_as_it_was(broker: str, options: str) -> None:
    name = f"as-it-was-{len(options)}"
    log, said = computed(500), list[str]()
    sink = KafkaSink(f"kafka://{broker}/{name}?{options}", log, said.append)
    assert sink.write(lambda: False, lambda _: None)
    assert said == [f"kafka://{broker}/{name} was made, with {log.info.dealing.partitions} partitions"]
    schema, _, ids = topic(f"kafka://{broker}/{name}?{options}")
    assert [field.name for field in schema.fields] == [field.name for field in log.info.schema.fields]
    assert (ids, sink.confirmed) == (expected(log), 500)
    again = KafkaSink(f"kafka://{broker}/{name}?{options}", log, said.append)
    assert said[-1] == f"kafka://{broker}/{name} has 500 records of this stream: going on behind them"
    assert again.write(lambda: False, lambda _: None)
    assert again.confirmed == 0


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.faults)])
def test_a_topic_is_written_once_over_kills(broker: str, tmp_path: Path, seed: int, kills: int) -> None:
    drawn, records = random.Random(seed), 2000 * kills
    url = f"kafka://{broker}/kills-{kills}?{RAW}"
    source = ("--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(records))
    small = ("--source.size", "32", "--passes", "1", "--partitions", "4", "--status_every_s", "0.2")
    sink = ("--sink", f"kafka://{broker}/kills-{kills}?format=raw", *source, *small)
    for number in range(kills):
        life = Started("producer", [*sink, "--rate", "1500"], tmp_path / f"log-{number}")
        wait_until(partial(_wrote, life), "it to write")
        time.sleep(drawn.uniform(0, 0.3))
        end(life)
    life = Started("producer", [*sink, "--rate", "0"], tmp_path / "log")
    assert wait(life) == 0, tail(life)
    assert "records of this stream: going on behind them" in life.log.read_text()
    _, final, ids = topic(url)
    assert sorted(each for of_partition in ids.values() for each in of_partition) == list(range(records))
    assert final == {p: len(found) for p, found in ids.items()}


def test_a_topic_that_others_write_is_refused(broker: str) -> None:
    create_topic(broker, "others", 8)
    produce(broker, "others", {0: [b"{}"]})
    with pytest.raises(UsageError, match="holds messages that no --sink has written: give another topic"):
        KafkaSink(f"kafka://{broker}/others", computed(10), print)


def test_a_topic_with_fewer_partitions_is_refused(broker: str) -> None:
    create_topic(broker, "fewer", 1)
    with pytest.raises(UsageError, match="has 1 partitions, and the stream 4: give --partitions 1, or"):
        KafkaSink(f"kafka://{broker}/fewer", computed(10), print)


@pytest.mark.usefixtures("hasty")
def test_who_may_not_read_the_topic_does_not_write_it_again(mock: MockCluster) -> None:
    url, _ = written(mock, "unreadable")
    mock.fail(FETCH, 29, 200)  # TOPIC_AUTHORIZATION_FAILED
    try:
        with pytest.raises(AccessDenied, match="gives no right"):
            KafkaSink(url, computed(100), print)
    finally:
        mock.answer(FETCH)


@pytest.mark.faults
@pytest.mark.usefixtures("hasty")
def test_a_last_message_that_no_broker_gives_is_not_waited_for_for_ever(
    mock: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = written(mock, "withheld")
    monkeypatch.setattr(kafka_sink, "CONNECT_S", 2.0)
    mock.fail(FETCH, 56, 100_000)  # KAFKA_STORAGE_ERROR
    try:
        with pytest.raises(StreamTimeout):
            KafkaSink(url, computed(100), print)
    finally:
        mock.answer(FETCH)


@pytest.mark.usefixtures("hasty")
def test_a_partition_that_retention_has_emptied_is_not_written_again(mock: MockCluster) -> None:
    url, positions = written(mock, "emptied")
    mock.expire("emptied", 1, positions[1])
    with pytest.raises(UsageError, match=r"partition 1 of .* has lost its messages, .* give another topic"):
        KafkaSink(url, computed(100), print)
    anew = MemoryLog(Schema((Field("id", "int64", ()),)), Dealing(len(positions), 1))
    assert KafkaSink(url, anew, print).positions == dict.fromkeys(positions, 0)


@pytest.mark.usefixtures("hasty")
def test_what_a_dead_sink_had_sent_into_an_empty_topic_is_waited_for(
    mock: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, look, looked = computed(100), KafkaSink._last, list[int]()
    mock.create("late", log.info.dealing.partitions)

    def looking(sink: KafkaSink, count: int) -> dict[int, tuple[str, str]]:
        found = look(sink, count)
        if not looked:  # here the first message arrives
            produce(mock.brokers, "late", {1: [b""]}, headers=[(HEADER, f"{log.info.incarnation} 7".encode())])
        looked.append(len(found))
        return found

    monkeypatch.setattr(KafkaSink, "_last", looking)
    sink = KafkaSink(f"kafka://{mock.brokers}/late", log, print)
    assert (looked, sink.positions) == ([0, 1, 1], {0: 0, 1: 7, 2: 0, 3: 0})


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.usefixtures("hasty")
def test_a_log_that_was_served_before_keeps_what_its_checkpoints_need(
    mock: MockCluster, tmp_path: Path, *, durable: bool
) -> None:
    log = open_log(Schema((Field("id", "int64", ()),)), 2, LogSettings(path=str(tmp_path / "log")), source="s")
    assert log is not None
    log.append_columns({"id": np.arange(40_000)})
    committed = {0: log.info.dealing.stripe, 1: 0}
    log.keep_group("run", KeptGroup(durable=durable, committed=committed, trained=committed))
    log.end()
    log.flush()
    mock.create(f"held-{durable}", 2)
    said = list[str]()
    url = f"kafka://{mock.brokers}/held-{durable}?format=raw&schema=id:int64&records_per_message=4000"
    assert KafkaSink(url, log, said.append).write(lambda: False, lambda _: None)
    log.close()
    assert (log.log_start() == committed) == durable
    assert said == ["the log keeps what these groups have not committed: run"] * durable


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_a_signal_ends_a_sink_that_waits_for_its_brokers(tmp_path: Path, number: signal.Signals) -> None:
    source = ("--source", "tests.trainer.numbered.NumberedRecords", "--source.records", "10", "--passes", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        life = Started(
            "producer", ["--sink", f"kafka://127.0.0.1:{silent.getsockname()[1]}/t", *source], tmp_path / "log"
        )
        silent.accept()[0].close()  # from here on it waits
        os.kill(life.pid, number)
        assert wait(life) == 0, tail(life)


def test_an_inlet_that_feeds_a_sink_does_not_listen_for_readers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = ("--bind", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        sink = ("--inlet", f"ipc://{tmp_path}/inlet", "--sink", "kafka://127.0.0.1:1/t")
        life = Started("producer", [*sink, *bind], tmp_path / "log")
        wait_until(lambda: "waiting for a first writer" in life.log.read_text() or life.poll() is not None, "the inlet")
        os.kill(life.pid, signal.SIGINT)
        assert wait(life) == 0, tail(life)


def test_a_schema_that_is_not_the_streams_is_refused(mock: MockCluster) -> None:
    with pytest.raises(UsageError, match="schema= says x int64, and this stream has id int64"):
        KafkaSink(f"kafka://{mock.brokers}/t?schema=x:int64", computed(10), print)


def test_keys_that_guard_an_inlet_go_with_a_sink() -> None:
    sink = "kafka://127.0.0.1:1/t"
    assert ProducerSettings(sink=sink, keys="keys", inlet="tcp://127.0.0.1:*").keys == "keys"
    with pytest.raises(UsageError, match=r"--sink serves nobody: leave out .* --keys"):
        ProducerSettings(sink=sink, keys="keys")


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ("format=json", "--sink writes format=msgpack or format=raw"),
        ("headers=x:int64", "no use for headers="),
        ("decoder=a.B", "no use for decoder="),
        ("label=x", "no use for label="),
        ("until=end", "no use for until="),
        ("gaps=lost", "no use for gaps="),
        ("groups=run", "no use for groups="),
    ],
)
def test_ways_in_which_nothing_is_written_are_refused(options: str, mend: str) -> None:
    with pytest.raises(UsageError, match=mend):
        ProducerSettings(sink=f"kafka://127.0.0.1:1/t?{options}")
