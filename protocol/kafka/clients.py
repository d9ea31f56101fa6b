"""The clients of one Kafka cluster: what librdkafka is told, and what it says translated at the edge.

Settings of librdkafka come from the YAML file that the URL names and from the environment (HEADRACE_KAFKA_SASL_PASSWORD
is `sasl.password`), which goes over the file. Their values are never shown.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from protocol.errors import AccessDenied, HeadraceError, StreamError, StreamTimeout, UsageError
from protocol.kafka.url import KafkaTopic
from protocol.reader import OnWait

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient

T = TypeVar("T")

ENVIRONMENT: Final = "HEADRACE_KAFKA_"
#: What is not for users to say: the URL, the group and the promise rest on it.
RESERVED: Final = (
    *("bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit", "enable.auto.offset.store"),
    *("auto.offset.reset", "enable.partition.eof", "enable.idempotence", "message.timeout.ms", "logger"),
    *("enable.gapless.guarantee", "allow.auto.create.topics", "transactional.id", "group.instance.id"),
)
#: Ours where the user says nothing else.
DEFAULTS: Final = {
    "client.id": "headrace",
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 2000,
    "fetch.queue.backoff.ms": 10,  # by default a second: the queue would run empty, since ours is short
}
#: A consumer's queue is at least so large: one answer of a broker is up to a mebibyte for each partition.
LEAST_AHEAD_KIB: Final = 1024
#: What any setting may be without being hidden in a text: names of protocols. A password may stand anywhere by mistake.
NO_SECRETS: Final = frozenset(
    (
        "PLAINTEXT",
        "SSL",
        "SASL_PLAINTEXT",
        "SASL_SSL",
        "PLAIN",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "GSSAPI",
        "OAUTHBEARER",
    )
)
#: A question to the cluster is asked again after so long.
REQUEST_S: Final = 5.0
TICK_S: Final = 0.05
#: A handshake that fails while a broker restarts looks like one that is refused; who lets us in answers sooner.
REFUSED_S: Final = 0.5
SAY_EVERY_S: Final = 1.0
#: Consumers must name a group; this one commits nothing.
NO_GROUP: Final = "headrace"


class Clients:
    """Makes clients of the topic's cluster. Raises `UsageError` where the package is missing or settings are wrong."""

    def __init__(self, topic: KafkaTopic) -> None:
        self._package = _package()
        self._topic, self._settings = topic, settings_of(topic)
        #: What librdkafka said last of brokers that cannot be reached, and of those that let nobody in.
        self.trouble = self.refused = ""

    def admin(self) -> "AdminClient":
        """One that asks about topics and groups."""
        from confluent_kafka.admin import AdminClient

        client: AdminClient = self._made(AdminClient)
        return client

    def consumer(self, group: str | None, *, window_bytes: int, **own: Any) -> "Consumer":
        """One that reads what it is assigned to, and commits only what it is told.

        `window_bytes` is about what librdkafka keeps of what was not taken yet, where the user says nothing else.
        """
        ahead = {"queued.max.messages.kbytes": max(LEAST_AHEAD_KIB, window_bytes >> 10), **self._settings}
        group_id = {"group.id": group or NO_GROUP, "enable.auto.commit": False, "enable.auto.offset.store": False}
        never = {"auto.offset.reset": "error", "enable.partition.eof": True, "allow.auto.create.topics": False}
        client: Consumer = self._made(self._package.Consumer, **{**ahead, **group_id, **never, **own})
        return client

    def producer(self, **settings: Any) -> "Producer":
        """One whose messages come in order, each once, or not at all."""
        client: Producer = self._made(self._package.Producer, **settings)
        return client

    def _made(self, kind: Callable[..., T], **settings: Any) -> T:
        own = {"bootstrap.servers": self._topic.brokers, "error_cb": self._hear}
        try:
            # What librdkafka logs by itself would go to standard error; what matters of it comes as an error too.
            return kind({**DEFAULTS, **self._settings, **own, **settings}, logger=_quiet())
        except (self._package.KafkaException, ValueError, TypeError) as error:
            text = error.args[0].str() if isinstance(error, self._package.KafkaException) else str(error)
            # The cause is not told: it may hold a secret.
            raise UsageError(f"the settings for Kafka are refused: {self._without_secrets(text)}") from None

    def _hear(self, error: "KafkaError") -> None:
        text = self._without_secrets(error.str())
        kind = self._package.KafkaError
        if error.code() in (kind._AUTHENTICATION, kind._SSL, kind.SASL_AUTHENTICATION_FAILED):  # noqa: SLF001
            self.refused = text
        elif error.code() != kind._ALL_BROKERS_DOWN or not self.trouble:  # noqa: SLF001  (it says less)
            self.trouble = text

    def _without_secrets(self, text: str) -> str:
        for value in self._settings.values():
            if len(value) > 2 and value.upper() not in NO_SECRETS:
                text = text.replace(value, "…")
        return text

    # --- offsets of groups ---------------------------------------------------------------------------------------

    def places(self, offsets: Mapping[int, int]) -> list["TopicPartition"]:
        """Offsets of partitions in librdkafka's words."""
        return [self._package.TopicPartition(self._topic.topic, *each) for each in offsets.items()]

    def commit(self, group: str, offsets: Mapping[int, int], *, timeout_s: float | None) -> None:
        """Tell the group's coordinator how far the group has come. Raises `StreamTimeout`."""
        told: list[KafkaError | None] = []
        consumer = self.consumer(group, window_bytes=0, on_commit=lambda error, _: told.append(error))
        try:
            self._until(lambda: consumer.commit(offsets=self.places(offsets)), consumer, told, timeout_s)
        finally:
            consumer.close()

    def _until(
        self, commit: Callable[[], Any], consumer: "Consumer", told: list["KafkaError | None"], timeout_s: float | None
    ) -> None:
        began_s = time.monotonic()
        commit()
        while True:
            consumer.poll(TICK_S)  # here the answer is heard
            if told:
                if (error := told.pop()) is None:
                    return
                if (refused := self.translated(error)) is not None:
                    raise refused
                commit()
            if timeout_s is not None and time.monotonic() - began_s >= timeout_s:
                raise self.silent(timeout_s)

    def committed(self, group: str, partitions: int, *, timeout_s: float | None) -> dict[int, int]:
        """How far a group has come in each partition in which it has committed anything. Raises `StreamTimeout`."""
        consumer = self.consumer(group, window_bytes=0)
        wait_s = REQUEST_S if timeout_s is None else timeout_s
        try:
            found = consumer.committed(self.places(dict.fromkeys(range(partitions), 0)), timeout=wait_s)
        except self._package.KafkaException as error:
            refused = self.translated(error.args[0])
            raise (self.silent(wait_s) if refused is None else refused) from error
        finally:
            consumer.close()
        return {each.partition: each.offset for each in found if each.offset >= 0}

    # --- asking --------------------------------------------------------------------------------------------------

    def answer(
        self,
        admin: "AdminClient",
        ask: Callable[[], Iterable["Future[T]"]],
        *,
        timeout_s: float | None,
        on_wait: OnWait | None = None,
    ) -> list[T]:
        """The answers to some questions, asked again until the cluster gives them.

        Raises `StreamTimeout` after `timeout_s`, `AccessDenied` where it lets nobody in, and whatever it refuses.
        """
        began_s = said_s = time.monotonic()
        self.refused = ""
        futures = list(ask())
        while True:
            admin.poll(0)  # errors are heard here
            waited_s = time.monotonic() - began_s
            if self.refused and waited_s >= REFUSED_S:
                raise AccessDenied(f"the brokers at {self._topic.brokers} refuse the connection: {self.refused}")
            if not wait(futures, TICK_S).not_done:
                try:
                    return [future.result() for future in futures]
                except self._package.KafkaException as error:
                    if (refused := self.translated(error.args[0])) is not None:
                        raise refused from error
                time.sleep(TICK_S)
                futures = list(ask())
            if timeout_s is not None and waited_s >= timeout_s:
                raise self.silent(timeout_s)
            if on_wait is not None and time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                on_wait(waited_s)

    def silent(self, timeout_s: float) -> StreamTimeout:
        """What is raised where nobody has answered for so long."""
        why = f" ({self.trouble})" if self.trouble else ""
        return StreamTimeout(f"no Kafka broker answered at {self._topic.brokers} within {round(timeout_s, 1):g} s{why}")

    @contextmanager
    def translating(self) -> Iterator[None]:
        """What a client itself raises comes out as an error of ours."""
        try:
            yield
        except self._package.KafkaException as error:
            raise self.fault(error.args[0]) from error

    def fault(self, error: "KafkaError") -> HeadraceError:
        """What is raised of an error that nobody asks again after."""
        text = self._without_secrets(error.str())
        return self.translated(error) or StreamError(f"{self._topic.address} cannot be used any more: {text}")

    def translated(self, error: "KafkaError") -> HeadraceError | None:
        """What a refusal means here; None where it is worth asking again."""
        kind, name, text = self._package.KafkaError, self._topic.topic, self._without_secrets(error.str())
        if error.code() in (kind.UNKNOWN_TOPIC_OR_PART, kind._UNKNOWN_TOPIC, kind._UNKNOWN_PARTITION):  # noqa: SLF001
            return UsageError(f"there is no topic {name!r} at {self._topic.brokers}: create it, or mind its name")
        if error.name().endswith("AUTHORIZATION_FAILED"):
            return AccessDenied(f"Kafka gives no right to that at {self._topic.address}: {text}")
        again = (kind._TRANSPORT, kind._TIMED_OUT, kind._ALL_BROKERS_DOWN, kind._RESOLVE, kind._TIMED_OUT_QUEUE)  # noqa: SLF001
        if error.retriable() or error.code() in again or error.name().startswith("COORDINATOR"):
            self.trouble = self.trouble or text
            return None
        return StreamError(f"Kafka refuses what was asked of {self._topic.address}: {text}")


