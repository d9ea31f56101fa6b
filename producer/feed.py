"""A live source on the command line: any class whose objects yield records, fed into a log."""

import itertools
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords
from producer.inference import infer_schema
from producer.open_log import open_log
from protocol.errors import DataFault, HeadraceError, UsageError
from protocol.schema import Schema

logger = logging.getLogger(__name__)


class Feed:
    """Reads a live source in a thread of its own. `error` is what it died of, if it did."""

    def __init__(
        self,
        source: Iterable[Mapping[str, Any]],
        partitions: int,
        settings: LogSettings,
        bad_records: BadRecords,
    ) -> None:
        name = type(source).__name__
        self._records: Iterator[Mapping[str, Any]] = iter(source)
        log = open_log(None, partitions, settings, source=name)  # what a record is, a folder may know already
        if log is None:
            log = open_log(self._first_schema(name), partitions, settings, source=name)
        assert log is not None
        self.log: AppendLog = log
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

    def stop(self) -> None:
        """Nothing is held that must be released: the thread dies with the program."""

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
            self.log.append(record)
        except DataFault as fault:
            self.bad_records.take(record, fault)
