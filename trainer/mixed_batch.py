"""A batch that is mixed from several streams: their parts, joined column by column."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import torch

from protocol.schema import Schema
from trainer.assembly import collated
from trainer.batch import AnyBatch, Part
from trainer.collation import Collate


class Joining:
    """How the columns of parts of one `schema` become those of a batch; ragged ones by `collate`, over all rows."""

    def __init__(self, schema: Schema, collate: Collate, *, pin_memory: bool) -> None:
        self.fixed = [field.name for field in schema.fields if not field.ragged]
        self._ragged = [field for field in schema.fields if field.ragged]
        self._collate, self._pin_memory = collate, pin_memory

    def column(self, parts: Sequence[Part], name: str) -> torch.Tensor:
        """Of a field whose records have one shape: all rows, in memory of their own."""
        columns = [part.batch[name] for part in parts]
        if len(columns) == 1:
            return columns[0]
        rows = sum(map(len, columns))
        joined = torch.empty((rows, *columns[0].shape[1:]), dtype=columns[0].dtype, pin_memory=self._pin_memory)
        # numpy copies on this thread; torch.cat asks others, and waits for them where the cores are busy.
        np.concatenate([column.numpy() for column in columns], out=joined.numpy())
        return joined

    def ragged(self, parts: Sequence[Part]) -> Mapping[str, torch.Tensor]:
        """The columns of all fields whose records differ in length."""
        pieces = {
            field.name: list(chain.from_iterable(part.batch.pieces[field.name] for part in parts))
            for field in self._ragged
        }
        return collated(self._ragged, pieces, self._collate, pin_memory=self._pin_memory)


class MixedBatch(AnyBatch):
    """Whole parts, one after another in the order of the streams; a column is joined when it is first looked at."""

    __slots__ = ("_columns", "_joining", "_parts", "_ragged")

    def __init__(self, parts: tuple[Part, ...], number: int, joining: Joining) -> None:
        self._parts, self.number, self._joining = parts, number, joining
        self.count = sum(part.batch.count for part in parts)
        self._columns: dict[str, torch.Tensor] = {}
        self._ragged: Mapping[str, torch.Tensor] | None = None

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._columns:
            fixed = name in self._joining.fixed
            self._columns[name] = self._joining.column(self._parts, name) if fixed else self._collated()[name]
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._joining.fixed or name in self._collated()  # Mapping's own would join

    def __iter__(self) -> Iterator[str]:
        return iter((*self._joining.fixed, *self._collated()))

    def __len__(self) -> int:
        return len(self._joining.fixed) + len(self._collated())

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def newest_time_ns(self) -> int:
        return max(part.batch.newest_time_ns for part in self._parts)

    def _collated(self) -> Mapping[str, torch.Tensor]:
        if self._ragged is None:
            self._ragged = self._joining.ragged(self._parts)
        return self._ragged
