"""The first records of a source as a log would take them, without a log: what `--check` judges."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from producer.bad_records import BadRecords
from producer.dataset_source import column_of
from producer.source import Source
from producer.source_kind import record_of
from protocol.chunk import Column, value_of
from protocol.conform import RecordCheck
from protocol.errors import DataFault, HeadraceError
from protocol.inference import infer_schema
from protocol.schema import Schema

MOST_RECORDS: Final = 1000
MOST_BYTES: Final = 128 << 20
MOST_S: Final = 3.0
#: The first record may take longer: a device wakes up, a connection is made.
PATIENCE_S: Final = 15.0

Row = list[npt.NDArray[Any]]


@dataclass
class Sample:
    """What was read: a row (the values in the schema's order, copied) for each record, None for one that does not fit.

    `faults` are what was wrong with those, each kind once: its text, the number of the first, and how many there were.
    `failure` is what the source died of; `ended` says that it has no more records.
    """

    schema: Schema | None = None
    rows: list[Row | None] = field(default_factory=list)
    faults: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    failure: Exception | None = None
    ended: bool = False
    seconds: float = 0.0
    nbytes: int = 0

    @property
    def good(self) -> list[Row]:
        """The rows of the records that fit."""
        return [row for row in self.rows if row is not None]

    def columns(self, records: int = MOST_RECORDS) -> dict[str, Column]:
        """The first of the good rows, in columns."""
        if self.schema is None:
            return {}
        rows = self.good[:records]
        return {f.name: column_of(f, [row[at] for row in rows]) for at, f in enumerate(self.schema.fields)}


def read_sample(
    records: Iterator[Any], schema: Schema | None, bad_records: BadRecords, most: int = MOST_RECORDS
) -> Sample:
    """At most so many records, in a few seconds; what came until then where the source falls silent.

    Without a `schema` the first record shows it.
    """
    sample = Sample(schema)
    stop = threading.Event()
    arguments = (sample, records, bad_records, most, stop)
    thread = threading.Thread(target=_read, args=arguments, name="headrace-sample", daemon=True)
    thread.start()
    thread.join(MOST_S)
    if not sample.rows:
        thread.join(PATIENCE_S - MOST_S)
    stop.set()
    if sample.failure is not None and not isinstance(sample.failure, HeadraceError):
        raise sample.failure
    return sample


def records_at(source: Source) -> Iterator[Mapping[str, Any]]:
    """A dataset's records one by one, in the order of their indices."""
    for index in range(len(source)):
        columns = source.take(np.array([index], np.int64))
        yield {name: value_of(column, 0) for name, column in columns.items()}


def _read(sample: Sample, records: Iterator[Any], bad_records: BadRecords, most: int, stop: threading.Event) -> None:
    started_s, check = time.monotonic(), None
    try:
        for given in records:
            if stop.is_set():
                return
            if check is None:
                sample.schema = sample.schema or infer_schema(record_of(given))
                check = RecordCheck(sample.schema)
            _take(sample, check, given, bad_records)
            sample.seconds = time.monotonic() - started_s
            if len(sample.rows) >= most or sample.nbytes >= MOST_BYTES or sample.seconds >= MOST_S:
                return
        sample.ended = True
    except Exception as error:  # noqa: BLE001  (raised again, or said, in the caller's thread)
        sample.failure = error


def _take(sample: Sample, check: RecordCheck, given: object, bad_records: BadRecords) -> None:
    try:
        record = record_of(given)
        bad_records.check(record)
        values = check.record(record)
    except DataFault as fault:
        kind = re.sub(r"\d+", "#", str(fault))  # another label out of range is no other fault
        text, first, count = sample.faults.get(kind, (str(fault), len(sample.rows), 0))
        sample.faults[kind] = (text, first, count + 1)
        sample.rows.append(None)
        return
    # A source may give the same buffer again and again.
    row = [np.array(value, each.field.numpy_dtype) for value, each in zip(values, check.fields, strict=True)]
    sample.nbytes += sum(value.nbytes for value in row)
    sample.rows.append(row)
