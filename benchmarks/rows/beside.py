"""What a trainer costs another one of the same stream by standing still, or by being slow."""

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, run, stream_order
from benchmarks.processes import process_cpu_s
from benchmarks.reading import marked
from benchmarks.rows.group import RATE, Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import Serving, endless, picture_source, pictures, serving
from trainer.batch import Batch
from trainer.loader import StreamLoader

NAME: Final = "beside"
BATCH_SIZE: Final = 1024
STOPPED: Final = "a stopped trainer"
SLOW: Final = "a slow trainer"
#: Measured times with and without the other one, in turn; each is so much of a cell's.
PAIRS: Final = 11
PART: Final = 1 / 2
#: The slow one takes so many records, and then rests.
SLOW_BATCH: Final = 64
REST_S: Final = 0.02


def cells(settings: Settings) -> Sequence[Cell]:
    """Each kind of neighbour."""
    return [
        Cell(
            group=NAME,
            name=name,
            function=f"{__name__}:delivered",
            arguments={"data": settings.data, "stopped": name == STOPPED, **settings.times()},
            rounds=1,
            timeout_s=120,
        )
        for name in (STOPPED, SLOW)
    ]


GROUP: Final = Group(
    name=NAME,
    title="Beside another trainer",
    note=f"As delivered batches, 0 workers, batch {BATCH_SIZE}: {PAIRS} pairs of times alone on the stream and beside "
    f"a trainer that is stopped (SIGSTOP), or takes {SLOW_BATCH} records each {REST_S * 1000:.0f} ms; medians.",
    cells=cells,
    columns=(
        RATE,
        Column("alone", "alone, records/s"),
        Column("kept", "kept of it"),
        Column("producer_cpu", "producer's CPU time for a record, of that alone"),
    ),
)


class Taken(NamedTuple):
    """What was taken in one of the times: records a second, and the producer's CPU time for one."""

    rate: float
    cpu_s: float


def delivered(*, data: str, stopped: bool, seconds: float, warm_s: float) -> Numbers:
    """Batches of one trainer, with another beside it half of the time."""
    columns = pictures(data)
    check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
    times: dict[bool, list[Taken]] = {False: [], True: []}
    with serving(endless(picture_source(data))) as producer:
        batches = marked(StreamLoader(producer.url, batch_size=BATCH_SIZE))
        check(next(batches))
        run(batches.__next__, check, warm_s)
        for number in range(2 * PAIRS):
            beside = number % 4 in {1, 2}  # which one of a pair goes first alternates
            times[beside].append(_take(producer, batches, check, seconds * PART, beside=beside, stopped=stopped))
        check(next(batches))
        batches.close()
    pairs = list(zip(times[False], times[True], strict=True))
    return {
        "rate": statistics.median(beside.rate for _, beside in pairs),
        "alone": statistics.median(alone.rate for alone, _ in pairs),
        "kept": statistics.median(beside.rate / alone.rate for alone, beside in pairs),
        "producer_cpu": statistics.median(beside.cpu_s / alone.cpu_s for alone, beside in pairs),
    }


def _take(
    producer: Serving, batches: Generator[Batch], check: InOrder, seconds: float, *, beside: bool, stopped: bool
) -> Taken:
    with _neighbour(producer.url) if beside else nullcontext() as pid:
        if pid is not None and stopped:
            os.kill(pid, signal.SIGSTOP)
        run(batches.__next__, check, seconds / 2)  # what was sent while nothing was taken
        before_s = process_cpu_s(producer.pid)
        taken, wall_s = run(batches.__next__, check, seconds)
        records = taken * BATCH_SIZE
        return Taken(records / wall_s, (process_cpu_s(producer.pid) - before_s) / records)


@contextmanager
def _neighbour(url: str) -> Iterator[int]:
    """A process that trains slowly on the same stream, under a group of its own."""
    context = multiprocessing.get_context("fork")
    reads = context.Event()
    process = context.Process(target=_train_slowly, args=(url, reads), daemon=True)
    process.start()
    try:
        reads.wait(10)
        assert process.pid is not None
        yield process.pid
    finally:
        process.kill()
        process.join()


def _train_slowly(url: str, reads: Any) -> None:
    for _ in marked(StreamLoader(url, batch_size=SLOW_BATCH)):
        reads.set()
        time.sleep(REST_S)
