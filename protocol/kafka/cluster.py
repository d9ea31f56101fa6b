"""What a Kafka cluster says of one topic: its identity, its partitions, where they begin and end; and of groups."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from protocol.dealing import MAX_PARTITIONS, Positions
from protocol.errors import HeadraceError, StreamTimeout, UsageError
from protocol.kafka.clients import REQUEST_S, Clients
from protocol.kafka.events import MS_NS
from protocol.kafka.url import KafkaTopic
from protocol.reader import OnWait

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

#: It is asked this often whether it is there, and whether the topic is still the same.
WATCH_EVERY_S: Final = 1.0
#: How a cluster says that it gives topics no ids.
NO_ID: Final = "A" * 22


@dataclass(frozen=True)
class Facts:
    """What does not change while the topic lives, but for the number of its partitions, which may grow."""

    identity: str
    partitions: int


class Cluster:
    """Asks, and waits for the answers: `timeout_s` None for ever.

    Raises `StreamTimeout`, `AccessDenied`, and `UsageError` where there is no such topic.
    """

    def __init__(self, topic: KafkaTopic, clients: Clients) -> None:
        self._topic, self._clients = topic, clients
        self._admin: AdminClient = clients.admin()
        self._asked: Future[Any] | None = None
        self._due_s = 0.0

    def facts(self, *, timeout_s: float | None, on_wait: OnWait | None = None) -> Facts:
        """The topic as it is now."""
        described = self._clients.answer(self._admin, self._describe, timeout_s=timeout_s, on_wait=on_wait)
        return self._facts(described[0])

    def look(self, now_s: float) -> Facts | None:
        """The same as it was lately, where there is news; asks about once a second and waits for nothing."""
        self._admin.poll(0)
        if self._asked is None:
            if now_s >= self._due_s:
                self._asked, self._due_s = self._describe()[0], now_s + WATCH_EVERY_S
            return None
        if not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        if asked.exception() is not None:
            return None  # it is asked again; a topic that is gone, or that we may not see any more, is one that is away
        return self._facts(asked.result())

    def log_start(self, partitions: int, *, timeout_s: float | None, on_wait: OnWait | None = None) -> Positions:
        """Kafka's first offset of each partition that is still there."""
        return self._offsets(partitions, _words().OffsetSpec.earliest(), timeout_s, on_wait)

    def log_end(self, partitions: int, *, timeout_s: float | None, on_wait: OnWait | None = None) -> Positions:
        """The offset after the last message of each partition that a reader is given."""
        return self._offsets(partitions, _words().OffsetSpec.latest(), timeout_s, on_wait)

    def at(self, partitions: int, time_ns: int, *, timeout_s: float | None) -> Positions:
        """The first offset of each partition whose message is not before that time; the end where there is none."""
        time_ms = max(0, -(-time_ns // MS_NS))  # Kafka's times are whole milliseconds
        found = self._offsets(partitions, _words().OffsetSpec.for_timestamp(time_ms), timeout_s, None)
        ends = self.log_end(partitions, timeout_s=timeout_s)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def compacted(self, *, timeout_s: float | None, on_wait: OnWait | None = None) -> bool:
        """Whether Kafka may remove single messages of the topic; true where the cluster does not say."""
        resource = _words().ConfigResource(_words().ResourceType.TOPIC, self._topic.topic)

        def ask() -> Iterable[Future[Any]]:
            return self._admin.describe_configs([resource], request_timeout=REQUEST_S).values()

        try:
            (said,) = self._clients.answer(self._admin, ask, timeout_s=timeout_s, on_wait=on_wait)
        except (UsageError, StreamTimeout):
            raise
        except HeadraceError:  # a cluster that has no such question, or lets us not see it
            return True
        return "cleanup.policy" not in said or "compact" in str(said["cleanup.policy"].value)

    def create(self, partitions: int, *, timeout_s: float | None) -> None:
        """Make the topic, replicated as the cluster makes topics."""
        made = _words().NewTopic(self._topic.topic, partitions)

        def ask() -> Iterable[Future[Any]]:
            return self._admin.create_topics([made], request_timeout=REQUEST_S).values()

        self._clients.answer(self._admin, ask, timeout_s=timeout_s)

    def drop(self, group: str, *, timeout_s: float) -> bool:
        """Make it forget what a group has committed; false where it knows none of that name."""
        from confluent_kafka import KafkaError, KafkaException

        def ask() -> Iterable[Future[Any]]:
            return self._admin.delete_consumer_groups([group], request_timeout=REQUEST_S).values()

        try:
            self._clients.answer(self._admin, ask, timeout_s=timeout_s)
        except HeadraceError as error:
            cause = error.__cause__
            # A cluster that cannot forget a group holds nothing back for it either.
            none = (KafkaError.GROUP_ID_NOT_FOUND, KafkaError._UNSUPPORTED_FEATURE)  # noqa: SLF001
            if isinstance(cause, KafkaException) and cause.args[0].code() in none:
                return False
            raise
        return True

    # --- asking --------------------------------------------------------------------------------------------------

    def _describe(self) -> list["Future[Any]"]:
        from confluent_kafka import TopicCollection

        asked = self._admin.describe_topics(TopicCollection([self._topic.topic]), request_timeout=REQUEST_S)
        return list(asked.values())

    def _facts(self, described: Any) -> Facts:
        count = len(described.partitions)
        if count > MAX_PARTITIONS:
            raise UsageError(f"{self._topic.address} has {count} partitions: a stream has at most {MAX_PARTITIONS}")
        return Facts(self._identity(described.topic_id), count)

    def _identity(self, topic_id: Any) -> str:
        """The id that Kafka gave the topic when it was made; before Kafka 3.1 there is none, so its name and place."""
        if topic_id is not None and str(topic_id) != NO_ID:
            return base64.b64decode(f"{topic_id}==").hex()
        named = f"{self._admin.cluster_id(timeout=REQUEST_S)}/{self._topic.topic}"
        return hashlib.blake2b(named.encode(), digest_size=8).hexdigest()

    def _offsets(self, partitions: int, spec: Any, timeout_s: float | None, on_wait: OnWait | None) -> Positions:
        from confluent_kafka import IsolationLevel, TopicPartition

        asked = {TopicPartition(self._topic.topic, partition): spec for partition in range(partitions)}
        level = IsolationLevel.READ_COMMITTED

        def ask() -> Iterable[Future[Any]]:
            return self._admin.list_offsets(asked, isolation_level=level, request_timeout=REQUEST_S).values()

        answers = self._clients.answer(self._admin, ask, timeout_s=timeout_s, on_wait=on_wait)
        return {partition: said.offset for partition, said in enumerate(answers)}


def _words() -> Any:
    """The names of what is asked, which the package does not declare as its own."""
    from confluent_kafka import admin

    return admin


def deadline_of(timeout_s: float | None) -> Callable[[], float | None]:
    """What is left of a time, for questions that are asked one after the other."""
    if timeout_s is None:
        return lambda: None
    until_s = time.monotonic() + timeout_s
    return lambda: max(0.0, until_s - time.monotonic())
