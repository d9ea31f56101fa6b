"""From messages to events: where a reader stands in its partitions, and what lies between one message and the next.

Plain arithmetic over offsets, without a client. Kafka's offset of a message times the most records of a message is the
offset of its first record here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from protocol.chunk import Chunk, Columns, blank
from protocol.dealing import Positions
from protocol.errors import DataFault, Lost
from protocol.kafka.messages import Messages
from protocol.subscription import Absent, Event, Expired, Undecodable

if TYPE_CHECKING:
    from confluent_kafka import Message

MS_NS = 1_000_000


class KafkaEvents:
    """The events of some partitions from `positions` on, which move with what is given.

    A chunk has at most `most_rows` records. Offsets inside a partition that no message comes for are lost if
    `gaps_lost`, else absent; so are those that a message does not fill, and a message without a value (a tombstone).
    """

    def __init__(
        self, positions: Positions, messages: Messages, *, per_message: int, most_rows: int, gaps_lost: bool
    ) -> None:
        self.positions = positions
        self._messages, self._per_message = messages, per_message
        self._most_rows, self._gaps_lost = most_rows, gaps_lost

    def take(self, batch: Sequence["Message"], end_of: Callable[[int, int], int] | None = None) -> Iterator[Event]:
        """What these messages are; those of a partition come in order. What lies before the position is passed by.

        So is what lies behind the end that `end_of` says of a partition in which a message has come.
        """
        for partition, offset, found in runs(batch):
            skipped = max(0, self.kafka_offset(partition) - offset)
            end = None if end_of is None else end_of(partition, offset)
            run, first = found[skipped : None if end is None else max(0, end - offset)], offset + skipped
            if run:
                yield from self.reach(partition, first)
            for start in range(0, len(run), self._messages.together):
                yield from self._run(partition, first + start, run[start : start + self._messages.together])
            if end is not None and offset + len(found) > end:
                yield from self.reach(partition, end)

    def reach(self, partition: int, kafka_offset: int) -> Iterator[Event]:
        """No message will come before this offset of Kafka's."""
        at, end = self.positions[partition], kafka_offset * self._per_message
        if end <= at:
            return
        self.positions[partition] = end
        if self._gaps_lost:
            yield Expired((Lost(partition, at, end),), {})  # the log start has not moved
        else:
            yield Absent(partition, at, end)

    def expire(self, log_start: Positions) -> Expired:
        """Kafka has forgotten what lies before `log_start`, which is of all partitions."""
        ours = {partition: log_start[partition] for partition in self.positions}
        lost = tuple(Lost(p, at, ours[p]) for p, at in self.positions.items() if at < ours[p])
        self.positions.update({each.partition: each.end for each in lost})
        return Expired(lost, log_start)

    def kafka_offset(self, partition: int) -> int:
        """The message in which the next record lies."""
        return self.positions[partition] // self._per_message

    # --- a run of messages without a gap -------------------------------------------------------------------------

    def _run(self, partition: int, first: int, run: Sequence["Message"]) -> Iterator[Event]:
        values = list(map(type(run[0]).value, run))
        if None in values:  # which is rare outside compacted topics
            for number, message in enumerate(run):
                if (value := message.value()) is None:
                    yield from self._absent(partition, (first + number + 1) * self._per_message)
                else:
                    yield from self._valued(partition, first + number, [message], [value])
        else:
            yield from self._valued(partition, first, run, cast("list[bytes]", values))

    def _valued(self, partition: int, first: int, run: Sequence["Message"], values: Sequence[bytes]) -> Iterator[Event]:
        try:
            columns, counts = self._messages.columns(run, values)
        except DataFault:  # of one of them, which will show: by halves, so that the others stay together
            if len(run) == 1:
                yield from self._each(partition, first, run[0])
                return
            half = len(run) // 2
            yield from self._valued(partition, first, run[:half], values[:half])
            yield from self._valued(partition, first + half, run[half:], values[half:])
            return
        if min(counts) == self._per_message:
            yield from self._chunks(partition, first * self._per_message, columns, sum(counts), run)
            return
        row = 0
        for number, (message, count) in enumerate(zip(run, counts, strict=True)):
            offset, rows = (first + number) * self._per_message, slice(row, row + count)
            if count:
                parts = {name: column[rows] for name, column in columns.items()}
                yield from self._chunks(partition, offset, parts, count, [message])
            yield from self._absent(partition, offset + self._per_message)
            row += count

    def _each(self, partition: int, kafka_offset: int, message: "Message") -> Iterator[Event]:
        """The records of one message, one by one; a bad one keeps its place."""
        offset = kafka_offset * self._per_message
        try:
            records = self._messages.records(message)
        except DataFault as fault:
            yield from self._bad(partition, offset, message, {"value": message.value()}, fault)
        else:
            for index, record in enumerate(records):
                try:
                    columns = self._messages.one(record)
                except DataFault as fault:
                    yield from self._bad(partition, offset + index, message, record, fault)
                else:
                    yield from self._chunks(partition, offset + index, columns, 1, [message])
        yield from self._absent(partition, offset + self._per_message)

    def _bad(
        self, partition: int, offset: int, message: "Message", record: Mapping[str, Any], fault: DataFault
    ) -> Iterator[Event]:
        if offset < self.positions[partition]:
            return
        self.positions[partition] = offset + 1
        where = f"partition {partition}, offset {message.offset()}"
        index = f", record {offset % self._per_message}" if self._per_message > 1 else ""
        text = f"the message at {where}{index} does not fit the stream: {fault}"
        yield Undecodable(self._chunk(partition, offset, blank(self._messages.schema), [message]), record, text)

    def _absent(self, partition: int, end: int) -> Iterator[Absent]:
        if (at := self.positions[partition]) < end:
            self.positions[partition] = end
            yield Absent(partition, at, end)

    def _chunks(
        self, partition: int, offset: int, columns: Columns, count: int, run: Sequence["Message"]
    ) -> Iterator[Chunk]:
        """The records from the position on; the first ones of a message may have been taken before."""
        chunk, row = self._chunk(partition, offset, columns, run), max(0, self.positions[partition] - offset)
        while row < count:
            stop = min(row + self._most_rows, count)
            self.positions[partition] = offset + stop
            yield chunk if stop - row == count else chunk.part(row, stop)
            row = stop

    def _chunk(self, partition: int, offset: int, columns: Columns, run: Sequence["Message"]) -> Chunk:
        first_ms, last_ms = run[0].timestamp()[1], run[-1].timestamp()[1]
        return Chunk(
            partition=partition,
            offset=offset,
            columns=columns,
            first_time_ns=first_ms * MS_NS,
            last_time_ns=last_ms * MS_NS,
        )


def runs(batch: Sequence["Message"]) -> Iterator[tuple[int, int, Sequence["Message"]]]:
    """Those that follow each other in a partition without a gap: partition, offset of the first, messages."""
    if not batch:
        return
    kind = type(batch[0])  # its methods, unbound, cost half of what a call on each message does
    partitions = np.fromiter(map(kind.partition, batch), np.int64, len(batch))
    offsets = np.fromiter(map(kind.offset, batch), np.int64, len(batch))
    breaks = np.flatnonzero((np.diff(partitions) != 0) | (np.diff(offsets) != 1)) + 1
    for start, stop in pairwise([0, *breaks.tolist(), len(batch)]):
        yield int(partitions[start]), int(offsets[start]), batch[start:stop]
