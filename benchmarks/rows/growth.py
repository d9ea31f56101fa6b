"""What becomes of the throughput as things grow: partitions, readers, groups, and the stream's own length."""

import multiprocessing
import time
from collections.abc import Sequence
from ctypes import c_bool, c_int64
from typing import Any, Final

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import MILLION, InOrder, WrongRecords, run, stream_order
from benchmarks.processes import process_cpu_s
from benchmarks.reading import marked, read
from benchmarks.rows.group import DELIVERY, Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import PARTITIONS, endless, picture_source, pictures, serving
from trainer.loader import StreamLoader

NAME: Final = "growth"
BATCH_SIZE: Final = 1024
PARTITION_COUNTS: Final = (1, 8, 64, 256)
READERS: Final = (1, 2, 4, 8)
GROUPS: Final = (1, 8, 32)
#: Records before the first that is read.
STARTS: Final = (0, 1_000_000_000)
ROUNDS: Final = 1
#: Two CPU times that should be the same take more than one look.
LATE_ROUNDS: Final = 3
START_TIMEOUT_S: Final = 60.0


def cells(settings: Settings) -> Sequence[Cell]:
    """Each axis by itself; only its ends in a quick run."""

    def axis(label: str, function: str, values: Sequence[int], rounds: int = ROUNDS) -> list[Cell]:
        chosen = (values[0], values[-1]) if settings.quick else values
        return [
            Cell(
                group=NAME,
                name=row(label, value),
                function=f"{__name__}:{function}",
                arguments={"data": settings.data, "count": value, **settings.times()},
                rounds=rounds,
                timeout_s=120,
            )
            for value in chosen
        ]

    return [
        *axis("partitions", "partitions", PARTITION_COUNTS),
        *([] if settings.quick else axis("readers", "readers", READERS)),
        *axis("groups", "groups", GROUPS),
        *axis("records before", "late", STARTS, LATE_ROUNDS),
    ]


def row(label: str, value: int) -> str:
    """The name of a row."""
    return f"{label} {value:,}"


GROUP: Final = Group(
    name=NAME,
    title="Growth",
    note="uint8 FashionMNIST in batches of 1024, 0 workers where not said otherwise; of several groups the sum. "
    "The last rows begin late in the stream; the producer's own CPU time is theirs.",
    cells=cells,
    columns=(*DELIVERY, Column("producer_cpu_s", "producer's CPU s per million")),
)


def partitions(*, data: str, count: int, seconds: float, warm_s: float) -> Numbers:
    """One reader of so many partitions."""
    return _read(data, partitions=count, workers=0, seconds=seconds, warm_s=warm_s)


def readers(*, data: str, count: int, seconds: float, warm_s: float) -> Numbers:
    """So many worker processes."""
    return _read(data, partitions=PARTITIONS, workers=count, seconds=seconds, warm_s=warm_s)


def _read(data: str, *, partitions: int, workers: int, seconds: float, warm_s: float) -> Numbers:
    with serving(endless(picture_source(data), partitions=partitions)) as producer:
        return read(
            producer.url, pictures(data), batch_size=BATCH_SIZE, workers=workers, seconds=seconds, warm_s=warm_s
        )


def late(*, data: str, count: int, seconds: float, warm_s: float) -> Numbers:
    """The producer's CPU time for a million records, after so many."""
    columns = pictures(data)
    log = endless(picture_source(data))
    log.reach(log.info.dealing.ends(count))
    with serving(log) as producer:
        loader = StreamLoader(producer.url, batch_size=BATCH_SIZE, start="latest" if count else "earliest")
        loader.connect()
        first = sum(loader.position.trained.values())
        if first < count:
            raise WrongRecords(f"the stream begins at {first}, not after {count}")
        batches = marked(loader)
        check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])), first=first)
        check(next(batches))
        run(batches.__next__, check, warm_s)
        before_s = process_cpu_s(producer.pid)
        taken, wall_s = run(batches.__next__, check, 2 * seconds)
        used_s = process_cpu_s(producer.pid) - before_s
        check(next(batches))
        batches.close()
    records = taken * BATCH_SIZE
    return {"rate": records / wall_s, "producer_cpu_s": used_s / records * MILLION}


# --- groups ------------------------------------------------------------------------------------------------------


def groups(*, data: str, count: int, seconds: float, warm_s: float) -> Numbers:
    """So many training runs at once, a process each: their rates together."""
    context = multiprocessing.get_context("fork")
    counters, stopped = context.RawArray(c_int64, count), context.RawValue(c_bool, False)
    with serving(endless(picture_source(data))) as producer:
        told = [(producer.url, data, number, counters, stopped) for number in range(count)]
        runs = [context.Process(target=_run, args=each) for each in told]
        for each in runs:
            each.start()
        _wait_for_all(counters)
        time.sleep(warm_s)
        before, begin_s = sum(counters), time.perf_counter()
        time.sleep(seconds)
        after, end_s = sum(counters), time.perf_counter()
        stopped.value = True
        for each in runs:
            each.join()
    wrong = sum(1 for each in runs if each.exitcode)
    if wrong:
        raise WrongRecords(f"{wrong} of {count} groups did not get what is due")
    return {"rate": (after - before) / (end_s - begin_s)}


def _run(url: str, data: str, number: int, counters: Any, stopped: Any) -> None:
    columns = pictures(data)
    batches = marked(StreamLoader(url, batch_size=BATCH_SIZE))
    check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
    check(next(batches))
    taken = 0
    while not stopped.value:
        next(batches)
        taken += 1
        counters[number] = taken * BATCH_SIZE
    check.skip(taken)
    check(next(batches))
    batches.close()


def _wait_for_all(counters: Any) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not all(counters):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{sum(1 for each in counters if not each)} groups have received nothing")
        time.sleep(0.02)
