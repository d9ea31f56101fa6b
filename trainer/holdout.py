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

from protocol.chunk import Chunk, Ragged
from protocol.errors import DataFault, MalformedMessage, UsageError
from protocol.schema import Field, Schema
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

    A sample maps each field to a tensor of its shape, a batch to one of [count, *shape]; both are copies. The files
    are mapped into memory, not read, once their digests were checked.
    """

    def __init__(self, schema: Schema, incarnation: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        self.schema = schema
        #: The identity of the log that the split belongs to.
        self.incarnation = incarnation
        self._columns = dict(columns)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The set that `save` wrote.

        Raises `DataFault` where it is not what was written, `UsageError` where there is none.
        """
        mend = "remove the folder, and the trainer fetches it again"
        try:
            check_folder(folder, KIND)
            description = json.loads((folder / SCHEMA).read_bytes())
            schema = Schema.from_wire(description["schema"])
            columns = {
                field.name: np.load(folder / _file_name(number, field), mmap_mode="r", allow_pickle=False)
                for number, field in enumerate(schema.fields)
            }
        except Foreign as error:
            raise UsageError(
                f"{folder} holds no held-out records ({error}): run the trainer once to fetch them"
            ) from error
        except (Damaged, MalformedMessage, OSError) as error:
            raise DataFault(f"the held-out records in {folder} are damaged ({error}): {mend}") from error
        return cls(schema, description["incarnation"], columns)

    @staticmethod
    def save(folder: Path, schema: Schema, chunks: Iterable[Chunk], *, count: int, incarnation: str) -> None:
        """Write a split of `count` records to disk as its chunks come, in place of what the folder held.

        Either all of it is there afterwards or nothing has changed. Raises `DataFault` where the chunks leave a gap
        or are not `count` records, `UsageError` for ragged fields, `OSError`.
        """
        if schema.ragged:
            names = ", ".join(field.name for field in schema.fields if field.ragged)
            raise UsageError(
                f"held-out records of varying length ({names}) cannot be kept yet: "
                "train without validation, or give a set of your own with --validation CLASS"
            )
        with SealedFolder(folder, KIND) as sealed:
            description = {"incarnation": incarnation, "schema": schema.to_wire()}
            sealed.create(SCHEMA).write((json.dumps(description, indent=1) + "\n").encode())
            files = {field: sealed.create(_file_name(n, field)) for n, field in enumerate(schema.fields)}
            for field, file in files.items():
                header = {"descr": field.numpy_dtype.str, "fortran_order": False, "shape": (count, *field.item_shape)}
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
        return {name: torch.from_numpy(np.array(column[index])) for name, column in self._columns.items()}

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """The records with these indices in this order, one gather a column; DataLoader asks for batches with it."""
        where = np.asarray(indices, dtype=np.int64)
        return Rows({name: torch.from_numpy(column[where]) for name, column in self._columns.items()}, len(where))


def _file_name(number: int, field: Field) -> str:
    """Names come over the wire, so only what is harmless in a path is taken from them."""
    return f"{number:02d}-{re.sub(r'[^A-Za-z0-9_]', '_', field.name)[:40]}.npy"


def _write_chunk(files: Mapping[Field, DigestedFile], chunk: Chunk) -> int:
    for field, file in files.items():
        column = chunk.columns[field.name]
        assert not isinstance(column, Ragged), "a column is as its field says"
        if column.size:
            file.write(np.ascontiguousarray(column, field.numpy_dtype).data.cast("B"))
    return chunk.count


def _without_gaps(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    ends: dict[int, int] = {}
    for chunk in chunks:
        expected = ends.get(chunk.partition, 0)
        if chunk.offset != expected:
            raise DataFault(f"offset {chunk.offset} of a split came where {expected} was due: fetch it again")
        ends[chunk.partition] = chunk.end
        yield chunk
