"""Pass after pass over a source, each in a seeded order of its own: which of its records comes at which number."""

import threading
from bisect import bisect_right
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from producer.source import Indices, Source, random_state
from producer.thinning import Thinning, labels_of
from protocol.errors import BeyondLogEnd, UsageError

#: Keeps the draws for the passes apart from those for a split (producer/source.py) under one seed.
PASS_DRAW = 0x70617373
#: Permutations that are kept: readers of several groups may be in different passes.
KEPT_PERMUTATIONS = 8
KEPT_PERMUTATION_BYTES = 64 << 20
#: Records of the source that are gone through at one asking to learn where far passes begin: some seconds of one core.
#: A pass of few records counts as one of `LEAST_COUNTED`.
COUNTED_AT_ONCE = 1 << 26
LEAST_COUNTED = 4096


class Passes:
    """The stream's records by number, as indices of the source. May be asked by any thread.

    Of a pass all records come; with a `thinning` some are left out, so a pass is shorter and the next begins sooner.
    Where one begins is then counted through from the first, once in a life, until nothing is left out any more.
    `shuffle=False` keeps the source's own order. Raises `UsageError` for a seed or a thinning that cannot be meant.
    """

    def __init__(self, source: Source, *, seed: int, shuffle: bool = True, thinning: Thinning | None = None) -> None:
        self._per_pass, self._seed, self._shuffle = len(source), seed, shuffle
        self._thinning = thinning
        self._labels: npt.NDArray[np.generic] = np.empty(0)
        self._whole_from = 0
        if thinning is not None:
            self._labels, self._whole_from = labels_of(source), thinning.over_from
            thinning.check_classes(self._labels)
        self._starts = [0]  # of the passes that are known; those behind the last one are whole, once it is
        self._orders: OrderedDict[int, Indices] = OrderedDict()
        self._lock = threading.Lock()
        first = self._order_of(0)  # an impossible seed must be said at the start
        if not len(first):
            raise UsageError(
                f"no record of the first pass comes: all {len(source)} are left out (thin, appear): let more of a "
                "class come, or give more records"
            )

    def end(self, passes: int) -> int:
        """How many records so many passes have."""
        with self._lock:
            while len(self._starts) <= passes and self._starts[-1] < self._whole_from:
                self._count_pass()
            beyond = passes - len(self._starts) + 1
            return self._starts[passes] if beyond <= 0 else self._starts[-1] + beyond * self._per_pass

    def count(self, records: int) -> None:
        """Count the passes through that so many records lie in. A reader may name any number, so one call counts no
        more than `COUNTED_AT_ONCE`; the next goes on there. Raises `BeyondLogEnd` where that was not enough.
        """
        with self._lock:
            most = len(self._starts) + COUNTED_AT_ONCE // max(self._per_pass, LEAST_COUNTED)
            while self._starts[-1] < min(records, self._whole_from):
                if len(self._starts) > most:
                    counted = f"its passes are counted as far as record {self._starts[-1]:,} by now"
                    raise BeyondLogEnd(f"record {records:,} is far beyond what was read so far; {counted}: ask again")
                self._count_pass()

    def indices(self, first: int, count: int) -> Indices:
        """The source's indices of `count` records from number `first` on; they may lie across passes."""
        parts = []
        with self._lock:
            while count > 0:
                number, row = self._place(first)
                parts.append(self._order_of(number)[row : row + count])
                first, count = first + len(parts[-1]), count - len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _place(self, record: int) -> tuple[int, int]:
        """(pass, row in it) of a record of the stream."""
        while self._starts[-1] <= record and self._starts[-1] < self._whole_from:
            self._count_pass()
        if record >= self._starts[-1]:
            beyond, row = divmod(record - self._starts[-1], self._per_pass)
            return len(self._starts) - 1 + beyond, row
        number = bisect_right(self._starts, record) - 1
        return number, record - self._starts[number]

    def _count_pass(self) -> None:
        self._starts.append(self._starts[-1] + len(self._order_of(len(self._starts) - 1)))

    def _order_of(self, number: int) -> Indices:
        """The indices of a pass; where those before it are to be counted, they are."""
        if (order := self._orders.get(number)) is None:
            order = pass_order(self._per_pass, self._seed, number) if self._shuffle else np.arange(self._per_pass)
            if self._thinning is not None and number < len(self._starts) and self._starts[number] < self._whole_from:
                given = number * self._per_pass
                order = order[self._thinning.coming(self._labels[order], given, self._starts[number])]
            self._orders[number] = order
            kept = min(KEPT_PERMUTATIONS, max(2, KEPT_PERMUTATION_BYTES // (8 * self._per_pass)))
            while len(self._orders) > kept:
                self._orders.popitem(last=False)
        self._orders.move_to_end(number)
        return order


def pass_order(records: int, seed: int, number: int) -> Indices:
    """The permutation of 0 to `records` - 1 that pass `number` goes through."""
    draw = random_state(seed, PASS_DRAW, number & 0xFFFFFFFF, number >> 32)
    return draw.permutation(records).astype(np.int64, copy=False)
