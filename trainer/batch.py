"""A batch: what one optimizer step trains on, a part of a block that is written once."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from protocol.chunk import Ragged
from protocol.dealing import Dealing, Positions
from trainer.origin import Origin


class Block:
    """Memory for consecutive batches of `batch_size` rows, and where its rows come from.

    `tensors` hold the columns [rows, *shape]; `positions` are those before the first row. The batches' parts of a
    column are made all at once, when one of them is first asked for: that costs less than half of slicing one by one.
    What `ragged` gives of further columns is made when one is first asked for, and is of one batch, the block's only
    one; `pieces` is what it is made of.
    """

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        batch_size: int,
        positions: Positions,
        ragged: Callable[[], Mapping[str, torch.Tensor]] | None = None,
        pieces: Mapping[str, Sequence[Ragged]] | None = None,
    ) -> None:
        self.batch_size = batch_size
        self._tensors, self._ragged = tensors, ragged
        self.pieces = pieces or {}
        self._positions = positions
        self._parts: dict[str, tuple[torch.Tensor, ...]] = {}
        self._origins: list[Origin] = []
        self._first_rows: list[int] = []

    def add(self, row: int, origin: Origin) -> None:
        """The rows from `row` on are these records; those before were told already."""
        self._first_rows.append(row)
        self._origins.append(origin)

    @property
    def names(self) -> Collection[str]:
        """Of all columns."""
        return *self._tensors, *self._collated()

    def part(self, name: str, index: int, count: int) -> torch.Tensor:
        """The `count` rows of a batch in a column; raises `KeyError`."""
        parts = self._parts.get(name)
        if parts is None:
            if name not in self._tensors:
                return self._collated()[name]
            parts = self._parts[name] = torch.split(self._tensors[name], self.batch_size)
        part = parts[index]
        return part if count == self.batch_size else part[:count]

    def _collated(self) -> Mapping[str, torch.Tensor]:
        if self._ragged is None:
            return {}
        tensors = self._ragged()
        self._ragged = lambda: tensors
        return tensors

    def origins(self, start: int, stop: int) -> Iterator[tuple[Origin, int, int]]:
        """Where the rows `start` to `stop` - 1 come from, and which rows of each origin those are."""
        at = bisect_right(self._first_rows, start) - 1
        while at < len(self._origins) and (first := self._first_rows[at]) < stop:
            origin = self._origins[at]
            yield origin, max(start - first, 0), min(stop - first, origin.records)
            at += 1

    def positions(self, row: int) -> Positions:
        """The positions of all partitions after the rows before `row`."""
        positions = self._positions
        for origin, _, end in self.origins(0, row):
            positions = origin.positions(positions, end)
        return positions


class Part(NamedTuple):
    """What a batch has of one of a run's streams, by that stream's number."""

    stream: int
    batch: "Batch"


class AnyBatch(Mapping[str, torch.Tensor]):
    """What one optimizer step trains on: a batch of one stream, or one that is mixed from several.

    `number` counts batches from 1 over all lives of a run, `count` is its records. Nothing that it shows changes.
    """

    __slots__ = ("count", "number")
    count: int
    number: int

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """What is in it of each stream, in the order of its rows."""

    @property
    @abstractmethod
    def newest_time_ns(self) -> int:
        """The event time of its newest record, in nanoseconds since 1970."""


class Batch(AnyBatch):
    """Records in stream order, in columns: `batch["image"]` is a tensor [count, *shape]; where a field differs in
    length from record to record, what the loader's `collate` makes of it.

    The tensors are parts of a block of about 1 MiB, or of one batch where that is larger, which is written once.
    Whoever keeps one for long keeps the block; `clone()` of a column takes the part out.
    """

    __slots__ = ("_block", "_index")

    def __init__(self, block: Block, index: int, count: int, number: int) -> None:
        self._block, self._index, self.count, self.number = block, index, count, number

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._block.part(name, self._index, self.count)

    def __iter__(self) -> Iterator[str]:
        return iter(self._block.names)

    def __len__(self) -> int:
        return len(self._block.names)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(0, self),)

    @property
    def pieces(self) -> Mapping[str, Sequence[Ragged]]:
        """The rows of its ragged columns, as they came."""
        return self._block.pieces

    @property
    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """The (partition, offset, count) that it was made of."""
        return tuple(part for origin, first, end in self._rows() for part in origin.parts(first, end))

    @property
    def positions(self) -> Positions:
        """The positions of all partitions after this batch; in a shuffled window, those before the window."""
        return self._block.positions(self._index * self._block.batch_size + self.count)

    @property
    def newest_time_ns(self) -> int:
        return max(origin.newest_time_ns(first, end) for origin, first, end in self._rows())

    def last_record(self, dealing: Dealing) -> int:
        """The highest number in the stream of its records."""
        return max(origin.last_record(dealing, first, end) for origin, first, end in self._rows())

    def _rows(self) -> Iterator[tuple[Origin, int, int]]:
        start = self._index * self._block.batch_size
        return self._block.origins(start, start + self.count)
