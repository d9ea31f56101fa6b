"""A reader of a Kafka topic: Kafka's partitions and offsets are the positions, and no group's memory is asked for them.

Which partitions a reader has is said by headrace (`assign`); what a run has seen is in its checkpoints. It is committed
to the run's group as well, so that Kafka's own tools see the lag, and never read back.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from typing import TYPE_CHECKING, Final

from protocol.dealing import Dealing, Positions, stripe_for
from protocol.errors import PeerError, StreamError, StreamReplaced, StreamTimeout, UnknownMessage, UsageError
from protocol.kafka.clients import TICK_S, Clients
from protocol.kafka.cluster import Cluster, Facts, deadline_of
from protocol.kafka.events import KafkaEvents
from protocol.kafka.messages import Messages, open_messages
from protocol.kafka.reading import KafkaReading
from protocol.kafka.url import KafkaTopic, kafka_topic
from protocol.messages import STREAM, Description, GroupState
from protocol.reader import OnWait, Reader
from protocol.stream import StreamInfo
from protocol.subscription import Away, Event, Progress, ReaderSettings, Subscribed, Subscription

if TYPE_CHECKING:
    from confluent_kafka import Message

#: An empty topic is asked this often for the message that shows its schema.
LOOK_AGAIN_S: Final = 0.2
#: A thread that asks notices within a second that nobody waits any more.
LEAVE_S: Final = 2.0


class KafkaReader(Reader):
    """Reads one topic. Raises `UsageError` where the URL, a setting or the topic is wrong."""

    def __init__(self, url: str, settings: ReaderSettings) -> None:
        self.url = url
        self._topic, self._settings = kafka_topic(url), settings
        self._clients = Clients(self._topic)
        self._cluster = Cluster(self._topic, self._clients)
        self._messages: Messages | None = None

    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        _check_split(self._topic, split)
        with self._clients.translating():
            return self._described(time_ns, deadline_of(timeout_s), on_wait)

    def _described(
        self, time_ns: int | None, left_s: Callable[[], float | None], on_wait: OnWait | None
    ) -> Description:
        facts = self._cluster.facts(timeout_s=left_s(), on_wait=on_wait)
        messages = self._opened(facts, left_s, on_wait)
        start = self._cluster.log_start(facts.partitions, timeout_s=left_s(), on_wait=on_wait)
        end = self._cluster.log_end(facts.partitions, timeout_s=left_s(), on_wait=on_wait)
        at = None if time_ns is None else self._cluster.at(facts.partitions, time_ns, timeout_s=left_s())
        return Description(
            request=0,
            info=self._info(facts, messages),
            log_start=self._scaled(start),
            log_end=self._scaled(end),
            ended=False,
            uptime_s=0.0,
            refused=0,
            groups=tuple(self._group(name, facts, start, left_s()) for name in self._topic.groups),
            at=None if at is None else self._scaled(at),
        )

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        del progress  # Kafka forgets by its own rules, whatever a run has seen
        _check_split(self._topic, subscription.split)
        with self._clients.translating():
            yield from self._read(subscription, idle_s)

    def _read(self, subscription: Subscription, idle_s: float) -> Iterator[list[Event]]:
        facts, messages, compacted = yield from self._arrived(idle_s)
        info = self._info(facts, messages)
        if subscription.incarnation not in (None, info.incarnation):
            raise StreamReplaced(str(subscription.incarnation), info.incarnation)
        events = KafkaEvents(
            dict(subscription.positions),
            messages,
            per_message=self._topic.records_per_message,
            most_rows=info.dealing.stripe,
            gaps_lost=self._topic.gaps == "lost" or (self._topic.gaps == "auto" and compacted),
        )
        consumer = self._clients.consumer(subscription.group, window_bytes=self._settings.window_bytes)
        with closing(consumer):
            yield [Subscribed(info)]
            reading = KafkaReading(self._topic, self._clients, self._cluster, consumer, events)
            yield from reading.events(
                facts, info, subscription, away_after_s=self._settings.away_after_s, idle_s=idle_s
            )

    def stay(self) -> None:
        """Nobody takes this reader for dead: it belongs to no group."""

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        left_s = deadline_of(timeout_s)
        try:
            with self._clients.translating():
                facts = self._cluster.facts(timeout_s=left_s())
                if not incarnation.startswith(_named(facts)):
                    text = f"{self._topic.address} is another topic now: {facts.identity}, not {incarnation}"
                    raise UnknownMessage(text)
                self._clients.commit(group, self._kafka_offsets(positions), timeout_s=left_s())
        except (UsageError, StreamError) as error:
            if isinstance(error, StreamTimeout):
                raise
            # What a run has seen is in its checkpoint: that Kafka does not want to know it must not end a run.
            raise PeerError(str(error)) from error

    def drop(self, group: str, *, timeout_s: float) -> bool:
        return self._cluster.drop(group, timeout_s=timeout_s)

    def close(self) -> None:
        """The clients end with the last that holds them."""

    # --- what the stream is --------------------------------------------------------------------------------------

    def _arrived(self, idle_s: float) -> Generator[list[Event], None, tuple[Facts, Messages, bool]]:
        """What must be known before reading, as soon as the cluster says it; signs of life until then.

        It is asked for in a thread of its own, since on a slow link an answer takes longer than a sign of life may.
        """
        began_s = time.monotonic()
        asked: Future[tuple[Facts, Messages, bool]] = Future()
        left = threading.Event()
        thread = threading.Thread(target=self._ask, args=(asked, left), name="headrace-kafka", daemon=True)
        thread.start()
        try:
            while not wait([asked], idle_s).done:
                silent_s = time.monotonic() - began_s
                yield [Away(silent_s)] if silent_s >= self._settings.away_after_s else []
            return asked.result()
        finally:
            left.set()
            thread.join(LEAVE_S)

    def _ask(self, asked: "Future[tuple[Facts, Messages, bool]]", left: threading.Event) -> None:
        """Until there are answers, or whoever asked has `left`."""

        def look(_waited_s: float = 0.0) -> None:
            if left.is_set():
                raise StreamTimeout("no more is wanted")

        try:
            facts = self._cluster.facts(timeout_s=None, on_wait=look)
            messages = self._opened(facts, look, look)
            compacted = self._topic.gaps == "auto" and self._cluster.compacted(timeout_s=None, on_wait=look)
        except BaseException as error:  # noqa: BLE001  (it is raised again in the thread that waits)
            asked.set_exception(error)
        else:
            asked.set_result((facts, messages, compacted))

    def _opened(self, facts: Facts, left_s: Callable[[], float | None], on_wait: OnWait | None) -> Messages:
        if self._messages is None:
            self._messages = open_messages(self._topic, self._first(facts, left_s, on_wait))
        return self._messages

    def _info(self, facts: Facts, messages: Messages) -> StreamInfo:
        """The identity is the topic's, and what else says which message a position is of."""
        schema = messages.schema
        return StreamInfo(
            incarnation=f"{_named(facts)}{self._topic.records_per_message}",
            schema=schema,
            dealing=Dealing(facts.partitions, stripe_for(schema.record_bytes, ragged=schema.ragged)),
            order="arrival",
            source=self._topic.address,
        )

    def _first(self, facts: Facts, left_s: Callable[[], float | None], on_wait: OnWait | None) -> Iterator["Message"]:
        """The first message of the lowest partition that has any; waits for one. Raises `StreamTimeout`."""
        consumer = self._clients.consumer(None, window_bytes=1)
        began_s = time.monotonic()
        try:
            while True:
                start = self._cluster.log_start(facts.partitions, timeout_s=left_s(), on_wait=on_wait)
                end = self._cluster.log_end(facts.partitions, timeout_s=left_s(), on_wait=on_wait)
                for partition in (each for each in start if end[each] > start[each]):
                    consumer.assign(self._clients.places({partition: start[partition]}))
                    while (left := left_s()) is None or left > 0:
                        message = consumer.poll(TICK_S)
                        if message is not None and message.error() is None and message.value() is not None:
                            yield message
                            return
                        if message is not None and message.error() is not None:
                            break  # its end: what there was is gone, or are tombstones
                if (left := left_s()) is not None and left <= 0:
                    mend = "declare what they hold (schema=), or wait longer"
                    raise StreamTimeout(f"{self._topic.address} has no message that shows the fields: {mend}")
                time.sleep(LOOK_AGAIN_S)
                if on_wait is not None:
                    on_wait(time.monotonic() - began_s)
        finally:
            consumer.close()

    def _group(self, name: str, facts: Facts, start: Positions, timeout_s: float | None) -> GroupState:
        committed = {**start, **self._clients.committed(name, facts.partitions, timeout_s=timeout_s)}
        at = self._scaled(committed)
        return GroupState(name=name, durable=True, readers=0, silent_s=0.0, committed=at, trained=at)

    # --- offsets -------------------------------------------------------------------------------------------------

    def _scaled(self, offsets: Positions) -> Positions:
        """Kafka's offsets as ours."""
        return {partition: offset * self._topic.records_per_message for partition, offset in offsets.items()}

    def _kafka_offsets(self, positions: Positions) -> Positions:
        """The message in which the next record lies."""
        return {partition: offset // self._topic.records_per_message for partition, offset in positions.items()}


def _named(facts: Facts) -> str:
    return f"kafka-{facts.identity}-"


def _check_split(topic: KafkaTopic, split: str) -> None:
    if split != STREAM:
        raise UsageError(f"{topic.address} has no split {split!r}: a topic is one stream (held-out records: --holdout)")
