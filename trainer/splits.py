"""Held-out records: the producer's finite splits, fetched once into the run directory, or a set of the user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from protocol.errors import UsageError
from protocol.reader import OnWait, read_split
from protocol.schema import Schema
from protocol.stream import StreamInfo
from trainer.holdout import Holdout
from trainer.reading import Reading

SPLITS = "splits"
VALIDATION = "validation"
TEST = "test"

Batches = DataLoader[Any]


def fetch_splits(
    reading: Reading, info: StreamInfo, run_dir: Path, on_wait: OnWait | None = None
) -> dict[str, Holdout]:
    """All splits of the stream; over the wire only where the run directory does not hold them yet."""
    held: dict[str, Holdout] = {}
    decoded = reading.identity
    for name in info.splits:
        folder = run_dir / SPLITS / name
        with reading.open() as reader:
            description = reader.describe(name, on_wait=on_wait)
            known = Holdout.open(folder, reading.collate) if folder.exists() else None
            now = description.info.incarnation, description.info.schema, decoded
            if known is None or (known.incarnation, known.schema, known.decoded) != now:
                Holdout.save(
                    folder,
                    description.info.schema,
                    read_split(reader, name, description, on_wait=on_wait),
                    count=sum(description.log_end.values()),
                    incarnation=description.info.incarnation,
                    decoded=decoded,
                )
                known = Holdout.open(folder, reading.collate)
        held[name] = known
    return held


def batches_of(holdout: Holdout, batch_size: int) -> Batches:
    """An ordinary DataLoader over a split. Its generator is its own: torch's global one is the training's."""
    return DataLoader(
        holdout, batch_size=batch_size, collate_fn=Holdout.collate, generator=torch.Generator().manual_seed(0)
    )


def batches_of_own(dataset: Any, schema: Schema, batch_size: int) -> Batches:
    """The same over any map-style dataset: samples are mappings, or tuples in the order of the stream's fields."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UsageError(
            f"--validation: {type(dataset).__name__} has no __len__ and __getitem__, so it is no map-style dataset"
        )
    return DataLoader(
        _Named(dataset, schema),
        batch_size=batch_size,
        collate_fn=default_collate,
        generator=torch.Generator().manual_seed(0),
    )


class _Named(Dataset[dict[str, Any]]):
    """Samples of any dataset under the stream's field names."""

    def __init__(self, dataset: Any, schema: Schema) -> None:
        self._dataset = dataset
        self._names = [field.name for field in schema.fields if field.name != "id"]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._dataset[index]
        if isinstance(sample, Mapping):
            return {name: _tensor(value) for name, value in sample.items()}
        values = sample if isinstance(sample, tuple) else (sample,)
        if len(values) != len(self._names):
            raise UsageError(
                f"--validation: its samples have {len(values)} values, the stream's records {len(self._names)} "
                f"({', '.join(self._names)}); let the dataset give mappings of names to values"
            )
        return {name: _tensor(value) for name, value in zip(self._names, values, strict=True)}


def _tensor(value: Any) -> Any:
    if type(value).__module__.startswith("PIL."):
        from torchvision.transforms.functional import pil_to_tensor

        return pil_to_tensor(value)
    return value
