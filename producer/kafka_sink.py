"""A stream written into a Kafka topic: partition by partition, in order, each record once over any number of lives.

Each message says in a header which stream it is of and which offset comes next. So whoever goes on reads the last
message of each partition, and needs no memory of its own.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from producer.kafka_values import topic_to_write, values_for
from producer.memory_log import MemoryLog
from protocol.dealing import Positions, distance
from protocol.errors import BeyondLogEnd, RecordsLost, UsageError, lost_between
from protocol.kafka.clients import Clients
from protocol.kafka.cluster import Cluster, deadline_of
from protocol.log import Log

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

HEADER: Final = "headrace"
#: How long brokers are waited for at the start.
CONNECT_S: Final = 30.0
#: What was written is waited for, and may be forgotten by the log, after so much or so long.
CONFIRM_BYTES: Final = 8 << 20
CONFIRM_S: Final = 0.5
POLL_S: Final = 0.02
#: A former life's last request may still be under way to the broker: the topic's end has to stand still for so long.
SETTLE_S: Final = 1.0
MOST_ROWS: Final = 1024


class KafkaSink:
    """Writes `log` into the topic that `url` names, from where it ends. `say` gets a line where people should know.

    Only one at a time may write a topic. Raises `UsageError` where the topic is not for this stream, and `RecordsLost`
    where the log has forgotten what comes next.
    """

    def __init__(self, url: str, log: Log, say: Callable[[str], None]) -> None:
        self._topic, self._log, self._say = topic_to_write(url), log, say
        self._values = values_for(self._topic, log.info.schema)
        self._clients = Clients(self._topic)
        self._cluster = Cluster(self._topic, self._clients)
        self._failed: KafkaError | None = None
        self._producer = self._clients.producer(
            **{"enable.idempotence": True, "enable.gapless.guarantee": True, "message.timeout.ms": 0},
            **{"delivery.report.only.error": True, "linger.ms": 20, "on_delivery": self._hear},
        )
        self._unconfirmed = 0
        self._confirm_due_s = 0.0
        #: What the checkpoints of trainers still need of a log that was served before, by group.
        self._held = {name: group.committed for name, group in log.groups().items() if group.durable}
        with self._clients.translating():
            self.positions = self._begin()
        #: Records of this life that the brokers have confirmed.
        self.confirmed = 0
        self._confirmed = dict(self.positions)

    @property
    def address(self) -> str:
        """Brokers and topic."""
        return self._topic.address

    def write(self, stopped: Callable[[], bool], each_turn: Callable[[float], None]) -> bool:
        """Write until the stream has ended or somebody says stop; whether all that was written is confirmed."""
        with self._clients.translating():
            return self._write_all(stopped, each_turn)

    # --- writing -------------------------------------------------------------------------------------------------

    def _write_all(self, stopped: Callable[[], bool], each_turn: Callable[[float], None]) -> bool:
        while not stopped():
            ended = self._log.ended  # asked before the last look, so that nothing slips in between
            wrote = sum(self._write(partition) for partition in self.positions)
            each_turn(now_s := time.monotonic())
            if not wrote and ended:
                break
            if self._unconfirmed >= CONFIRM_BYTES or (self._unconfirmed and now_s >= self._confirm_due_s):
                self._confirm(stopped, each_turn)
            if not wrote:
                time.sleep(POLL_S)
        return self._confirm(stopped, each_turn)

    def _write(self, partition: int) -> int:
        """The next records of a partition, a few at most; how many."""
        at = self.positions[partition]
        left = self._log.log_end()[partition] - at
        if left <= 0:
            return 0
        chunk = self._log.read(partition, at, min(left, MOST_ROWS))
        row = 0
        for value, stop in self._values(chunk):
            told = f"{self._log.info.incarnation} {chunk.offset + stop}".encode()
            self._send(value, partition, told, chunk.time_ns(row) // 1_000_000)
            row = stop
        self.positions[partition] = chunk.end
        return chunk.count

    def _send(self, value: bytes, partition: int, told: bytes, time_ms: int) -> None:
        while True:
            self._check()
            try:
                self._producer.produce(
                    self._topic.topic, value, partition=partition, headers=[(HEADER, told)], timestamp=max(0, time_ms)
                )
            except BufferError:
                self._producer.poll(POLL_S)  # as much is under way as may be
                continue
            if not self._unconfirmed:
                self._confirm_due_s = time.monotonic() + CONFIRM_S
            self._unconfirmed += len(value)
            return

    def _confirm(self, stopped: Callable[[], bool], each_turn: Callable[[float], None]) -> bool:
        """Wait for the brokers to have it all, then let the log forget it; false where a stop comes first."""
        asked_s: float | None = None
        while self._producer.flush(CONFIRM_S):
            self._check()
            now_s = time.monotonic()
            each_turn(now_s)
            if stopped():
                asked_s = now_s if asked_s is None else asked_s
                if now_s - asked_s > 2 * SETTLE_S:
                    return False
        self._check()
        self.confirmed += distance(self._confirmed, self.positions)
        self._confirmed = dict(self.positions)
        self._unconfirmed = 0
        self._forget()
        return True

    def _forget(self) -> None:
        """Let the log forget what is confirmed and no group holds."""
        held = self._held.values()
        self._log.trim({p: min([at, *(each.get(p, 0) for each in held)]) for p, at in self._confirmed.items()})

    def _hear(self, error: "KafkaError | None", message: "Message") -> None:
        del message
        self._failed = self._failed or error

    def _check(self) -> None:
        """Raise what has kept a message from being written: nothing behind it may be."""
        if self._failed is not None:
            raise self._clients.fault(self._failed)

    # --- where it goes on ----------------------------------------------------------------------------------------

    def _begin(self) -> Positions:
        """Where each partition goes on: behind the last record of this stream that the topic has."""
        count, start = self._log.info.dealing.partitions, self._log.log_start()
        made = self._made(count)
        told = {} if made else self._settled(count)
        ours = {p: int(end) for p, (incarnation, end) in told.items() if incarnation == self._log.info.incarnation}
        if told and not ours:
            self._say(f"{self.address} has records of another stream: these come behind them")
        positions = start | ours
        self._log.reach(positions)
        if lost := lost_between(positions, start):
            raise RecordsLost(*lost[0][:3], lost[1:])
        ends = self._log.log_end()
        if beyond := [partition for partition, at in positions.items() if at > ends[partition]]:
            raise BeyondLogEnd(f"partition {beyond[0]} of {self.address} has more of this stream than its source gives")
        if self._held:
            self._say(f"the log keeps what these groups have not committed: {', '.join(sorted(self._held))}")
        if ours:
            self._say(f"{self.address} has {distance(start, positions):,} records of this stream: going on behind them")
        return positions

    def _made(self, count: int) -> bool:
        """Whether there was no topic, and one was made. Raises `UsageError` where there are too few partitions."""
        made = False
        try:
            facts = self._cluster.facts(timeout_s=CONNECT_S)
        except UsageError:  # there is no such topic
            self._cluster.create(count, timeout_s=CONNECT_S)
            made = True
            self._say(f"{self.address} was made, with {count} partitions")
            facts = self._cluster.facts(timeout_s=CONNECT_S)
        if facts.partitions < count:
            mend = f"give --partitions {facts.partitions}, or make another topic"
            raise UsageError(f"{self.address} has {facts.partitions} partitions, and the stream {count}: {mend}")
        return made

    def _settled(self, count: int) -> dict[int, tuple[str, str]]:
        """Stream and next offset that the last message of each partition tells, once no other comes."""
        last = self._last(count)
        while True:
            time.sleep(SETTLE_S)
            before, last = last, self._last(count)
            if before == last:
                return last

    def _last(self, count: int) -> dict[int, tuple[str, str]]:
        """What the last message of each partition tells.

        Raises `UsageError` for one that is none of ours, and where messages were there and none is left to tell.
        """
        start = self._cluster.log_start(count, timeout_s=CONNECT_S)
        end = self._cluster.log_end(count, timeout_s=CONNECT_S)
        last = {p: end[p] - 1 for p in range(count) if end[p] > start[p]}
        consumer = self._clients.consumer(None, window_bytes=1)
        try:
            consumer.assign(self._clients.places(last))
            found = self._read(consumer, set(last))
        finally:
            consumer.close()
        gone = [p for p in range(count) if end[p] > 0 and p not in found]
        if gone and not isinstance(self._log, MemoryLog):  # whose stream is new in each life: nothing of it is there
            what = f"partition {gone[0]} of {self.address} has lost its messages"
            raise UsageError(f"{what}, so that nobody can tell how far this stream is there: give another topic")
        return found

    def _read(self, consumer: "Consumer", waiting: set[int]) -> dict[int, tuple[str, str]]:
        """What the last message tells that comes before the end of each of these partitions."""
        from confluent_kafka import KafkaError

        found: dict[int, tuple[str, str]] = {}
        left_s = deadline_of(CONNECT_S)
        while waiting:
            if left_s() == 0:
                raise self._clients.silent(CONNECT_S)
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            error, partition = message.error(), message.partition()
            if error is None:
                assert partition is not None
                found[partition] = self._told(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                assert partition is not None
                waiting.discard(partition)
            elif (refused := self._clients.translated(error)) is not None:
                raise refused
        return found

    def _told(self, message: "Message") -> tuple[str, str]:
        """The stream of a message, and the offset that comes next."""
        told = dict(message.headers() or ()).get(HEADER)
        if told is None:
            mend = "give another topic, or empty it"
            raise UsageError(f"{self.address} holds messages that no --sink has written: {mend}")
        incarnation, _, offset = (told.decode() if isinstance(told, bytes) else told).rpartition(" ")
        return incarnation, offset
