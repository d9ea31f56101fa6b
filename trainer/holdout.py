"""Held-out records in the run directory, as a map-style set: a split is fetched once and then needs no producer."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, default_collate

from protocol.chunk import LENGTH_DTYPE, Chunk, Column, Columns, Ragged, value_of
from protocol.errors import DataFault, MalformedMessage, UsageError
from protocol.schema import Field, Schema
from trainer.collation import Collate, Pad
from trainer.sealed import Damaged, DigestedFile, Foreign, Kind, SealedFolder, check_folder

KIND = Kind("headrace holdout", 1)
SCHEMA = "schema.json"

Sample = dict[str, torch.Tensor]


class Rows(Sequence[Sample]):
    """Some records of a holdout, gathered as columns; for those who do not know that, a sequence of samples."""

    def __init__(self, columns: Sample, count: int) -> None:
        self.columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            raise TypeError("rows are taken one by one")
        return {name: column[row] for name, column in self.columns.items()}


class Holdout(Dataset[Sample]):
    """The records of a split; `DataLoader(holdout, batch_size=1000, collate_fn=Holdout.collate)` gives batches.

    A sample maps each field to a tensor of its shape, a batch to one of [count, *shape], or to what `collate` makes of
    a ragged one; all are copies. The files are mapped into memory, not read, once their digests were checked.
    """

    def __init__(
        self,
        schema: Schema,
        incarnation: str,
        columns: Columns,
        collate: Collate | None = None,
        *,
        decoded: str = "",
    ) -> None:
        self.schema = schema
        #: The identity of the log that the split belongs to, and of the way in which it was decoded.
        self.incarnation, self.decoded = incarnation, decoded
        self._columns = dict(columns)
        self._collate = collate or Pad()

    @classmethod
    def open(cls, folder: Path, collate: Collate | None = None) -> Self:
        """The set that `save` wrote.

        Raises `DataFault` where it is not what was written, `UsageError` where there is none.
        """
        mend = "remove the folder, and the trainer fetches it again"
        try:
            check_folder(folder, KIND)
            description = json.loads((folder / SCHEMA).read_bytes())
            schema = Schema.from_wire(description["schema"])
            columns = {field.name: _read_column(folder, number, field) for number, field in enumerate(schema.fields)}
        except Foreign as error:
            raise UsageError(
                f"{folder} holds no held-out records ({error}): run the trainer once to fetch them"
            ) from error
        except (Damaged, MalformedMessage, OSError) as error:
            raise DataFault(f"the held-out records in {folder} are damaged ({error}): {mend}") from error
        return cls(schema, description["incarnation"], columns, collate, decoded=description.get("decoded", ""))

    @staticmethod
    def save(
        folder: Path,
        schema: Schema,
        chunks: Iterable[Chunk],
        *,
        count: int,
        incarnation: str,
        decoded: str = "",
    ) -> None:
        """Write a split of `count` records to disk as its chunks come, in place of what the folder held.

        Either all of it is there afterwards or nothing has changed. Raises `DataFault` where the chunks leave a gap
        or are not `count` records, `OSError`.
        """
        with SealedFolder(folder, KIND) as sealed:
            description = {"incarnation": incarnation, "schema": schema.to_wire(), "decoded": decoded}
            sealed.create(SCHEMA).write((json.dumps(description, indent=1) + "\n").encode())
            files = {
                field: [sealed.create(name) for name in _file_names(number, field)]
                for number, field in enumerate(schema.fields)
            }
            for field, (file, *_) in files.items():
                dtype, shape = (LENGTH_DTYPE, ()) if field.ragged else (field.numpy_dtype, field.item_shape)
                header = {"descr": dtype.str, "fortran_order": False, "shape": (count, *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            came = sum(_write_chunk(files, chunk) for chunk in _without_gaps(chunks))
            if came != count:
                raise DataFault(f"{came} records came of a split that was announced with {count}: fetch it again")
            sealed.seal({"count": count})

    @staticmethod
    def collate(rows: "Rows | list[Sample]") -> Sample:
        """A batch of columns [count, *shape]; costs nothing for what was gathered at once."""
        if isinstance(rows, Rows):
            return rows.columns
        batch: Sample = default_collate(rows)
        return batch

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: int) -> Sample:
        return {name: torch.from_numpy(np.array(value_of(column, index))) for name, column in self._columns.items()}

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """The records with these indices in this order, one gather a column; DataLoader asks for batches with it."""
        where = np.asarray(indices, dtype=np.int64)
        columns: Sample = {}
        for name, column in self._columns.items():
            if isinstance(column, Ragged):
                columns |= self._collate(name, column.take(where))
            else:
                columns[name] = torch.from_numpy(column[where])
        return Rows(columns, len(where))


def _file_names(number: int, field: Field) -> list[str]:
    """Names come over the wire, so only what is harmless in a path is taken from them.

    A ragged field has two files: the lengths of its records, and their values, of which nobody knows how many come.
    """
    name = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_]', '_', field.name)[:40]}"
    return [f"{name}.npy", f"{name}.values"] if field.ragged else [f"{name}.npy"]


def _read_column(folder: Path, number: int, field: Field) -> Column:
    first, *values = (folder / name for name in _file_names(number, field))
    column: npt.NDArray[Any] = np.load(first, mmap_mode="r", allow_pickle=False)
    if not values:
        return column
    empty = not values[0].stat().st_size  # which cannot be mapped
    flat = np.empty(0, field.numpy_dtype) if empty else np.memmap(values[0], field.numpy_dtype, mode="r")
    return Ragged(column, flat.reshape(-1, *field.item_shape))


def _write_chunk(files: Mapping[Field, Sequence[DigestedFile]], chunk: Chunk) -> int:
    for field, into in files.items():
        column = chunk.columns[field.name]
        arrays = (column.lengths, column.values) if isinstance(column, Ragged) else (column,)
        for file, array in zip(into, arrays, strict=True):
            if array.size:
                file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B"))
    return chunk.count


def _without_gaps(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    ends: dict[int, int] = {}
    for chunk in chunks:
        expected = ends.get(chunk.partition, 0)
        if chunk.offset != expected:
            raise DataFault(f"offset {chunk.offset} of a split came where {expected} was due: fetch it again")
        ends[chunk.partition] = chunk.end
        yield chunk
