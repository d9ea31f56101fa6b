"""A source that is no dataset, on the command line: what it yields is fed into a log, from where the log has ended."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords
from producer.inference import infer_schema
from producer.open_log import open_log
from producer.source_kind import declared_schema, kind_of, record_of, records_of
from producer.writers import Numbered
from protocol.errors import DataFault, UsageError
from protocol.schema import Schema


class Feed:
    """Reads a live or replaying source in a thread of its own. `error` is what it died of, if it did.

    A replaying source goes on at the number that the log has durably taken, records that were kept aside among them.
    """

    def __init__(self, source: Any, partitions: int, settings: LogSettings, bad_records: BadRecords) -> None:
        self._name = name = type(source).__name__
        self.kind = kind_of(source)
        self._replays = self.kind == "replaying"
        self._on_disk = bool(settings.path)
        # What a record is, a source may declare, and a folder may know already.
        log = open_log(declared_schema(source), partitions, settings, source=name)
        self._number = log.taken(name) if log is not None and self._replays else 0
        self._records: Iterator[Any] = records_of(source, self._number)
        if log is None:
            log = open_log(self._first_schema(), partitions, settings, source=name)
        assert log is not None
        self.log: AppendLog = log
        self.bad_records = bad_records
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-feed", daemon=True)

    @property
    def promise(self) -> str:
        """Where the promise of every record exactly once begins, for people."""
        if self.kind == "live":
            return "begins in the log"
        if not self._on_disk:
            return "covers the source from record 0 on; a restart is another stream (--log.path DIR goes on)"
        return f"covers the source, which goes on at record {self._number:,}"

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def _first_schema(self) -> Schema:
        """What a record is, as the first one shows."""
        first = next(self._records, None)
        if first is None:
            raise UsageError(f"{self._name} gives no record: a stream needs one to begin with")
        self._records = itertools.chain([first], self._records)
        try:
            return infer_schema(record_of(first))
        except DataFault as fault:
            raise UsageError(str(fault)) from fault

    def stop(self) -> None:
        """Nothing is held that must be released: the thread dies with the program."""

    def _run(self) -> None:
        try:
            for number, given in enumerate(self._records, self._number):
                self._append(given, (self._name, number) if self._replays else None)
        except Exception as error:  # noqa: BLE001  (raised where it is served: a bug is as loud there)
            self.error = error
        else:
            self.log.end()

    def _append(self, given: object, writer: Numbered | None) -> None:
        try:
            record = record_of(given)
            self.bad_records.check(record)
            self.log.append(record, writer=writer)
        except DataFault as fault:
            self.bad_records.take(given, fault)
            if writer is not None:
                self.log.pass_over(writer)
