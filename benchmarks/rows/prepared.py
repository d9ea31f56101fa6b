"""Normalised float32 batches, as a step takes them: from a stream and from memory, through the same task."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import Columns, InOrder, measure, stream_order
from benchmarks.memory import shuffled, shuffles, tensors
from benchmarks.reading import marked, pull
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from trainer.loader import StreamLoader
from trainer.tasks import Classification

NAME: Final = "prepared"
WORKERS: Final = (0, 2)
BATCH_SIZES: Final = (64, 256, 1024)


def cells(settings: Settings) -> Sequence[Cell]:
    """In memory and streamed, by batch sizes."""

    def cell(name: str, function: str, **arguments: Any) -> Cell:
        arguments = {"data": settings.data, "device": settings.device, **arguments, **settings.times()}
        return Cell(group=NAME, name=name, function=f"{__name__}:{function}", arguments=arguments)

    sizes = BATCH_SIZES[:1] if settings.quick else BATCH_SIZES
    return [
        each
        for size in sizes
        for each in (
            cell(f"in memory, batch {size}", "memory", batch_size=size),
            *(cell(f"workers {n}, batch {size}", "streamed", batch_size=size, workers=n) for n in WORKERS),
        )
    ]


GROUP: Final = Group(
    name=NAME,
    title="Prepared batches",
    note="float32, normalised by the task's own `prepare`: shuffled from memory, and from a stream.",
    cells=cells,
)


def memory(*, data: str, device: str, batch_size: int, seconds: float, warm_s: float) -> Numbers:
    """Shuffled from memory."""
    columns = pictures(data)
    batches = _prepared(shuffled(tensors(columns, device), batch_size), device)
    check = InOrder(columns, batch_size, shuffles(len(columns["id"]), batch_size), prepared=due)
    return measure(batches.__next__, check, records=batch_size, seconds=seconds, warm_s=warm_s)


def streamed(*, data: str, device: str, batch_size: int, workers: int, seconds: float, warm_s: float) -> Numbers:
    """From a producer process."""
    columns = pictures(data)
    with serving(endless(picture_source(data))) as producer:
        loader = StreamLoader(
            producer.url, batch_size=batch_size, num_workers=workers, pin_memory=device.startswith("cuda")
        )
        batches = _prepared(marked(loader), device)
        check = InOrder(columns, batch_size, stream_order(len(columns["id"])), prepared=due)
        return pull(batches, check, loader, batch_size=batch_size, seconds=seconds, warm_s=warm_s)


def _prepared(
    batches: Iterator[Mapping[str, torch.Tensor]], device: str
) -> Generator[dict[str, torch.Tensor], None, None]:
    task, place = Classification(), torch.device(device)
    for batch in batches:
        yield task.prepare(batch, place)


def due(columns: Columns) -> Columns:
    """What `Classification` makes of these columns, computed another way."""
    half = np.float32(0.5)
    return {"image": (columns["image"].astype(np.float32) / np.float32(255) - half) / half, "label": columns["label"]}
