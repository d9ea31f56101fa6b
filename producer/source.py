"""A finite source: a set of records that can be read by index, again and again, and always alike."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from protocol.chunk import Column, Ragged
from protocol.errors import UsageError
from protocol.schema import Schema

Indices = npt.NDArray[np.int64]
#: How many records a split has: a number, or a share of all where it is below 1.
Size = int | float

MAX_SEED = (1 << 32) - 1
DIGEST_BYTES = 16

#: Keeps the draws for a split apart from those for the passes (producer/computed_log.py) under one seed.
SPLIT_DRAW = 0x73706C74
#: A name that users give to a split; it becomes that of a folder and of charts.
SPLIT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


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
            name: column.take(indices) if isinstance(column, Ragged) else column.take(indices, axis=0)
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


def divide(source: Source, sizes: Mapping[str, Size], seed: int) -> Source:
    """`source` without the records of these splits, drawn one after the other; other splits of the source stay.

    So a split has the same records whatever is named after it. Raises `UsageError` for what cannot be held out.
    """
    if not sizes:
        return source
    own = source.splits()
    kept, splits = drawn_splits(source, sizes, seed)
    if twice := next((name for name in splits if name in own), None):
        raise UsageError(
            f"{source.name} brings a split {twice!r} of its own: give its size to the source, where that takes one "
            f"(--source.{twice}), or leave it out"
        )
    return Subset(source, kept, splits={**splits, **own})


def drawn_splits(source: Source, sizes: Mapping[str, Size], seed: int) -> tuple[Indices, dict[str, Source]]:
    """The indices that are kept, and the splits by name. Raises `UsageError` for what cannot be held out."""
    counts = split_counts(len(source), sizes)
    kept, *held = divided_indices(len(source), list(counts.values()), seed)
    names = zip(counts, held, strict=True)
    return kept, {name: Subset(source, indices, name=f"{source.name} {name}") for name, indices in names}


def split_counts(records: int, sizes: Mapping[str, Size]) -> dict[str, int]:
    """How many of so many records each split has, at least one. Raises `UsageError`."""
    counts = {name: _count(records, name, size) for name, size in sizes.items()}
    if counts and sum(counts.values()) >= records:
        raise UsageError(
            f"cannot hold out {sum(counts.values())} of {records} records: nothing would be left to train on"
        )
    return counts


def _count(records: int, name: str, size: Size) -> int:
    if not SPLIT_NAME.fullmatch(name):
        raise UsageError(f"a split cannot be called {name!r}: give a name of letters, digits and _, such as dark_room")
    share = size < 1
    if size < 0 or not (share or float(size).is_integer()):
        mend = "give a number of records or a share between 0 and 1"
        raise UsageError(f"cannot hold out {size!r} records as the split {name!r}: {mend}")
    count = round(records * size) if share else int(size)
    if not count:
        raise UsageError(f"the split {name!r} would hold none of {records} records: give it more, or leave it out")
    return count


def divided_indices(records: int, held_out: Sequence[int], seed: int) -> list[Indices]:
    """What is kept, and what each split holds of 0 to `records` - 1: ascending arrays, divided at random by `seed`.

    Drawn from numpy's `RandomState`, whose stream is frozen by policy, so the same seed divides alike for ever.
    """
    order = random_state(seed, SPLIT_DRAW).permutation(records).astype(np.int64, copy=False)
    *held, kept = np.split(order, np.cumsum(held_out, dtype=np.int64))
    return [np.sort(part) for part in (kept, *held)]


def random_state(seed: int, *draw: int) -> np.random.RandomState:
    """The frozen generator of `seed` for one purpose, named by further words of 32 bits."""
    check_seed(seed)
    return np.random.RandomState(np.array([seed, *draw], np.uint32))


def check_seed(seed: int) -> None:
    """Raise `UsageError` for a seed that has not 32 bits."""
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed {seed} is out of range: give one from 0 to {MAX_SEED}")


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