def _package() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise UsageError("kafka:// needs confluent-kafka: pip install 'headrace[kafka]'") from error
    return confluent_kafka


def _quiet() -> logging.Logger:
    """Where librdkafka's own log goes, unless somebody turns it on: logging.getLogger("protocol.kafka.clients.log")."""
    logger = logging.getLogger(f"{__name__}.log")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return logger


def settings_of(topic: KafkaTopic) -> dict[str, str]:
    """What the user says of the cluster, by librdkafka's names."""
    found = _told(topic.settings) if topic.settings else {}
    for name, value in os.environ.items():
        if name.startswith(ENVIRONMENT):
            found[name.removeprefix(ENVIRONMENT).lower().replace("_", ".")] = value
    if reserved := next((name for name in RESERVED if name in found), None):
        raise UsageError(f"the settings for Kafka name {reserved!r}, which headrace sets itself: leave it out")
    return found


def _told(file: str) -> dict[str, str]:
    """The settings of a file, each the text that stands there: 0123 may be a password. Of an error no text is shown."""
    mend = "give a YAML file of librdkafka's settings, such as security.protocol: SASL_SSL"
    try:
        told: Any = yaml.load(Path(file).read_text(), yaml.BaseLoader)  # noqa: S506  (it makes nothing but texts)
    except OSError as error:
        raise UsageError(f"settings= {file!r} cannot be read ({error.strerror}): {mend}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1}: quote what has other signs than letters and digits)"
        raise UsageError(f"settings= {file!r} is no YAML{where}: {mend}") from None  # the cause repeats the line
    if not isinstance(told, Mapping) or not all(isinstance(each, str) for each in (*told, *told.values())):
        raise UsageError(f"settings={file!r} is no list of names and values: {mend}")
    if empty := next((name for name, value in told.items() if not value), None):
        raise UsageError(f"settings={file!r}: {empty!r} has no value: quote one that begins with ! or &")
    return dict(told)
