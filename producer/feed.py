"""A live source on the command line: any class whose objects yield records, fed into a log."""

import itertools
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords
from producer.drift import Drift, Schedule
from producer.inference import infer_schema
from producer.open_log import open_log
from protocol.errors import DataFault, HeadraceError, UsageError
from protocol.schema import Schema

logger = logging.getLogger(__name__)


class Feed:
    """Reads a live source in a thread of its own; alone, it appends to its log. `error` is what it died of, if it did.

    A `drift` changes records, or leaves them out, as they come.
    """

    def __init__(
        self,
        source: Iterable[Mapping[str, Any]],
        partitions: int,
        settings: LogSettings,
        bad_records: BadRecords,
        drift: Schedule | None = None,
    ) -> None:
        name = type(source).__name__
        self._records: Iterator[Mapping[str, Any]] = iter(source)
        open_here = partial(
            open_log, partitions=partitions, settings=settings, source=name, changes=drift.changes if drift else ()
        )
        log = open_here(None)  # what a record is, a folder may know already
        if log is None:
            log = open_here(self._first_schema(name))
        assert log is not None
        self.log: AppendLog = log
        try:
            self._drift = Drift(drift, log.info.schema) if drift else None
        except UsageError:
            log.close()
            raise
        #: Records that the source gave, as the drift counts them: those of former lives that came among them.
        self._given = log.records
        self.bad_records = bad_records
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-feed", daemon=True)

    def _first_schema(self, name: str) -> Schema:
        """What a record is, as the first one shows."""
        first = next(self._records, None)
        if first is None:
            raise UsageError(f"{name} gives no record: a stream needs one to begin with")
        if not isinstance(first, Mapping):
            raise UsageError(f"{name} yields {type(first).__name__}; a record is a mapping of field names to values")
        self._records = itertools.chain([first], self._records)
        return infer_schema(first)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def _run(self) -> None:
        try:
            for record in self._records:
                self._append(record)
        except HeadraceError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  (the user's own code: whatever it raises ends the stream's feed)
            self.error = DataFault(f"the source failed: {type(error).__name__}: {error}")
        else:
            self.log.end()

    def _append(self, record: object) -> None:
        try:
            if not isinstance(record, Mapping):
                raise DataFault(f"the source gave a {type(record).__name__}: a record is a mapping of fields to values")
            self.bad_records.check(record)
            drifted = record if self._drift is None else self._drift.record(record, self._given, self.log.records)
            self._given += 1
            if drifted is not None:
                self.log.append(drifted)
        except DataFault as fault:
            self.bad_records.take(record, fault)
