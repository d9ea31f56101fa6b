"""Shuffle windows: a fixed range of the stream is gathered and trained in an order that depends on the seed alone."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.chunk import Column, Ragged, concatenate, ragged
from protocol.dealing import Dealing, Positions
from protocol.schema import Schema
from trainer.assembly import Rows
from trainer.handed_out import HandedOutWindows
from trainer.merge import Merge, Piece
from trainer.order import Keep, leave_out
from trainer.origin import ShuffledRows
from trainer.trail import Hole, Passed
from trainer.windowed_trail import Window


@dataclass(frozen=True, eq=False)
class ShuffledPiece:
    """Rows of a shuffled window."""

    columns: dict[str, Column]
    origin: ShuffledRows
    release: Callable[[], None] | None = None

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.origin.records


class Shuffled:
    """Each window of `size` records of the stream in an order drawn from `seed` and the window's number.

    Windows lie at fixed records of the stream, so that the order of a window is the same wherever a run begins in it
    or goes on. Its first rows that were `trained` by an earlier life are not given out again. With `label` as many rows
    of each class are given out as the rarest one has.
    """

    def __init__(  # noqa: PLR0913  (made in one place, from what that has)
        self,
        merge: Merge,
        handed_out: HandedOutWindows,
        keep: Keep | None,
        *,
        schema: Schema,
        dealing: Dealing,
        size: int,
        seed: int,
        label: str | None = None,
        trained: int = 0,
    ) -> None:
        self._merge, self._handed_out, self._keep = merge, handed_out, keep
        self._dealing, self._size, self._seed, self._label = dealing, size, seed, label
        self._trained = trained
        self._ragged = [field for field in schema.fields if field.ragged]
        fixed = (field for field in schema.fields if not field.ragged)
        self._rows = {field.name: np.empty((size, *field.item_shape), field.numpy_dtype) for field in fixed}
        self._where = np.empty((3, size), np.int64)  # partition, offset, event time
        self._shuffled: ShuffledPiece | None = None
        self._given = 0
        self._begin()

    def _begin(self) -> None:
        self._passed: list[Passed | Hole] = []
        self._count = 0
        self._pieces: dict[str, list[Column]] = {field.name: [] for field in self._ragged}
        self._number: int | None = None
        self._before = dict(self._merge.positions)

    # --- gathering a window --------------------------------------------------------------------------------------

    def ready(self) -> int:
        while not self._left and self._merge.waiting:
            self._gather()
            if self._next()[0] != self._number:
                self._complete()
        return self._left

    @property
    def _left(self) -> int:
        return 0 if self._shuffled is None else self._shuffled.count - self._given

    def _next(self) -> tuple[int, int]:
        """The window of the record whose turn it is, and its place there, whether it has come or not."""
        merge = self._merge
        return divmod(self._dealing.record(merge.partition, merge.positions[merge.partition]), self._size)

    def _gather(self) -> None:
        """Take what is next in the stream into the window."""
        merge = self._merge
        self._number, row = self._next()
        if (hole := merge.pass_over()) is not None:
            self._passed.append(hole)
            return
        piece = merge.take(self._size - row)
        assert piece is not None, "something waits"
        self._passed.append(Passed(piece.chunk.partition, piece.count, piece.fate))
        if piece.fate == "trained":
            self._copy(piece)
        else:
            leave_out(piece, self._keep)

    def _copy(self, piece: Piece) -> None:
        end = self._count + piece.count
        for name, column in piece.columns.items():
            if isinstance(column, Ragged):
                self._pieces[name].append(column.copy())
            else:
                self._rows[name][self._count : end] = column
        chunk = piece.chunk
        first_ns, last_ns = chunk.time_ns(piece.start), chunk.time_ns(piece.stop - 1)
        self._where[0, self._count : end] = chunk.partition
        self._where[1, self._count : end] = np.arange(chunk.offset + piece.start, chunk.offset + piece.stop)
        self._where[2, self._count : end] = first_ns + np.linspace(0, last_ns - first_ns, piece.count).astype(np.int64)
        self._count = end
        if piece.release is not None:
            piece.release()

    # --- shuffling it --------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        """All of the window has come."""
        assert self._number is not None, "a window has something"
        identity = blake2b(self._where[:2, : self._count].tobytes(), digest_size=16).hexdigest()
        if not self._handed_out.is_begun(identity, self._passed):
            self._trained = 0
            self._begin()
            return
        drawn = np.random.RandomState([self._seed, self._number % 2**32, self._number // 2**32])
        order = drawn.permutation(self._count)
        if self._label is not None:
            kept = balanced(self._rows[self._label][order])
            order = drawn.permutation(order[kept])  # as it was, the frequent classes would all come early
            self._thin(order)
        partitions, offsets, times_ns = self._where[:, order]
        self._handed_out.copy_window(Window(self._passed, partitions, identity))
        origin = ShuffledRows(partitions=partitions, offsets=offsets, times_ns=times_ns, before=self._before)
        columns: dict[str, Column] = {name: rows[order] for name, rows in self._rows.items()}
        for field in self._ragged:
            columns[field.name] = ragged(concatenate(field, self._pieces[field.name])).take(order)
        self._shuffled = ShuffledPiece(columns, origin)
        self._given, self._trained = min(self._trained, len(order)), 0
        self._begin()

    def _thin(self, order: npt.NDArray[np.int64]) -> None:
        """Of the gathered rows only those in `order` are trained."""
        trained = np.zeros(self._count, bool)
        trained[order] = True
        first = 0
        passed: list[Passed | Hole] = []
        for each in self._passed:
            if not isinstance(each, Passed) or each.fate != "trained":
                passed.append(each)
                continue
            count = int(trained[first : first + each.rows].sum())
            parts = Passed(each.partition, count), Passed(each.partition, each.rows - count, "thinned")
            passed += [part for part in parts if part.rows]
            first += each.rows
        self._passed = passed

    # --- giving it out -------------------------------------------------------------------------------------------

    def take(self, most: int) -> Rows | None:
        if self._shuffled is None or not self._left:
            return None
        first, self._given = self._given, min(self._given + most, self._shuffled.count)
        rows = slice(first, self._given)
        columns = {name: column[rows] for name, column in self._shuffled.columns.items()}
        piece = ShuffledPiece(columns, self._shuffled.origin.part(rows))
        if not self._left:
            self._shuffled = None  # its memory is free before the next window needs as much
        return piece

    def finish(self) -> bool:
        if self._number is None:
            return False
        self._complete()
        return True

    def gathered(self) -> Positions:
        counts: Positions = {}
        for each in self._passed:
            if isinstance(each, Passed):
                counts[each.partition] = counts.get(each.partition, 0) + each.rows
        return counts


def balanced(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The places of the first rows of each class, as many of each as there are of the rarest, in ascending order."""
    if not len(labels):
        return np.arange(0)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    places = np.concatenate([np.flatnonzero(classes == each)[: counts.min()] for each in range(len(counts))])
    return np.sort(places)
