"""A source that is no dataset, on the command line: what it yields is fed into a log, from where the log has ended."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords
from producer.drift import Drift, Schedule
from producer.open_log import INLET, open_log
from producer.source_kind import declared_schema, kind_of, record_of, records_of
from producer.writers import Numbered
from protocol.errors import DataFault, UsageError
from protocol.inference import infer_schema
from protocol.schema import Schema


class Feed:
    """Reads a live or replaying source in a thread of its own, the only one that appends to its log. `error` is what it
    died of, if it did.

    A replaying source goes on at the number that the log has durably taken, records that were kept aside among them. A
    `drift` changes records, or leaves them out, as they come.
    """

    def __init__(
        self,
        source: Any,
        partitions: int,
        settings: LogSettings,
        bad_records: BadRecords,
        drift: Schedule | None = None,
    ) -> None:
        self._name = name = type(source).__name__
        self.kind = kind_of(source)
        self._replays = self.kind == "replaying"
        self._on_disk = bool(settings.path)
        changes = drift.changes if drift else ()

        def open_here(schema: Schema | None) -> AppendLog | None:
            if drift is not None and schema is not None:
                Drift(drift, schema)  # a mistake in it is said before there is a folder that was begun with it
            return open_log(schema, partitions, settings, source=name, changes=changes)

        # What a record is, a source may declare, and a folder may know already.
        log = open_here(declared_schema(source))
        #: Records that the source gave in former lives; of a live source those that came into the log.
        self._given = 0 if log is None else log.taken(name) if self._replays else log.records
        self._records: Iterator[Any] = records_of(source, self._given)
        if log is None:
            log = open_here(self._first_schema())
        assert log is not None
        self.log: AppendLog = log
        try:
            if self._replays and log.info.source == INLET:  # what a writer of this name has given says nothing of it
                raise UsageError(f"the log in {settings.path} was written by an inlet: give another folder")
            self._drift = Drift(drift, log.info.schema) if drift else None
        except UsageError:
            log.close()
            raise
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
        return f"covers the source, which goes on at record {self._given:,}"

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
            for number, given in enumerate(self._records, self._given):
                self._append(given, number)
        except Exception as error:  # noqa: BLE001  (raised where it is served: a bug is as loud there)
            self.error = error
        else:
            self.log.end()

    def _append(self, given: object, number: int) -> None:
        writer: Numbered | None = (self._name, number) if self._replays else None
        try:
            record = record_of(given)
            self.bad_records.check(record)
            drifted = record if self._drift is None else self._drift.record(record, number, self.log.records)
            if drifted is not None:
                self.log.append(drifted, writer=writer)
            elif writer is not None:
                self.log.pass_over(writer)
        except DataFault as fault:
            self.bad_records.take(given, fault)
            if writer is not None:
                self.log.pass_over(writer)
