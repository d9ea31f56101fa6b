"""What a log on disk has in its folder, and how one synced transaction changes that."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from producer.append_log import LogSettings
from producer.block import Block
from producer.retained import Retained
from producer.writers import Run, writers_at
from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import LogFull
from protocol.log import KeptGroup, KeptWriter
from protocol.log_folder import LogFolder, Transaction
from protocol.messages import STREAM
from protocol.stored_log import StoredLog

#: Rows of a block that are to be written: (number of the first record, block, first row, end row).
Rows = tuple[int, Block, int, int]

#: A value ends somewhere in its last page.
PAGE_BYTES: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a transaction has made durable: records, the numbers of those who wrote them, stripes forgotten, the end.

    `rest` is what is left of the writers' runs, `stuck` what was in its way.
    """

    records: int
    writers: Mapping[str, KeptWriter | None]
    rest: list[Run]
    forgotten: int
    ended: bool
    nbytes: int
    stuck: LogFull | None


class DiskStripes:
    """The stripes in a folder, oldest first. One thread writes; what is read by others is changed by `apply` alone."""

    def __init__(
        self, folder: LogFolder, settings: LogSettings, wall_clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.stored = stored = StoredLog(folder, STREAM)
        self._folder, self._settings, self._wall_clock_ns = folder, settings, wall_clock_ns
        self._dealing = stored.info.dealing
        start, end = stored.log_start(), stored.log_end()
        self.records, self.ended = sum(end.values()), False
        self.retained = Retained(self._dealing, sum(start.values()) // self._dealing.stripe)
        with folder.writing() as transaction:  # what had ended goes on
            stored.put_state(transaction, start=start, end=end, ended=False)
            self.nbytes = stored.nbytes(transaction)

    def log_start(self) -> Positions:
        """The first offset of each partition that is kept."""
        return self.retained.start(self.records)

    def log_end(self) -> Positions:
        """The offset of each partition after its last durable record."""
        return self._dealing.ends(self.records)

    def passed(self) -> int:
        """How many stripes, from the first on, nobody needs."""
        first = number = self.retained.first
        while number < self._complete and not self.retained.needed(number):
            number += 1
        return number - first

    def outdated(self, passed: int) -> int:
        """How many stripes after those that have passed are older than what is kept."""
        if not self._settings.keep:
            return 0
        oldest_ns = self._wall_clock_ns() - int(self._settings.keep * 1e9)
        first = number = self.retained.first + passed
        while number < self._complete:
            partition, offset = self._dealing.locate((number + 1) * self._dealing.stripe - 1)
            if self.stored.read(partition, offset, 1).last_time_ns >= oldest_ns:
                break
            number += 1
        return number - first

    def write(
        self,
        rows: Iterable[Rows],
        runs: Iterable[Run],
        groups: Mapping[str, KeptGroup | None],
        *,
        forget: int,
        ended: bool,
    ) -> Written:
        """Everything in one synced transaction: groups, then stripes forgotten, then as many rows as find room, and of
        these who wrote them.

        Raises `LogFull` where the disk has no room for it; then nothing of it was done.
        """
        with self._folder.writing() as transaction:
            for name, group in groups.items():
                self._folder.put_group(transaction, name, group)
            self._forget(transaction, 0, forget)
            records, stuck = self.records, None
            for each in rows:
                chunk = self._chunk(*each)
                while stuck is None and self._full_with(transaction, chunk):
                    if self._settings.full == "drop-oldest" and self.retained.first + forget < self._complete:
                        self._forget(transaction, forget, forget + 1)
                        forget += 1
                    else:
                        size = f"the log in {self._folder.path} is full ({self._settings.max_bytes} bytes)"
                        stuck = LogFull(f"{size}: trainers must commit, or it must be larger")
                if stuck is not None:
                    break
                self.stored.put(transaction, chunk)
                records += chunk.count
            writers, rest = writers_at(runs, records)
            for name, writer in writers.items():
                self._folder.put_writer(transaction, name, writer)
            ended = ended and stuck is None
            start = self._dealing.ends((self.retained.first + forget) * self._dealing.stripe)
            self.stored.put_state(transaction, start=start, end=self._dealing.ends(records), ended=ended)
            nbytes = self.stored.nbytes(transaction)
        return Written(
            records=records,
            writers=writers,
            rest=rest,
            forgotten=forget,
            ended=ended,
            nbytes=nbytes,
            stuck=stuck,
        )

    def apply(self, written: Written) -> None:
        """From here on that is the state."""
        self.records, self.ended, self.nbytes = written.records, written.ended, written.nbytes
        for _ in range(written.forgotten):
            self.retained.forget()

    @property
    def _complete(self) -> int:
        """Number of stripes that are wholly on disk; no other is ever forgotten."""
        return self.records // self._dealing.stripe

    def _full_with(self, transaction: Transaction, chunk: Chunk) -> bool:
        return self.stored.nbytes(transaction) + chunk.nbytes + PAGE_BYTES > self._settings.max_bytes

    def _forget(self, transaction: Transaction, start: int, end: int) -> None:
        """Remove stripes, counted from the first that is kept."""
        for number in range(self.retained.first + start, self.retained.first + end):
            partition, offset = self._dealing.locate(number * self._dealing.stripe)
            self.stored.forget(transaction, partition, offset, offset + self._dealing.stripe)

    def _chunk(self, first: int, block: Block, row: int, end: int) -> Chunk:
        partition, offset = self._dealing.locate(first)
        return Chunk(
            partition=partition,
            offset=offset,
            columns=block.columns(row, end),
            first_time_ns=block.time_ns(row),
            last_time_ns=block.time_ns(end - 1),
        )
