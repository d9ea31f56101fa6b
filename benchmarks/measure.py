"""The measuring itself: warm up, check, count, check again."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.cell import Numbers
from benchmarks.processes import cpu_s, memory_bytes
from producer.passes import pass_order

Columns = dict[str, npt.NDArray[Any]]
Indices = npt.NDArray[np.int64]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

#: Checking takes this share of the warm-up; the rest of it runs at full speed.
CHECKING: Final = 0.3
CHECKED_AFTER: Final = 3
MILLION: Final = 1_000_000


class WrongRecords(Exception):
    """What was received is not what was sent, or not in its order, or not once."""


class Check(Protocol[T_contra]):
    """Knows what is due next. Raises `WrongRecords`."""

    def __call__(self, received: T_contra, /) -> None:
        """Compare with what is due."""

    def skip(self, count: int, /) -> None:
        """So many were received unseen: the next one tells whether all of them came, each once."""


def measure(take: Callable[[], T], check: Check[T], *, records: int, seconds: float, warm_s: float) -> Numbers:
    """`take` gives the next batch (or message) of `records` records.

    What comes before and after the measured time is checked record by record. In between only the number is counted:
    what follows must be exactly what is due after that number, so none was lost and none came twice.

    Gives `rate` in records/s, `cpu_s` of all processes for a million records, `memory` in bytes (the larger of two
    looks, before and after; see `memory_bytes`).
    """
    until_s = time.perf_counter() + warm_s * CHECKING
    check(take())
    while time.perf_counter() < until_s:
        check(take())
    memory = memory_bytes()
    run(take, check, warm_s * (1 - CHECKING))  # works off what has piled up meanwhile
    before_cpu_s = cpu_s()
    taken, wall_s = run(take, check, seconds)
    used_cpu_s = cpu_s() - before_cpu_s
    memory = max(memory, memory_bytes())
    for _ in range(CHECKED_AFTER):
        check(take())
    count = taken * records
    return {"rate": count / wall_s, "cpu_s": used_cpu_s / count * MILLION, "memory": memory, "records": count}


def run(take: Callable[[], Any], check: Check[Any], seconds: float) -> tuple[int, float]:
    """Take for so long at full speed; how many were taken, in how many seconds."""
    taken, clock = 0, time.perf_counter
    begin_s = clock()
    until_s = begin_s + seconds
    while clock() < until_s:
        take()
        taken += 1
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()  # what was taken may still be on its way
    wall_s = clock() - begin_s
    check.skip(taken)
    return taken, wall_s


class InOrder:
    """Batches of known records in a known order, pass after pass: each record and its content.

    `columns` are those of the source; `order` gives the indices of a pass, equally many in each. `prepared` turns the
    columns that are due into what a batch should hold.
    """

    def __init__(
        self,
        columns: Columns,
        batch_size: int,
        order: Callable[[int], Indices],
        *,
        prepared: Callable[[Columns], Columns] | None = None,
        first: int = 0,
    ) -> None:
        self._columns, self._batch_size, self._order, self._prepared = columns, batch_size, order, prepared
        self._next = first
        self._pass_size = len(order(0))
        self._passes: dict[int, Indices] = {}

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> None:
        rows = self._due(self._batch_size)
        due = {name: column[rows] for name, column in self._columns.items()}
        for name, column in (due if self._prepared is None else self._prepared(due)).items():
            found = batch[name].cpu().numpy()
            if found.dtype != column.dtype or not np.array_equal(found, column):
                raise WrongRecords(f"column {name!r} of records {self._next} and the following is not what is due")
        self.skip(1)

    def skip(self, count: int) -> None:
        self._next += count * self._batch_size

    def _due(self, count: int) -> Indices:
        parts, first = [], self._next
        while count > 0:
            number, row = divmod(first, self._pass_size)
            parts.append(self._pass(number)[row : row + count])
            first, count = first + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    def _pass(self, number: int) -> Indices:
        if number not in self._passes:
            before = self._passes.get(number - 1)
            self._passes = {number: self._order(number)} | ({} if before is None else {number - 1: before})
        return self._passes[number]


def stream_order(size: int, seed: int = 0) -> Callable[[int], Indices]:
    """The order in which a computed log serves each pass."""
    return lambda number: pass_order(size, seed, number)


def in_place(size: int) -> Callable[[int], Indices]:
    """The source's own order, in each pass."""
    return lambda _number: np.arange(size)
