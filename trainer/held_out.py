"""Held-out records of a stream without splits: the newest are kept beside the run, as far as its weights have come.

They lie in a folder as a recording does, each stream's in its own. What a checkpoint saw of them is what a life that
goes on from it sees again: the records behind its positions are not shown, and those that it needs stay until it is
pruned.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from protocol.chunk import Chunk, Columns, concatenate
from protocol.dealing import Positions
from protocol.errors import HeadraceError
from protocol.log_folder import LogFolder
from protocol.schema import Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from trainer.collation import Collate
from trainer.holdout import Holdout
from trainer.merge import Piece

logger = logging.getLogger(__name__)

MAX_OFFSET: Final = 1 << 62
#: New parts that the weights have not come past; a look at how far they have come is not worth each single one.
MOST_COMING: Final = 1024


class _Part(NamedTuple):
    """Consecutive records of one partition. `place` says which part is newer."""

    place: int
    partition: int
    offset: int
    chunk: Chunk


class HeldOut:
    """Keeps `most` records up to `trained`, positions that move on in place.

    A run that is `new` begins with none; one that goes on begins with those that lie before its positions. Which are
    the newest, the stream's order says; where it has none among its partitions, the time of the events does. What lies
    `before` is of streams that this one has followed, in order, and shown while this one has fewer.
    """

    #: A process may open a folder only once, and that of a stream which is followed may still be trimmed by then.
    _opening: ClassVar = threading.Lock()

    def __init__(  # noqa: PLR0913  (made where a stream begins, from what that has)
        self,
        folder: Path,
        info: StreamInfo,
        most: int,
        trained: Positions,
        *,
        new: bool = False,
        collate: Collate | None = None,
        before: Sequence[Chunk] = (),
    ) -> None:
        self._info, self._most, self._trained, self._collate = info, most, trained, collate
        self._path, self._before = folder / info.incarnation, before
        with self._open() as (log_folder, stored):
            partitions = {chunk.partition for chunk in stored.chunks()}  # also those that were added later
            with log_folder.writing() as transaction:
                for partition in partitions:
                    kept = 0 if new else trained.get(partition, 0)
                    stored.forget(transaction, partition, kept, MAX_OFFSET)
            #: Those that are shown, in order.
            self._shown = sorted(map(self._part, stored.chunks()), key=_in_order)
        #: Those that the weights have not come past yet, and those that are not on disk, by partition and offset.
        self._coming: list[_Part] = []
        self._unsaved: dict[tuple[int, int], Chunk] = {}
        #: Up to where the records of each partition were kept.
        self._known: Positions = {}
        self._look_at = MOST_COMING

    @classmethod
    def info_in(cls, folder: Path, incarnation: str) -> StreamInfo | None:
        """What a stream was of which something may have been kept there; None where nothing was."""
        path = folder / incarnation
        if not LogFolder.exists(path):
            return None
        with cls._opening, LogFolder(path, write=False) as opened:
            return opened.info("")

    def keep(self, piece: Piece) -> None:
        """The next held-out rows of their partition; those that are known already are read again."""
        partition, first = piece.chunk.partition, piece.end - piece.count
        known = min(max(self._known.get(partition, 0) - first, 0), piece.count)
        if known == piece.count:
            return
        rows = piece.chunk.part(piece.start + known, piece.stop)
        columns: Columns = {name: column.copy() for name, column in rows.columns.items()}  # the slot is used again
        own = Chunk(rows.partition, rows.offset, columns, rows.first_time_ns, rows.last_time_ns)
        self._coming.append(self._part(own))
        self._unsaved[partition, own.offset] = own
        self._known[partition] = piece.end
        if len(self._coming) > self._look_at:
            self._move_on()
            self._look_at = len(self._coming) + MOST_COMING

    @property
    def schema(self) -> Schema:
        """Of its records."""
        return self._info.schema

    @property
    def shown(self) -> list[Chunk]:
        """What the weights have come past, in order: the newest records, a few more than are kept at most."""
        self._move_on()
        return [*self._before, *(part.chunk for part in self._shown)]

    def dataset(self) -> Holdout:
        """The newest records that the weights have come past, in order; a map-style dataset, perhaps empty."""
        chunks = self.shown
        joined = {
            field.name: concatenate(field, [chunk.columns[field.name] for chunk in chunks])[-self._most :]
            for field in self._info.schema.fields
        }
        return Holdout(self._info.schema, self._info.incarnation, joined, self._collate)

    def save(self) -> Positions:
        """Return once what is shown now will be there again; gives back before which offsets nothing of it lies.

        Where there is no room that is said, and done with the next checkpoint: validation can do without.
        """
        self._move_on()
        with self._said("saved"), self._open() as (folder, stored):
            with folder.writing() as transaction:
                for chunk in self._unsaved.values():
                    stored.put(transaction, chunk)
            self._unsaved.clear()
        needed = dict(self._trained)
        for part in self._shown:
            needed[part.partition] = min(needed[part.partition], part.offset)
        return needed

    def trim(self, needed: Positions) -> None:
        """No checkpoint needs what lies before these offsets any more. May be called from another thread."""
        with self._said("trimmed"), self._open() as (folder, stored), folder.writing() as transaction:
            for partition, offset in needed.items():
                stored.forget(transaction, partition, 0, offset)

    @contextmanager
    def _open(self) -> Iterator[tuple[LogFolder, StoredLog]]:
        """For a moment: nobody says when a loader is not used any more, and a process may open a folder only once."""
        with self._opening, LogFolder(self._path, write=True) as folder:
            if folder.info("") is None:
                folder.create("", self._info)
            yield folder, StoredLog(folder, "")

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except (HeadraceError, OSError) as error:
            logger.warning("held-out records could not be %s: %s", what, error)

    def _move_on(self) -> None:
        """Show what the weights have come past meanwhile, and forget what is older than the newest `most` of that."""
        passed = [part for part in self._coming if part.chunk.end <= self._trained[part.partition]]
        if not passed:
            return
        self._coming = [part for part in self._coming if part.chunk.end > self._trained[part.partition]]
        self._shown = sorted(self._shown + passed, key=_in_order)
        records = sum(part.chunk.count for part in self._shown)
        gone = 0
        while records - self._shown[gone].chunk.count >= self._most:
            records -= self._shown[gone].chunk.count
            self._unsaved.pop((self._shown[gone].partition, self._shown[gone].offset), None)
            gone += 1
        del self._shown[:gone]
        if records >= self._most:
            self._before = ()

    def _part(self, chunk: Chunk) -> _Part:
        dealt = self._info.order == "stripes"
        place = self._info.dealing.record(chunk.partition, chunk.offset) if dealt else chunk.first_time_ns
        return _Part(place, chunk.partition, chunk.offset, chunk)


def _in_order(part: _Part) -> tuple[int, int, int]:
    return part[:3]
