"""What it costs that nobody between producer and trainer can read or change a byte."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, stream_order
from benchmarks.reading import marked, pull
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from protocol.keygen import make_keys
from trainer.loader import StreamLoader

NAME: Final = "keys"
#: Large batches, so that the wire is what is waited for.
BATCH_SIZE: Final = 1024


def cells(settings: Settings) -> Sequence[Cell]:
    """The same stream in clear and with keys, in turn."""
    return [
        Cell(
            group=NAME,
            name=name,
            function=f"{__name__}:delivered",
            arguments={"data": settings.data, "locked": locked, **settings.times()},
        )
        for name, locked in (("in clear", False), ("with keys", True))
    ]


GROUP: Final = Group(
    name=NAME,
    title="Keys",
    note=f"As delivered batches, 0 workers, batch {BATCH_SIZE}: without and with CURVE on both sides.",
    cells=cells,
)


def delivered(*, data: str, locked: bool, seconds: float, warm_s: float) -> Numbers:
    """Batches from a producer process."""
    with TemporaryDirectory() as folder:
        if locked:
            make_keys(Path(folder), ["trainer"], "read,commit")
        producer_keys, keys = (f"{folder}/{name}" if locked else "" for name in ("producer", "trainer"))
        with serving(endless(picture_source(data)), producer_keys) as producer:
            columns = pictures(data)
            check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
            loader = StreamLoader(producer.url, batch_size=BATCH_SIZE, keys=keys)
            return pull(marked(loader), check, loader, batch_size=BATCH_SIZE, seconds=seconds, warm_s=warm_s)
