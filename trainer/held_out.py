"""Held-out records of a stream without splits: the newest are kept beside the run, as far as its weights have come.

They lie in a folder as a recording does. What a checkpoint saw of them is what a life that goes on from it sees again:
the records behind its positions are not shown, and those that it needs stay until it is pruned.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.chunk import Chunk
from protocol.dealing import Positions, Turns
from protocol.log_folder import LogFolder
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from trainer.holdout import Holdout
from trainer.merge import Piece


class _Part(NamedTuple):
    """Consecutive records, by the number of the first in stream order."""

    number: int
    chunk: Chunk


class HeldOut:
    """Keeps `most` records up to `trained`, positions that move on in place; what comes is added in stream order."""

    def __init__(self, folder: Path, info: StreamInfo, most: int, trained: Positions) -> None:
        self._info, self._most, self._trained = info, most, trained
        self._path = folder / info.incarnation
        self._lock = threading.Lock()
        with self._open() as (_, stored):
            parts = sorted(_Part(self._number(chunk), chunk) for chunk in stored.chunks())
        self._parts = deque(parts)
        self._records = sum(part.chunk.count for part in parts)
        self._unsaved: deque[Chunk] = deque()
        self._behind = self._parts[-1].number + self._parts[-1].chunk.count if parts else 0

    def keep(self, piece: Piece) -> None:
        """The next held-out rows; those that are known already are read again."""
        number = self._number(piece.chunk) + piece.start
        known = min(max(self._behind - number, 0), piece.count)
        if known == piece.count:
            return
        rows = piece.chunk.part(piece.start + known, piece.stop)
        columns = {name: np.array(column) for name, column in rows.columns.items()}  # the slot is used again
        own = Chunk(rows.partition, rows.offset, columns, rows.first_time_ns, rows.last_time_ns)
        self._parts.append(_Part(number + known, own))
        self._unsaved.append(own)
        self._records += own.count
        self._behind = number + piece.count
        if self._records > 2 * self._most:
            self._forget_old()

    def dataset(self) -> Holdout:
        """The newest records that the weights have come past, in stream order; a map-style dataset, perhaps empty."""
        self._forget_old()
        columns: dict[str, list[npt.NDArray[Any]]] = {field.name: [] for field in self._info.schema.fields}
        for part in self._shown():
            for name, column in part.columns.items():
                columns[name].append(np.asarray(column))
        empty = {field.name: np.empty((0, *field.item_shape), field.numpy_dtype) for field in self._info.schema.fields}
        joined = {name: np.concatenate([empty[name], *parts])[-self._most :] for name, parts in columns.items()}
        return Holdout(self._info.schema, self._info.incarnation, joined)

    def save(self) -> int:
        """Return once what is shown now will be there again; gives back the number of the oldest record of it."""
        with self._open() as (folder, stored), folder.writing() as transaction:
            for chunk in self._unsaved:
                stored.put(transaction, chunk)
        self._unsaved.clear()
        self._forget_old()
        return self._parts[0].number if self._parts else 0

    def trim(self, number: int) -> None:
        """No checkpoint needs what lies before this record any more. May be called from another thread."""
        ends = self._info.dealing.ends(number)
        with self._open() as (folder, stored), folder.writing() as transaction:
            for partition, end in ends.items():
                stored.forget(transaction, partition, 0, end)

    @contextmanager
    def _open(self) -> Iterator[tuple[LogFolder, StoredLog]]:
        """For a moment: nobody says when a loader is not used any more, and a process may open a folder only once."""
        with self._lock, LogFolder(self._path, write=True) as folder:
            if folder.info("") is None:
                folder.create("", self._info)
            yield folder, StoredLog(folder, "")

    def _shown(self) -> list[Chunk]:
        next_number = self._next
        return [part.chunk for part in self._parts if part.number < next_number]

    @property
    def _next(self) -> int:
        """The number of the next record to be trained."""
        partition = Turns(self._info.dealing, self._trained).partition
        return self._info.dealing.record(partition, self._trained[partition])

    def _forget_old(self) -> None:
        """In memory: those before the newest `most` that are shown."""
        shown = sum(chunk.count for chunk in self._shown())
        while self._parts and shown - self._parts[0].chunk.count >= self._most:
            gone = self._parts.popleft().chunk.count
            shown -= gone
            self._records -= gone

    def _number(self, chunk: Chunk) -> int:
        return self._info.dealing.record(chunk.partition, chunk.offset)
