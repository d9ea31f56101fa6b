"""What headrace delivers: uint8 batches of FashionMNIST into a loop that does nothing with them."""

from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell, Numbers
from benchmarks.reading import read
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving

NAME: Final = "delivered"
WORKERS: Final = (0, 1, 2)
BATCH_SIZES: Final = (4, 64, 256, 1024)


def row(workers: int, batch_size: int) -> str:
    """The name of a row."""
    return f"workers {workers}, batch {batch_size}"


def cells(settings: Settings) -> Sequence[Cell]:
    """Workers by batch sizes."""
    workers = (0, 2) if settings.quick else WORKERS
    sizes = (64, 1024) if settings.quick else BATCH_SIZES
    return [
        Cell(
            group=NAME,
            name=row(count, size),
            function=f"{__name__}:delivered",
            arguments={"data": settings.data, "workers": count, "batch_size": size, **settings.times()},
        )
        for count in workers
        for size in sizes
    ]


GROUP: Final = Group(
    name=NAME,
    title="Delivered batches",
    note="`StreamLoader` on a stream at rate 0 from a producer process over TCP, FashionMNIST as uint8, "
    "`mark_trained` after each batch; 0 workers read in a thread.",
    cells=cells,
)


def delivered(*, data: str, workers: int, batch_size: int, seconds: float, warm_s: float) -> Numbers:
    """Batches from a producer process."""
    source = picture_source(data)
    with serving(endless(source)) as producer:
        return read(
            producer.url, pictures(data), batch_size=batch_size, workers=workers, seconds=seconds, warm_s=warm_s
        )
