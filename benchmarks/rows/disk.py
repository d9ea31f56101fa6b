"""What a log on disk takes in, by what LMDB does with the same bytes."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle
from tempfile import TemporaryDirectory
from typing import Any, Final

import lmdb
import numpy as np

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import MILLION, WrongRecords
from benchmarks.processes import cpu_s, memory_bytes
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import PARTITIONS, pictures
from producer.append_log import LogSettings
from producer.fashion_mnist import SCHEMA
from producer.open_log import open_log
from protocol.dealing import stripe_for

NAME: Final = "disk"
STRIPE: Final = stripe_for(SCHEMA.record_bytes)
#: Values that LMDB writes in one synced transaction: about what the log gathers.
PUTS: Final = 4
LMDB, STRIPES, RECORDS = "LMDB, 4 stripes a transaction", "a stripe at a time", "a record at a time"


def cells(settings: Settings) -> Sequence[Cell]:
    """The limit, and both ways in."""
    return [
        Cell(
            group=NAME,
            name=name,
            function=f"{__name__}:{function}",
            arguments={"data": settings.data, "seconds": settings.times()["seconds"]},
        )
        for name, function in ((LMDB, "limit"), (STRIPES, "stripes"), (RECORDS, "one_by_one"))
    ]


GROUP: Final = Group(
    name=NAME,
    title="A log on disk",
    note=f"FashionMNIST appended until everything is synced. LMDB: values of {STRIPE} records, {PUTS} in each synced "
    "transaction. What was written last is read back.",
    cells=cells,
)


def limit(*, data: str, seconds: float) -> Numbers:
    """LMDB's own batched appends."""
    columns = pictures(data)
    value = b"".join(column[:STRIPE].tobytes() for column in columns.values())
    with TemporaryDirectory() as folder, lmdb.open(folder, map_size=1 << 40) as environment:
        keys = iter(range(1 << 40))

        def put() -> int:
            with environment.begin(write=True) as transaction:
                last = [next(keys) for _ in range(PUTS)]
                for key in last:
                    transaction.put(key.to_bytes(8, "big"), value)
            return PUTS * STRIPE

        numbers = _timed(put, seconds)
        with environment.begin() as transaction:
            if transaction.get((int(numbers["records"]) // STRIPE - 1).to_bytes(8, "big")) != value:
                raise WrongRecords("what LMDB gives is not what was put")
    return numbers


def stripes(*, data: str, seconds: float) -> Numbers:
    """Columns of a stripe each."""
    return _append(data, STRIPE, seconds)


def one_by_one(*, data: str, seconds: float) -> Numbers:
    """A call for each record."""
    return _append(data, 1, seconds)


def _append(data: str, count: int, seconds: float) -> Numbers:
    columns = pictures(data)
    whole = len(columns["id"]) // STRIPE * STRIPE
    parts = cycle(
        {name: column[row : row + count] if count > 1 else column[row] for name, column in columns.items()}
        for row in range(0, whole, count)
    )
    with TemporaryDirectory() as folder:
        log = open_log(SCHEMA, PARTITIONS, LogSettings(path=folder), source="")
        assert log is not None
        append = log.append_columns if count > 1 else log.append

        def put() -> int:
            append(next(parts))
            return count

        numbers = _timed(put, seconds, log.flush)
        last = int(numbers["records"]) - 1
        read: Any = log.read(*log.info.dealing.locate(last), 1).columns["image"]
        if log.durable != last + 1 or not np.array_equal(read, columns["image"][last % whole][None]):
            raise WrongRecords(f"record {last} is not what was appended")
        log.close()
    return numbers


def _timed(put: Callable[[], int], seconds: float, finish: Callable[[], None] = lambda: None) -> Numbers:
    records, before_cpu_s, begin_s = 0, cpu_s(), time.perf_counter()
    while time.perf_counter() - begin_s < seconds:
        records += put()
    finish()
    wall_s, used_s = time.perf_counter() - begin_s, cpu_s() - before_cpu_s
    return {"rate": records / wall_s, "cpu_s": used_s / records * MILLION, "memory": memory_bytes(), "records": records}
