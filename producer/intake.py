"""What writers push, into the log: what of a message is new there, in the schema of the stream, each record once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from producer.append_log import AppendLog
from producer.bad_records import BadRecords
from producer.writers import Numbered
from protocol.chunk import MAX_CHUNK_BYTES, from_frames
from protocol.errors import (
    DataFault,
    LogFull,
    MalformedMessage,
    NoRoom,
    StillFull,
    Unfit,
    UnknownMessage,
    UsageError,
)
from protocol.inference import infer_schema
from protocol.messages import ColumnsMessage, RecordsMessage
from protocol.records import records_from
from protocol.schema import Schema

#: How long a message may wait for room before its writer's inlet looks up.
ROOM_S: Final = 0.25


class Intake:
    """One log for all writers, which is made as soon as it is known what a record is.

    `open_log` makes it for records of a schema, or finds one (None) that a folder holds already.
    """

    def __init__(self, open_log: Callable[[Schema | None], AppendLog | None], bad_records: BadRecords) -> None:
        self.log = open_log(None)
        self._open_log, self._bad_records = open_log, bad_records

    @property
    def schema(self) -> Schema | None:
        """What a record is, where that is known."""
        return None if self.log is None else self.log.info.schema

    def due(self, writer: str) -> int:
        """The number of the record that the log wants next of a writer."""
        return 0 if self.log is None else self.log.taken(writer)

    def durable(self, writer: str) -> int:
        """The same for the records that are durable."""
        return 0 if self.log is None else self.log.durable_of(writer)

    def agree(self, schema: Schema) -> AppendLog:
        """The log for records of this schema. Raises `Unfit` where it has others, or cannot be."""
        if self.log is None:
            try:
                self.log = self._open_log(schema)
            except UsageError as error:
                raise Unfit(str(error)) from error
            assert self.log is not None
        own = self.log.info.schema
        if schema != own:
            what = "with another label or other classes" if schema.fields == own.fields else f"of {schema.fields_text}"
            raise Unfit(f"this stream has records of {own.fields_text}; this writer would push records {what}")
        return self.log

    def take(self, writer: str, push: RecordsMessage | ColumnsMessage) -> None:
        """Append what is due of a message, which goes beyond that; the rest is there already.

        Raises a `PeerError`, or `StillFull` where it is to be taken again, once there is room: some of it may be in the
        log by then.
        """
        try:
            if isinstance(push, RecordsMessage):
                self._take_records(writer, push)
            else:
                self._take_columns(writer, push)
        except StillFull:
            raise
        except LogFull as error:
            raise NoRoom(str(error)) from error
        except DataFault as fault:
            raise Unfit(f"record {self.due(writer)} of {writer}: {fault}") from fault

    def _take_records(self, writer: str, push: RecordsMessage) -> None:
        if len(push.frames) != 1:
            raise MalformedMessage(f"records have one frame after the header, not {len(push.frames)}")
        records = records_from(push.frames[0], push.count)
        log = self.log or self.agree(_first_schema(records[0]))
        del records[: (due := log.taken(writer)) - push.number]
        try:
            self._append_columns(log, _columns(records), push.time_ns, (writer, due))
        except DataFault:  # of one of them, which will show
            self._append_each(log, records, push.time_ns, (writer, due))

    def _take_columns(self, writer: str, push: ColumnsMessage) -> None:
        if (log := self.log) is None:
            raise UnknownMessage("nobody has said what a record is: say it in hello, or push a map first")
        found = from_frames(log.info.schema, push.count, push.frames, MAX_CHUNK_BYTES)
        due = log.taken(writer)
        columns = {name: column[due - push.number :] for name, column in found.items()}
        try:
            self._append_columns(log, columns, push.time_ns, (writer, due))
        except DataFault as fault:
            self._append_each(log, self._bad_records.one_by_one(columns, fault), push.time_ns, (writer, due))

    def _append_columns(
        self, log: AppendLog, columns: Mapping[str, Any], time_ns: int | None, writer: Numbered
    ) -> None:
        self._bad_records.check(columns)
        log.append_columns(columns, times_ns=time_ns, timeout_s=ROOM_S, writer=writer)

    def _append_each(
        self, log: AppendLog, records: Iterable[Mapping[str, Any]], time_ns: int | None, writer: Numbered
    ) -> None:
        name, first = writer
        for number, record in enumerate(records, first):
            try:
                self._bad_records.check(record)
                log.append(record, time_ns=time_ns, timeout_s=ROOM_S, writer=(name, number))
            except DataFault as fault:
                self._bad_records.take(record, fault)
                log.pass_over((name, number))


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records side by side, which is many times as quick.

    Raises `DataFault` where each must be looked at: numbers in lists only have to fit, but an array's dtype is held
    against that of the field.
    """
    names = records[0].keys()
    if any(record.keys() != names for record in records):
        raise DataFault("records of different fields")
    columns = {name: [record[name] for record in records] for name in names}
    if any(isinstance(value, np.ndarray) for column in columns.values() for value in column):
        raise DataFault("arrays with a dtype of their own")
    return columns


def _first_schema(record: Mapping[str, Any]) -> Schema:
    try:
        return infer_schema(record)
    except UsageError as error:
        raise Unfit(str(error)) from error
