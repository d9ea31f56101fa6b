"""Whether memory stays flat while records go by."""

import os
from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, stream_order
from benchmarks.processes import members, resident_bytes
from benchmarks.reading import marked
from benchmarks.rows.group import Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from trainer.loader import StreamLoader

NAME: Final = "memory"
WORKERS: Final = (0, 2)
BATCH_SIZE: Final = 1024
MARKS: Final = (1_000_000, 10_000_000)
QUICK_MARKS: Final = (500_000, 2_000_000)
LONG_MARK: Final = 100_000_000
TIMEOUT_S: Final = 120.0
LONG_TIMEOUT_S: Final = 900.0


def cells(settings: Settings) -> Sequence[Cell]:
    """One long reading each."""
    first, last = QUICK_MARKS if settings.quick else MARKS
    marks = [(first, last), *([(first, LONG_MARK)] if settings.long else [])]
    return [
        Cell(
            group=NAME,
            name=row(workers, last),
            function=f"{__name__}:memory",
            arguments={"data": settings.data, "workers": workers, "first": first, "last": last},
            rounds=1,
            timeout_s=LONG_TIMEOUT_S if last == LONG_MARK else TIMEOUT_S,
        )
        for first, last in marks
        for workers in (WORKERS[:1] if settings.quick else WORKERS)
    ]


def row(workers: int, records: int) -> str:
    """The name of a row."""
    return f"workers {workers}, {records:,} records"


GROUP: Final = Group(
    name=NAME,
    title="Memory over time",
    note="Resident memory (RSS, summed over a side's processes) early (after 1,000,000 records; --quick: 500,000) and "
    "at the end, and the one by the other.",
    cells=cells,
    columns=(
        Column("trainer_first", "trainer, early MB", 1e-6),
        Column("trainer_last", "at the end MB", 1e-6),
        Column("trainer_growth", "growth"),
        Column("producer_first", "producer, early MB", 1e-6),
        Column("producer_last", "at the end MB", 1e-6),
        Column("producer_growth", "growth"),
    ),
)


def memory(*, data: str, workers: int, first: int, last: int) -> Numbers:
    """Resident memory of both sides at two moments."""
    columns = pictures(data)
    check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
    with serving(endless(picture_source(data))) as producer:
        loader = StreamLoader(producer.url, batch_size=BATCH_SIZE, num_workers=workers)
        batches = marked(loader)
        held: list[tuple[int, int]] = []
        taken = 0
        for mark in (first, last):
            due = mark // BATCH_SIZE - taken
            for _ in range(due):
                next(batches)
            check.skip(due)
            taken += due
            held.append(_resident(producer.pid))
        check(next(batches))
        batches.close()
    (trainer_first, producer_first), (trainer_last, producer_last) = held
    return {
        "trainer_first": trainer_first,
        "trainer_last": trainer_last,
        "trainer_growth": trainer_last / trainer_first,
        "producer_first": producer_first,
        "producer_last": producer_last,
        "producer_growth": producer_last / producer_first,
    }


def _resident(producer: int) -> tuple[int, int]:
    """Bytes of this side's processes, and of the producer."""
    ours = sum(resident_bytes(pid) for pid in members(os.getsid(0)) if pid != producer)
    return ours, resident_bytes(producer)
