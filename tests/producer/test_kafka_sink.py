"""A stream written into a topic: each record once, in the order of its partition, over any number of kills."""

import random
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.kafka_sink import KafkaSink
from protocol.chunk import Chunk, concatenate
from protocol.dealing import Positions
from protocol.errors import UsageError
from protocol.open_reader import open_reader
from protocol.schema import Schema
from protocol.subscription import Subscription
from tests.protocol.kafka_brokers import create_topic, produce, shipped_broker
from tests.protocol.serving import computed
from tests.trainer.lives import Started, end, tail, wait, wait_until

RAW = "format=raw&schema=id:int64,payload:uint8[32],label:int64"
#: What a life says once brokers have confirmed some records.
WRITTEN = re.compile(r"[1-9][\d,]* records of this life")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shipped_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


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


@pytest.mark.parametrize("options", ["format=json", "headers=x:int64", "decoder=a.B"])
def test_ways_in_which_nothing_is_written_are_refused(broker: str, options: str) -> None:
    with pytest.raises(UsageError, match="--sink writes format=msgpack or format=raw"):
        KafkaSink(f"kafka://{broker}/t?{options}", computed(10), print)
