"""Held-out records of a stream without splits: the newest are kept beside the run, as far as its weights have come.

They lie in a folder as a recording does. What a checkpoint saw of them is what a life that goes on from it sees again:
the records behind its positions are not shown, and those that it needs stay until it is pruned.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from protocol.chunk import Chunk, Columns, concatenate
from protocol.dealing import Positions, Turns
from protocol.errors import HeadraceError
from protocol.log_folder import LogFolder
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from trainer.collation import Collate
from trainer.holdout import Holdout
from trainer.merge import Piece

logger = logging.getLogger(__name__)

MAX_OFFSET: Final = 1 << 62
#: Parts that the weights have not come past; a look at how far they have come is not worth each single one.
MOST_COMING: Final = 1024


class _Part(NamedTuple):
    """Consecutive records, by the number of the first in stream order."""

    number: int
    chunk: Chunk


class HeldOut:
    """Keeps `most` records up to `trained`, positions that move on in place; what comes is added in stream order.

    A run that is `new` begins with none; one that goes on begins with those that lie before its positions.
    """

    def __init__(
        self,
        folder: Path,
        info: StreamInfo,
        most: int,
        trained: Positions,
        *,
        new: bool = False,
        collate: Collate | None = None,
    ) -> None:
        self._info, self._most, self._trained, self._collate = info, most, trained, collate
        self._path = folder / info.incarnation
        self._lock = threading.Lock()
        kept = info.dealing.ends(0 if new else self._next)
        with self._open() as (log_folder, stored):
            with log_folder.writing() as transaction:
                for partition, end in kept.items():
                    stored.forget(transaction, partition, end, MAX_OFFSET)
            parts = sorted(_Part(self._number(chunk), chunk) for chunk in stored.chunks())
        #: Those that are shown, those that the weights have not come past yet, and those that are not on disk.
        self._shown, self._coming, self._unsaved = deque(parts), deque[_Part](), deque[Chunk]()
        self._records = sum(part.chunk.count for part in parts)
        self._behind = 0

    def keep(self, piece: Piece) -> None:
        """The next held-out rows; those that are known already are read again."""
        number = self._number(piece.chunk) + piece.start
        known = min(max(self._behind - number, 0), piece.count)
        if known == piece.count:
            return
        rows = piece.chunk.part(piece.start + known, piece.stop)
        columns: Columns = {name: column.copy() for name, column in rows.columns.items()}  # the slot is used again
        own = Chunk(rows.partition, rows.offset, columns, rows.first_time_ns, rows.last_time_ns)
        self._coming.append(_Part(number + known, own))
        self._unsaved.append(own)
        self._behind = number + piece.count
        if len(self._coming) > MOST_COMING:
            self._move_on()

    def dataset(self) -> Holdout:
        """The newest records that the weights have come past, in stream order; a map-style dataset, perhaps empty."""
        self._move_on()
        joined = {
            field.name: concatenate(field, [part.chunk.columns[field.name] for part in self._shown])[-self._most :]
            for field in self._info.schema.fields
        }
        return Holdout(self._info.schema, self._info.incarnation, joined, self._collate)

    def save(self) -> int:
        """Return once what is shown now will be there again; gives back the number of the oldest record of it.

        Where there is no room that is said, and done with the next checkpoint: validation can do without.
        """
        self._move_on()
        with self._said("saved"), self._open() as (folder, stored):
            with folder.writing() as transaction:
                for chunk in self._unsaved:
                    stored.put(transaction, chunk)
            self._unsaved.clear()
        return self._shown[0].number if self._shown else 0

    def trim(self, number: int) -> None:
        """No checkpoint needs what lies before this record any more. May be called from another thread."""
        ends = self._info.dealing.ends(number)
        with self._said("trimmed"), self._open() as (folder, stored), folder.writing() as transaction:
            for partition, end in ends.items():
                stored.forget(transaction, partition, 0, end)

    @contextmanager
    def _open(self) -> Iterator[tuple[LogFolder, StoredLog]]:
        """For a moment: nobody says when a loader is not used any more, and a process may open a folder only once."""
        with self._lock, LogFolder(self._path, write=True) as folder:
            if folder.info("") is None:
                folder.create("", self._info)
            yield folder, StoredLog(folder, "")

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except (HeadraceError, OSError) as error:
            logger.warning("held-out records could not be %s: %s", what, error)

    @property
    def _next(self) -> int:
        """The number of the next record to be trained."""
        partition = Turns(self._info.dealing, self._trained).partition
        return self._info.dealing.record(partition, self._trained[partition])

    def _move_on(self) -> None:
        """Show what the weights have come past meanwhile, and forget what is older than the newest `most` of that."""
        next_number = self._next
        while self._coming and self._coming[0].number < next_number:
            part = self._coming.popleft()
            self._shown.append(part)
            self._records += part.chunk.count
        while self._shown and self._records - self._shown[0].chunk.count >= self._most:
            gone = self._shown.popleft().chunk
            self._records -= gone.count
            if self._unsaved and self._unsaved[0] is gone:
                self._unsaved.popleft()

    def _number(self, chunk: Chunk) -> int:
        return self._info.dealing.record(chunk.partition, chunk.offset)
