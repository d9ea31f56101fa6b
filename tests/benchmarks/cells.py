"""What the tests' cells do. They run in forks of `benchmarks.forker`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.cell import Numbers
from benchmarks.measure import Columns, InOrder, in_place, measure
from benchmarks.memory import sliced, tensors
from benchmarks.reading import read
from benchmarks.streams import endless, serving
from producer.source import ColumnSource
from protocol.schema import Field, Schema

VALUES = Schema((Field("id", "int64"), Field("value", "int64")))
COUNT, BATCH_SIZE = 4096, 64


def adds(*, first: float, second: float) -> Numbers:
    return {"sum": first + second}


def fails() -> Numbers:
    raise ValueError("as it was\n  made to")


def dies() -> Numbers:
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hangs(*, pids: str) -> Numbers:
    """With a child in its own process group beside it."""
    leaves_behind(pids=pids)
    time.sleep(600)
    raise AssertionError


def leaves_behind(*, pids: str) -> Numbers:
    child = subprocess.Popen(["sleep", "600"], process_group=0)
    Path(pids).write_text(f"{os.getpid()} {child.pid}")
    return {}


def values() -> Columns:
    return {"id": np.arange(COUNT), "value": np.arange(COUNT) * 3}


def reads(*, served: str) -> Numbers:
    """A stream of which one thing is not as it should be, or all is."""
    columns = values()
    if served == "wrong content":
        columns["value"][COUNT // 2] += 1
    if served == "twice":
        columns["id"][7], columns["value"][7] = columns["id"][8], columns["value"][8]
    with serving(endless(ColumnSource("values", VALUES, columns))) as producer:
        return read(producer.url, values(), batch_size=COUNT, workers=0, seconds=0.05, warm_s=0.05)


def loses(*, lost: bool) -> Numbers:
    """One batch goes while nobody looks, in the measured time."""
    columns = values()
    check = InOrder(columns, BATCH_SIZE, in_place(COUNT))
    batches = _thinned(sliced(tensors(columns), BATCH_SIZE), check, lost=lost)
    return measure(batches.__next__, check, records=BATCH_SIZE, seconds=0.05, warm_s=0.05)


def _thinned(
    batches: Iterator[dict[str, torch.Tensor]], check: InOrder, *, lost: bool
) -> Iterator[dict[str, torch.Tensor]]:
    for number, batch in enumerate(batches):
        if not lost or number != 1000:
            yield batch
