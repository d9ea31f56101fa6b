"""Who wrote which records of a log: each writer numbers what it gives, so that giving it again is safe.

A log in memory keeps its promise at once. One on disk writes later, and sometimes only a part of what waits: then the
runs say what the number of each writer is for exactly the records that were written.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from protocol.log import KeptWriter

logger = logging.getLogger(__name__)

#: The name of a writer, of 1 to 128 bytes, and its number of a record (of the first of several); it begins at 0.
Numbered = tuple[str, int]

#: Whoever opens a log may name as many as they like.
MAX_WRITERS: Final = 4096


class Run(NamedTuple):
    """From record `first` of the log on, `rows` come from the writer `name`, numbered from `number` on.

    Without rows, the writer's next number is `number` (some were passed over), or it is forgotten (None).
    """

    first: int
    name: str
    number: int | None
    rows: int

    @property
    def next_number(self) -> int | None:
        """The writer's next number, after the run."""
        return None if self.number is None else self.number + self.rows


class Writers:
    """The next number of each writer. The log that owns it holds its lock.

    `kept` is what a log on disk knows of former lives, who has given nothing for longest first; None: whatever is taken
    is durable. Where there are more than 4096 writers, that one is forgotten: for the log it would begin anew.
    """

    def __init__(self, kept: Mapping[str, int] | None = None) -> None:
        self._taken = dict(kept or {})
        self._durable = self._taken if kept is None else dict(kept)
        self._waits = kept is not None
        self._runs: list[Run] = []
        self._said = False

    def taken(self, name: str) -> int:
        """How many records of a writer were taken or passed over; 0 for one that is not known."""
        return self._taken.get(name, 0)

    def durable(self, name: str) -> int:
        """How many of them are durable."""
        return self._durable.get(name, 0)

    def give(self, writer: Numbered, first: int, rows: int) -> None:
        """So many records, from record `first` of the log on, come from this writer."""
        self._take(Run(first, *writer, rows))

    def pass_over(self, writer: Numbered, records: int) -> None:
        """The record of this number is not let into the log, which has so many records."""
        name, number = writer
        self._take(Run(records, name, number + 1, 0))

    def take_out(self) -> list[Run]:
        """What is not durable yet, oldest first; it comes back with `settle`."""
        runs, self._runs = self._runs, []
        return runs

    def settle(self, writers: Mapping[str, KeptWriter | None], rest: list[Run]) -> None:
        """This has become durable, and these of the runs that were taken out have not."""
        self._runs = rest + self._runs
        forgotten = {run.name for run in self._runs if run.number is None}
        for name, writer in writers.items():
            if writer is None or name in forgotten:  # what was durable of a writer is nothing once it begins anew
                self._durable.pop(name, None)
            else:
                self._durable[name] = writer.number

    def _take(self, run: Run) -> None:
        known = self._taken.pop(run.name, None) is not None
        assert run.next_number is not None
        self._taken[run.name] = run.next_number  # the one that has given last is last
        self._wait(run)
        if not known and len(self._taken) > MAX_WRITERS:
            silent = next(iter(self._taken))
            del self._taken[silent]
            self._durable.pop(silent, None)
            self._wait(Run(run.first + run.rows, silent, None, 0))
            if not self._said:
                self._said = True
                logger.warning("more than %d writers: the one silent for longest is forgotten each time", MAX_WRITERS)

    def _wait(self, run: Run) -> None:
        if not self._waits:
            return
        last = self._runs[-1] if self._runs else None
        if last is not None and last.name == run.name:
            if run.rows and last.rows and (last.first + last.rows, last.next_number) == (run.first, run.number):
                self._runs[-1] = last._replace(rows=last.rows + run.rows)
                return
            if last.rows == run.rows == 0:
                self._runs.pop()
        self._runs.append(run)


def writers_at(runs: Iterable[Run], records: int) -> tuple[dict[str, KeptWriter | None], list[Run]]:
    """The writers for the first `records` of a log, where they changed, and what is left of the runs."""
    writers: dict[str, KeptWriter | None] = {}
    rest: list[Run] = []
    for run in runs:
        done = min(run.rows, records - run.first)
        if done < 0 or (done == 0 and run.rows):
            rest.append(run)
            continue
        number = None if run.number is None else run.number + done
        writers[run.name] = None if number is None else KeptWriter(number, run.first + done)
        if done < run.rows:
            rest.append(Run(records, run.name, number, run.rows - done))
    return writers, rest
