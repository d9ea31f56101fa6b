"""A dataset as a log: the record at an offset is a pure function, so nothing is stored and everything replays."""

import json
import threading
from collections.abc import Mapping

import numpy as np

from producer.drift import Drift
from producer.pace import Pace
from producer.passes import Passes
from producer.source import Source, content_digest
from protocol.chunk import Chunk, Column, Ragged
from protocol.dealing import Dealing, Positions, stripe_for
from protocol.errors import BeyondLogEnd, UsageError
from protocol.log import Log
from protocol.stream import StreamInfo

#: Where an endless stream ends after all: years away at any rate, and every number on the way is exact in a float.
ENDLESS_RECORDS = 1 << 53
#: Records of a ragged split whose mean size decides its stripe.
SIZED_RECORDS = 64


class ComputedLog(Log):
    """Pass after pass over a source, each in a seeded order of its own, dealt to partitions in stripes.

    Record g of the stream is record `order[g % N]` of the source, where `order` is the permutation of pass g // N.
    It is drawn from numpy's `RandomState` of (seed, pass), whose stream is frozen by policy, so every life and every
    release replays the same stream. `passes` 0 is endless; `shuffle=False` keeps the source's own order. Without a
    `pace`, or with one of rate 0, the stream is there as fast as readers take. With a `drift`, a record is changed
    as its number says, and where some are left out, passes are shorter.

    The log end of an endless stream without a pace lies one to two passes (at least two turns of all partitions) beyond
    what has been read so far, so that the lag that people see stays a number of records that means something.
    """

    def __init__(  # noqa: PLR0913  (each is one word in a call)
        self,
        source: Source,
        dealing: Dealing,
        *,
        seed: int = 0,
        passes: int = 0,
        pace: Pace | None = None,
        shuffle: bool = True,
        drift: Drift | None = None,
    ) -> None:
        if len(source) == 0:
            raise UsageError(f"{source.name} is empty: a stream needs at least one record")
        if passes < 0:
            raise UsageError(f"{passes} passes are impossible: give a number, or 0 for an endless stream")
        self._source = source
        self._dealing = dealing
        self._drift = drift
        self._passes = Passes(source, seed=seed, shuffle=shuffle, thinning=drift.thinning if drift else None)
        self._per_pass = len(source)
        self._endless = passes == 0
        self._records = self._passes.end(passes) if passes else ENDLESS_RECORDS
        self._pace = Pace(0) if pace is None else pace
        self._reached = 0
        self._seen = threading.local()  # the log end that each thread was last told, for `due_in_s`
        self._lock = threading.Lock()
        self.info = StreamInfo(
            incarnation=incarnation(source, dealing, seed, shuffle=shuffle, drift=drift),
            schema=source.schema,
            dealing=dealing,
            splits={name: len(split) for name, split in source.splits().items()},
            records_per_pass=self._passes.end(1),
            changes=drift.changes if drift else (),
            source=source.name,
        )

    def log_start(self) -> Positions:
        return dict.fromkeys(range(self._dealing.partitions), 0)

    def log_end(self) -> Positions:
        self._seen.records = self._end(self._pace.now())
        return self._dealing.ends(self._seen.records)

    @property
    def ended(self) -> bool:
        return self._end(self._pace.now()) == self._records

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        first = self._dealing.record(partition, offset)
        end = self._end(self._pace.now())
        if first >= end:
            raise BeyondLogEnd(f"partition {partition} has no offset {offset} yet: it ends before")
        # Within a stripe neighbours in the partition are neighbours in the stream.
        count = min(max_records, self._dealing.stripe_end(offset) - offset, end - first)
        self._advance(first + count)
        first_time_ns, last_time_ns = self._pace.times_ns(first, first + count - 1)
        columns = self._source.take(self._passes.indices(first, count))
        if self._drift is not None:
            self._drift.change(first, count, columns)
        return Chunk(
            partition=partition,
            offset=offset,
            columns=columns,
            first_time_ns=first_time_ns,
            last_time_ns=last_time_ns,
        )

    def offset_at(self, partition: int, time_ns: int) -> int:
        return self.at(time_ns)[partition]

    def at(self, time_ns: int) -> Positions:
        record, end = self._pace.first_record_at(time_ns), self._end(self._pace.now())
        # The first offset at or after a record is where the partition would end if the record were not dealt yet.
        return self._dealing.ends(end if record < 0 else min(record, end))

    def reach(self, positions: Mapping[int, int]) -> None:
        """Moves the log end to the least number of records that covers these positions.

        Positions beyond the stream's end move nothing: whoever asks for them is refused, and no other reader harmed.
        Nor do those that lie too far beyond what is counted (`Passes.count`): raises `BeyondLogEnd`.
        """
        last = max((self._dealing.record(p, offset - 1) for p, offset in positions.items() if offset > 0), default=-1)
        records = last + 1
        if records > self._records:
            return
        self._passes.count(records)
        with self._lock:
            self._pace.reach(records)
        self._advance(records)

    def due_in_s(self) -> float | None:
        """Counted from the log end that the calling thread was told last, so that nothing released since is missed."""
        told = getattr(self._seen, "records", 0)
        if self._pace.rate == 0 or told == self._records:
            return None
        return self._pace.due_in_s(told, self._pace.now())

    def _end(self, now_s: float) -> int:
        """The number of records that can be read at this moment."""
        if self._pace.rate == 0:
            return min(self._ahead(), self._records) if self._endless else self._records
        with self._lock:
            return int(min(self._pace.released(now_s), self._records))

    def _ahead(self) -> int:
        turns = 2 * self._dealing.partitions * self._dealing.stripe
        passes = self._reached // self._per_pass + 1 + -(-turns // self._per_pass)
        return passes * self._per_pass

    def _advance(self, records: int) -> None:
        with self._lock:
            self._reached = max(self._reached, records)


def split_log(source: Source, stripe: int | None = None) -> ComputedLog:
    """A finite split: the source's own order, once, in one partition, complete from the start."""
    return ComputedLog(source, Dealing(1, stripe or stripe_of(source)), passes=1, shuffle=False)


def stripe_of(source: Source) -> int:
    """The stripe that fits the source's records; the first ones are measured where they differ in size."""
    if not source.schema.ragged:
        return stripe_for(source.schema.record_bytes)
    count = min(len(source), SIZED_RECORDS)
    columns = source.take(np.arange(count, dtype=np.int64))
    return stripe_for(sum(_bytes(column) for column in columns.values()) // count)


def incarnation(source: Source, dealing: Dealing, seed: int, *, shuffle: bool, drift: Drift | None = None) -> str:
    """The identity of the log's content: `passes` and `rate` are no part of it, nor is any path."""
    return content_digest(
        "computed log",
        source.fingerprint(),
        json.dumps(source.schema.to_wire()),
        dealing.partitions,
        dealing.stripe,
        f"seed {seed}" if shuffle else "in order",
        *(drift.identity if drift else ()),
    )


def _bytes(column: Column) -> int:
    return column.values.nbytes + column.lengths.nbytes if isinstance(column, Ragged) else column.nbytes
