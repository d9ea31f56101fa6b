"""How old a sample is when the loop has it: the newest record of each batch, on the clock of this machine."""

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, run, stream_order
from benchmarks.reading import marked
from benchmarks.rows.group import RATE, Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from trainer.batch import Batch
from trainer.loader import StreamLoader

NAME: Final = "age"
WORKERS: Final = (0, 2)
RATES: Final = (1_000, 10_000, 50_000)
BATCH_SIZE: Final = 64
ROUNDS: Final = 2
SECONDS: Final = 1.5
#: What piled up while the readers started must be worked off before ages mean something.
WARM_S: Final = 1.0


def row(rate: int, workers: int) -> str:
    """The name of a row."""
    return f"{rate:,} records/s, workers {workers}"


def cells(settings: Settings) -> Sequence[Cell]:
    """Rates by workers."""
    return [
        Cell(
            group=NAME,
            name=row(rate, workers),
            function=f"{__name__}:age",
            arguments={"data": settings.data, "rate": rate, "workers": workers, "seconds": SECONDS, "warm_s": WARM_S},
            rounds=ROUNDS,
        )
        for rate in (RATES[1:2] if settings.quick else RATES)
        for workers in WORKERS
    ]


GROUP: Final = Group(
    name=NAME,
    title="Sample age",
    note="From a record's event to the loop, of the newest record of each batch of 64, without a step; milliseconds.",
    cells=cells,
    columns=(
        Column("age_p50_ms", "p50 ms"),
        Column("age_p99_ms", "p99 ms"),
        Column("age_max_ms", "most ms"),
        RATE,
    ),
)


def age(*, data: str, rate: float, workers: int, seconds: float, warm_s: float) -> Numbers:
    """Ages at a rate, in milliseconds."""
    columns = pictures(data)
    with serving(endless(picture_source(data), rate=rate)) as producer:
        loader = StreamLoader(producer.url, batch_size=BATCH_SIZE, num_workers=workers)
        batches = marked(loader)
        ages_ns: list[int] = []

        def take() -> Batch:
            batch = next(batches)
            ages_ns.append(time.time_ns() - batch.newest_time_ns)
            return batch

        check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
        check(take())
        run(take, check, warm_s)
        ages_ns.clear()
        taken, wall_s = run(take, check, seconds)
        p50, p99, most = np.percentile(np.array(ages_ns) / 1e6, (50, 99, 100)).tolist()
        check(take())
        batches.close()
        return {
            "age_p50_ms": p50,
            "age_p99_ms": p99,
            "age_max_ms": most,
            "rate": taken * BATCH_SIZE / wall_s,
        }
