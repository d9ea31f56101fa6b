"""A finite source: a set of records that can be read by index, again and again, and always alike."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from protocol.chunk import Column, Ragged
from protocol.errors import UsageError
from protocol.schema import Schema

Indices = npt.NDArray[np.int64]

MAX_SEED = (1 << 32) - 1
DIGEST_BYTES = 16

#: Keeps the draws for a split apart from those for the passes (producer/computed_log.py) under one seed.
SPLIT_DRAW = 0x73706C74


class Source(ABC):
    """`len(source)` records, 0 to N - 1, of one schema.

    `name` is for people. Everything that `take` gives depends on the indices alone: a log that replays for ever
    rests on it, so random augmentation belongs to the trainer.
    """

    name: str
    schema: Schema

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    @abstractmethod
    def take(self, indices: Indices) -> dict[str, Column]:
        """The records at these indices, in this order: an array [n, *shape] a field, or `Ragged`.

        The arrays are the caller's own. Raises `DataFault` where a record is not what the schema says.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest of the content and of the arguments that shape it; never of paths or times."""

    def splits(self) -> Mapping[str, "Source"]:
        """The finite sides of the stream by name (`validation`, `test`)."""
        return {}


class ColumnSource(Source):
    """Columns that lie in memory: each an array [N, *shape] or `Ragged`, as the schema says."""

    def __init__(self, name: str, schema: Schema, columns: Mapping[str, Column]) -> None:
        if set(columns) != {field.name for field in schema.fields}:
            raise ValueError(f"columns {sorted(columns)} where the schema has {[f.name for f in schema.fields]}")
        counts = {len(column) for column in columns.values()}
        if len(counts) != 1:
            raise ValueError(f"the columns differ in length: {sorted(counts)}")
        for field in schema.fields:
            column = columns[field.name]
            values = column.values if isinstance(column, Ragged) else column
            if isinstance(column, Ragged) != field.ragged or values.shape[1:] != field.item_shape:
                raise ValueError(f"field {field.name!r}: a column of shape {values.shape} where {field.shape} is due")
            if values.dtype != field.numpy_dtype:
                raise ValueError(f"field {field.name!r}: a column of {values.dtype} where {field.dtype} is due")
        self.name = name
        self.schema = schema
        self._columns = dict(columns)
        self._count = counts.pop()
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Indices) -> dict[str, Column]:
        return {
            name: _take_ragged(column, indices) if isinstance(column, Ragged) else column.take(indices, axis=0)
            for name, column in self._columns.items()
        }

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            parts: list[str | npt.NDArray[np.generic]] = []
            for name, column in sorted(self._columns.items()):
                parts += [name, *((column.lengths, column.values) if isinstance(column, Ragged) else (column,))]
            self._fingerprint = content_digest(*parts)
        return self._fingerprint


class Subset(Source):
    """The records of `source` at `indices`, in that order, with named sides of its own."""

    def __init__(
        self, source: Source, indices: Indices, *, name: str | None = None, splits: Mapping[str, Source] | None = None
    ) -> None:
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1 or (len(indices) and not 0 <= indices.min() <= indices.max() < len(source)):
            raise ValueError(f"indices of shape {indices.shape} that do not all lie in 0 to {len(source) - 1}")
        self.name = source.name if name is None else name
        self.schema = source.schema
        self._source = source
        self._indices = indices
        self._splits = dict(splits or {})

    def __len__(self) -> int:
        return len(self._indices)

    def take(self, indices: Indices) -> dict[str, Column]:
        return self._source.take(self._indices[indices])

    def fingerprint(self) -> str:
        return content_digest("subset", self._source.fingerprint(), self._indices)

    def splits(self) -> Mapping[str, Source]:
        return self._splits


def divide(source: Source, held_out: int | float, seed: int) -> Source:
    """`source` without `held_out` of its records, which become its split `validation`.

    `held_out` is a number of records, or a share where it is below 1. Other splits of the source stay.
    """
    count = held_out_count(len(source), held_out)
    if count == 0:
        return source
    if "validation" in source.splits():
        raise UsageError(f"{source.name} brings a validation split of its own: leave out the number to hold out")
    kept, held = divided_indices(len(source), count, seed)
    validation = Subset(source, held, name=f"{source.name} validation")
    return Subset(source, kept, splits={"validation": validation, **source.splits()})


def held_out_count(records: int, held_out: int | float) -> int:
    """The number of records that `held_out` (a number, or a share below 1) means; raises `UsageError`."""
    share = held_out < 1
    if held_out < 0 or not (share or float(held_out).is_integer()):
        raise UsageError(f"cannot hold out {held_out!r} records: give a number of records or a share between 0 and 1")
    count = round(records * held_out) if share else int(held_out)
    if count and count >= records:
        raise UsageError(f"cannot hold out {count} of {records} records: nothing would be left to train on")
    return count


def divided_indices(records: int, held_out: int, seed: int) -> tuple[Indices, Indices]:
    """(kept, held out): two ascending arrays that divide 0 to `records` - 1 at random by `seed`.

    Drawn from numpy's `RandomState`, whose stream is frozen by policy, so the same seed divides alike for ever.
    """
    order = random_state(seed, SPLIT_DRAW).permutation(records).astype(np.int64, copy=False)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def random_state(seed: int, *draw: int) -> np.random.RandomState:
    """The frozen generator of `seed` for one purpose, named by further words of 32 bits."""
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed {seed} is out of range: give one from 0 to {MAX_SEED}")
    return np.random.RandomState(np.array([seed, *draw], np.uint32))


def content_digest(*parts: str | int | bytes | npt.NDArray[np.generic]) -> str:
    """32 hex digits over the parts in order; each is framed with its kind, so no two lists of parts run together."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            digest.update(f"array {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        else:
            raw = part if isinstance(part, bytes) else str(part).encode()
            digest.update(f"{type(part).__name__} {len(raw)}\n".encode())
            digest.update(raw)
    return digest.hexdigest()


def _take_ragged(column: Ragged, indices: Indices) -> Ragged:
    ends = np.cumsum(column.lengths, dtype=np.int64)
    lengths = column.lengths[indices]
    first = ends[indices] - lengths
    # One flat gather: each record's first element, plus how far every element lies inside its record.
    inside = np.arange(lengths.sum(dtype=np.int64)) - np.repeat(np.cumsum(lengths, dtype=np.int64) - lengths, lengths)
    return Ragged(lengths, column.values[np.repeat(first, lengths) + inside])
