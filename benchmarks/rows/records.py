"""Records that are large, and records that are small, held against the wire with messages of the same size."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import Columns
from benchmarks.reading import read
from benchmarks.rows.group import CPU, MEMORY, RATE, Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, serving
from producer.source import ColumnSource
from protocol.dealing import stripe_for
from protocol.schema import Field, Schema

NAME: Final = "records"
WORKERS: Final = (0, 2)
ROUNDS: Final = 2
LARGE: Final = Schema((Field("id", "int64"), Field("image", "uint8", (3, 224, 224))))
SMALL: Final = Schema((Field("id", "int64"), Field("values", "float32", (8,))))
#: How many there are, and in how large batches they are read.
LARGE_COUNT, LARGE_BATCH = 256, 32
SMALL_COUNT, SMALL_BATCH = 200_000, 1024


def cells(settings: Settings) -> Sequence[Cell]:
    """Large and small: the wire, then streams."""

    def cell(name: str, function: str, **arguments: Any) -> Cell:
        arguments |= settings.times()
        return Cell(group=NAME, name=name, function=function, arguments=arguments, rounds=ROUNDS)

    def wire(kind: str, schema: Schema) -> Cell:
        message = {"message_records": stripe_for(schema.record_bytes), "record_bytes": schema.record_bytes}
        return cell(f"{kind}: raw wire", "benchmarks.rows.limits:wire", **message)

    def streamed(kind: str, workers: int) -> Cell:
        return cell(f"{kind}: workers {workers}", f"{__name__}:{kind}", workers=workers)

    counts = WORKERS[:1] if settings.quick else WORKERS
    return [
        wire("large", LARGE),
        *(streamed("large", workers) for workers in counts),
        wire("small", SMALL),
        *(streamed("small", workers) for workers in counts),
    ]


GROUP: Final = Group(
    name=NAME,
    title="Large and small records",
    note="Large: uint8 3×224×224, batches of 32. Small: 8 float32, batches of 1024. The raw wire carries messages as "
    "large as the stream's own, a stripe each.",
    cells=cells,
    columns=(RATE, Column("bytes_per_s", "GB/s", 1e-9), CPU, MEMORY),
)


def large(*, workers: int, seconds: float, warm_s: float) -> Numbers:
    """Pictures as ImageNet has them."""
    images = np.random.RandomState(0).bytes(LARGE_COUNT * 3 * 224 * 224)
    columns: Columns = {
        "id": np.arange(LARGE_COUNT),
        "image": np.frombuffer(images, np.uint8).reshape(LARGE_COUNT, 3, 224, 224),
    }
    return _streamed(LARGE, columns, batch_size=LARGE_BATCH, workers=workers, seconds=seconds, warm_s=warm_s)


def small(*, workers: int, seconds: float, warm_s: float) -> Numbers:
    """What a sensor gives."""
    values = np.random.RandomState(0).standard_normal((SMALL_COUNT, 8)).astype(np.float32)
    columns: Columns = {"id": np.arange(SMALL_COUNT), "values": values}
    return _streamed(SMALL, columns, batch_size=SMALL_BATCH, workers=workers, seconds=seconds, warm_s=warm_s)


def _streamed(
    schema: Schema, columns: Columns, *, batch_size: int, workers: int, seconds: float, warm_s: float
) -> Numbers:
    with serving(endless(ColumnSource("random", schema, columns))) as producer:
        return read(producer.url, columns, batch_size=batch_size, workers=workers, seconds=seconds, warm_s=warm_s)
