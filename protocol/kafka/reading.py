"""One subscription to a Kafka topic: what the consumer gives becomes events, until the end if there is one."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from protocol.errors import BeyondLogEnd, PartitionsAdded, RecordsLost, StreamReplaced, StreamTimeout, UsageError
from protocol.kafka.clients import REQUEST_S, Clients
from protocol.kafka.cluster import Cluster, Facts
from protocol.kafka.end import KafkaEnd
from protocol.kafka.events import KafkaEvents
from protocol.kafka.url import KafkaTopic
from protocol.stream import StreamInfo
from protocol.subscription import Away, Ended, Event, Heard, Subscribed, Subscription, Waited
from protocol.waits import SAY_EVERY_S

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

logger = logging.getLogger(__name__)

#: Messages that are taken at once, if they have come already.
TOGETHER: Final = 2048
#: The consumer is waited for in such pieces, and the cluster looked at in between.
POLL_S: Final = 0.1


class KafkaReading:
    """Reads with `consumer`, its own, from where `events` stands on; `cluster` tells what becomes of the topic."""

    def __init__(
        self, topic: KafkaTopic, clients: Clients, cluster: Cluster, consumer: "Consumer", events: KafkaEvents
    ) -> None:
        self._topic, self._clients, self._cluster = topic, clients, cluster
        self._consumer, self._events = consumer, events
        self._end = KafkaEnd(self._heard_end) if topic.until == "end" else None
        self._astray: set[int] = set()
        self._away = False
        self._behind = True
        self._said_s = time.monotonic()
        self._silent_s = self._source_s = self._wire_s = self._worked_s = 0.0

    def events(
        self, facts: Facts, info: StreamInfo, asked: Subscription, *, away_after_s: float, idle_s: float
    ) -> Iterator[list[Event]]:
        """The events as they come together. The topic is as `facts` say, of which `asked` may know fewer partitions."""
        self._consumer.assign(self._places(asked.positions))
        yielded_s = time.monotonic()
        while True:
            self._check(facts, info, asked)
            began_s = time.monotonic()
            batch = self._polled(min(POLL_S, idle_s))
            polled_s = time.monotonic()
            events = [*self._taken(batch), *self._found(facts, info, asked)]
            now_s = time.monotonic()
            self._count(polled_s - began_s, now_s - polled_s, heard=bool(batch))
            events = [*self._signs(info, now_s, away_after_s), *events]
            if self._end_reached:
                yield [*events, Ended(dict(self._events.positions))]
                return
            if events or now_s - yielded_s >= idle_s:
                yield events
                yielded_s = time.monotonic()

    @property
    def _end_reached(self) -> bool:
        end, events = self._end, self._events
        return end is not None and all(end.reached(p, events.kafka_offset(p)) for p in events.positions)

    # --- what the consumer gives ---------------------------------------------------------------------------------

    def _polled(self, wait_s: float) -> list["Message"]:
        """What has come, as soon as there is any: `consume` alone would wait for as many as it may take."""
        first = self._consumer.poll(wait_s)
        return [] if first is None else [first, *self._consumer.consume(TOGETHER, 0)]

    def _taken(self, batch: Sequence["Message"]) -> Iterator[Event]:
        said: list[Message] = []
        if any(map(type(batch[0]).error, batch)) if batch else False:
            said = [message for message in batch if message.error() is not None]
        messages = [message for message in batch if message.error() is None] if said else batch
        yield from self._events.take(messages, None if self._end is None else self._end.of)
        for message in said:
            yield from self._heard(message)

    def _heard(self, message: "Message") -> Iterator[Event]:
        """What the consumer says of a partition in place of a message."""
        from confluent_kafka import KafkaError

        error, partition, offset = message.error(), message.partition(), message.offset()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF and partition is not None and offset is not None:  # noqa: SLF001
            yield from self._events.reach(partition, offset)
            if self._end is not None:
                self._end.hear(partition, offset)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            if partition is not None and offset is not None and offset >= self._events.kafka_offset(partition):
                self._astray.add(partition)  # what was said long before has a lower offset, behind a gap it is higher
        elif (refused := self._clients.translated(error)) is not None and not isinstance(refused, UsageError):
            raise refused  # a topic that was there and is gone is one that is away

    def _found(self, facts: Facts, info: StreamInfo, asked: Subscription) -> Iterator[Event]:
        """Partitions whose offset is not there: it has expired, or the log is behind the run, or is another's.

        Raises `BeyondLogEnd` and `StreamReplaced`.
        """
        if not self._astray:
            return
        try:
            self._check_same(self._cluster.facts(timeout_s=REQUEST_S), facts, info)
            known = max(info.dealing.partitions, asked.partitions or 0)  # whoever described it may have heard of fewer
            start = self._cluster.log_start(known, timeout_s=REQUEST_S)
            end = self._cluster.log_end(known, timeout_s=REQUEST_S)
        except (StreamTimeout, UsageError):  # a topic that was there and is gone is one that is away
            return  # asked again
        for partition in self._astray:
            if (at := self._events.kafka_offset(partition)) > end[partition]:
                text = f"partition {partition} of {self._topic.address} ends at {end[partition]}"
                raise BeyondLogEnd(f"{text}, before the position {at}")
        expired = self._events.expire({p: offset * self._topic.records_per_message for p, offset in start.items()})
        if expired.lost and not asked.pass_lost:
            raise RecordsLost(*expired.lost[0][:3], expired.lost[1:])
        moved = self._places(self._astray | {each.partition for each in expired.lost})
        self._consumer.incremental_unassign(moved)  # a partition that has failed cannot be sought in
        self._consumer.incremental_assign(moved)
        self._astray.clear()
        if expired.lost:
            yield expired

    def _places(self, partitions: Iterable[int]) -> list["TopicPartition"]:
        return self._clients.places({partition: self._events.kafka_offset(partition) for partition in partitions})

    # --- signs of life -------------------------------------------------------------------------------------------

    def _check(self, facts: Facts, info: StreamInfo, asked: Subscription) -> None:
        """Raise `StreamReplaced` or `PartitionsAdded` where the topic is not what it was."""
        now = self._cluster.look(time.monotonic()) or facts
        if now is not facts:
            self._silent_s = 0.0
        self._check_same(now, facts, info)
        known = facts.partitions if asked.partitions is None else asked.partitions
        if now.partitions > known:
            raise PartitionsAdded(known, now.partitions)

    def _check_same(self, now: Facts, facts: Facts, info: StreamInfo) -> None:
        if now.identity != facts.identity:
            raise StreamReplaced(info.incarnation, info.incarnation.replace(facts.identity, now.identity))

    def _count(self, polled_s: float, worked_s: float, *, heard: bool) -> None:
        self._worked_s += worked_s
        if self._behind:
            self._wire_s += polled_s
        else:
            self._source_s += polled_s
        self._silent_s = 0.0 if heard else self._silent_s + polled_s  # what its taker took is no silence

    def _signs(self, info: StreamInfo, now_s: float, away_after_s: float) -> Iterator[Event]:
        """How far the topic reaches and what was waited for, about once a second; and whether anybody is there."""
        if self._silent_s >= away_after_s and not self._away:
            self._away = True
            logger.warning("no broker of %s answers: %s", self._topic.address, self._clients.trouble or "silence")
            yield Away(self._silent_s)
        elif self._silent_s == 0 and self._away:
            self._away = False
            yield Subscribed(info)
        if now_s - self._said_s < SAY_EVERY_S:
            return
        ends = {partition: self._heard_end(partition) for partition in self._events.positions}
        self._behind = any(end > self._events.kafka_offset(partition) for partition, end in ends.items())
        yield Waited(source_s=self._source_s, wire_s=self._wire_s, reader_s=self._worked_s)
        per_message = self._topic.records_per_message
        yield Heard({p: max(ends[p] * per_message, at) for p, at in self._events.positions.items()}, save_soon=False)
        self._said_s, self._source_s, self._wire_s, self._worked_s = now_s, 0.0, 0.0, 0.0

    def _heard_end(self, partition: int) -> int:
        """Where a partition ended when the broker last answered, as Kafka's offset."""
        (place,) = self._places([partition])
        _, end = self._consumer.get_watermark_offsets(place, cached=True)
        return max(0, end)  # negative where no broker has told it yet
