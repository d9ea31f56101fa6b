"""What a trainer costs another one of the same stream by standing still, or by being slow."""

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, run, stream_order
from benchmarks.reading import marked
from benchmarks.rows.group import RATE, Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from trainer.batch import Batch
from trainer.loader import StreamLoader

NAME: Final = "beside"
BATCH_SIZE: Final = 1024
STOPPED: Final = "a stopped trainer"
SLOW: Final = "a slow trainer"
#: Measured times with and without the other one, in turn; each is so much of a cell's.
PAIRS: Final = 7
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
    columns=(RATE, Column("alone", "alone, records/s"), Column("kept", "kept of it")),
)


def delivered(*, data: str, stopped: bool, seconds: float, warm_s: float) -> Numbers:
    """Batches of one trainer, with another beside it half of the time."""
    columns = pictures(data)
    check = InOrder(columns, BATCH_SIZE, stream_order(len(columns["id"])))
    rates: dict[bool, list[float]] = {False: [], True: []}
    with serving(endless(picture_source(data))) as producer:
        batches = marked(StreamLoader(producer.url, batch_size=BATCH_SIZE))
        check(next(batches))
        run(batches.__next__, check, warm_s)
        for number in range(2 * PAIRS):
            beside = number % 4 in {1, 2}  # which one of a pair goes first alternates
            rates[beside].append(_rate(producer.url, batches, check, seconds * PART, beside=beside, stopped=stopped))
        check(next(batches))
        batches.close()
    kept = [beside / alone for alone, beside in zip(rates[False], rates[True], strict=True)]
    alone, rate = statistics.median(rates[False]), statistics.median(rates[True])
    return {"rate": rate, "alone": alone, "kept": statistics.median(kept)}


def _rate(url: str, batches: Generator[Batch], check: InOrder, seconds: float, *, beside: bool, stopped: bool) -> float:
    with _neighbour(url) if beside else nullcontext() as pid:
        if pid is not None and stopped:
            os.kill(pid, signal.SIGSTOP)
        run(batches.__next__, check, seconds / 2)  # what was sent while nothing was taken
        taken, wall_s = run(batches.__next__, check, seconds)
    return taken * BATCH_SIZE / wall_s


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
