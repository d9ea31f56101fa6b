"""The measuring itself: warm up, check, count, check again."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.cell import Numbers
from benchmarks.processes import cpu_s, memory_bytes
from producer.computed_log import pass_order

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
    looks, before and after).
    """
    until_s = time.perf_counter() + warm_s * CHECKING
    check(take())
    while time.perf_counter() < until_s:
        check(take())
    run(take, check, warm_s * (1 - CHECKING))
    memory = memory_bytes()
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
    while (now_s := clock()) < until_s:
        take()
        taken += 1
    check.skip(taken)
    return taken, now_s - begin_s


class InOrder:
    """Batches of a source, pass after pass in the order of `seed`: each record and its content.

    `columns` are the source's own, one of them `id`, the record's index in them. `seed` None is the source's own
    order. `prepared` turns what is due into what a batch should hold.
    """

    def __init__(
        self,
        columns: Mapping[str, npt.NDArray[Any]],
        batch_size: int,
        *,
        seed: int | None = 0,
        first: int = 0,
        prepared: Callable[[dict[str, npt.NDArray[Any]]], Mapping[str, Any]] = lambda due: due,
    ) -> None:
        self._columns, self._batch_size, self._seed, self._prepared = columns, batch_size, seed, prepared
        self._next = first
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, batch: Mapping[str, Any]) -> None:
        ids = self._due(self._batch_size)
        for name, due in self._prepared({name: column[ids] for name, column in self._columns.items()}).items():
            found = np.asarray(batch[name])
            if found.dtype != np.asarray(due).dtype or not np.array_equal(found, due):
                raise WrongRecords(f"column {name!r} of records {self._next} and the following is not what is due")
        self._next += self._batch_size

    def skip(self, count: int) -> None:
        self._next += count * self._batch_size

    def _due(self, count: int) -> npt.NDArray[np.int64]:
        size, parts, first = len(self._columns["id"]), [], self._next
        while count > 0:
            number, row = divmod(first, size)
            parts.append(self._order(number, size)[row : row + count])
            first, count = first + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    def _order(self, number: int, size: int) -> npt.NDArray[np.int64]:
        if number not in self._orders:
            order = np.arange(size) if self._seed is None else pass_order(size, self._seed, number)
            self._orders = {number: order, **dict(list(self._orders.items())[:1])}
        return self._orders[number]
