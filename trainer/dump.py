"""The first batches of a life as files, to be looked at: what the model really sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch

from protocol.contact_sheet import save_png
from protocol.errors import UsageError
from protocol.schema import Schema
from trainer.batch import AnyBatch, Batch, Part
from trainer.batch_sheet import batch_sheet

BATCHES = "batches"
#: Pictures on a sheet.
MOST_SHOWN = 256


@dataclass(frozen=True, kw_only=True)
class DumpSettings:
    """Batches as files."""

    dump_batches: int = 0
    """Keep so many batches, the first of this life, in the run directory's `batches`, as the task gets them: all
    columns as .npz, and pictures with their labels as .png."""

    def __post_init__(self) -> None:
        if self.dump_batches < 0:
            raise UsageError("--dump_batches is 0 or more")


class Dump:
    """Keeps each batch that it is called with, until it has as many as the settings say."""

    def __init__(self, settings: DumpSettings, run_dir: Path, schema: Schema) -> None:
        self._missing, self._folder, self._schema = settings.dump_batches, run_dir / BATCHES, schema

    def __call__(self, batch: AnyBatch, columns: Mapping[str, torch.Tensor]) -> None:
        """Write `columns`, which are those of the batch, augmented if so. Raises `UsageError` where that fails."""
        if not self._missing:
            return
        self._missing -= 1
        path = self._folder / f"batch-{batch.number:09}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _save(path, {name: _array(column) for name, column in columns.items()} | _positions(batch))
        except OSError as error:
            mend = "make room, or leave out --dump_batches"
            raise UsageError(f"{path} cannot be written ({error.strerror}): {mend}") from error
        sheet = batch_sheet(self._schema, columns, MOST_SHOWN)
        if sheet is not None:
            save_png(sheet, path.with_suffix(".png"))


def _positions(batch: AnyBatch) -> dict[str, npt.NDArray[np.int64]]:
    """Where each record lies in its stream, and in which of several, under names that no field has in a program."""
    columns = [_places(part) for part in batch.parts]
    places = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    if not isinstance(batch, Batch):
        streams = [(part.stream, part.batch.count) for part in batch.parts]
        places["position.stream"] = np.repeat(*np.array(streams, np.int64).T)
    return places


def _places(part: Part) -> dict[str, npt.NDArray[np.int64]]:
    partitions, offsets, counts = np.array(part.batch.spans, np.int64).T
    within = np.concatenate([np.arange(count) for count in counts])
    return {
        "position.partition": np.repeat(partitions, counts),
        "position.offset": np.repeat(offsets, counts) + within,
    }


def _array(column: torch.Tensor) -> npt.NDArray[Any]:
    column = column.float() if column.dtype == torch.bfloat16 else column  # numpy has none
    return np.asarray(column.cpu().numpy())


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """As `np.savez`, whose own arguments no field may be called like."""
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
