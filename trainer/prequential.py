"""Test, then train: how well the network does on records that it has not learnt from yet (prequential evaluation).

A step's forward pass is made before the weights move, so its outcome is the test, and no second one is needed. Window
and fading factor are those of Gama, Sebastião, Rodrigues: On evaluating stream learning algorithms (2013).
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from protocol.errors import UsageError
from protocol.stream import StreamInfo
from trainer.batch import Batch
from trainer.metrics import REPORTED_AS, detached
from trainer.task import Outcome

LOSS = "loss"
#: Batches that are added up at once: operations on single numbers would slow every step.
ADDED_UP = 256

#: By name, on the device that they came from.
Values = dict[str, torch.Tensor]
#: What is known of a batch: its records, their mean loss and sums over them.
Tested = tuple[int, Values]


@dataclass(frozen=True, kw_only=True)
class PrequentialSettings:
    """How far back the prequential figures look. By default as in MOA: both remember about a thousand records."""

    prequential_window: int = 1000
    """Newest records that the prequential figures of a window are over, to the next whole batch."""

    fading_factor: float = 0.999
    """What a record counts against the one after it in the fading prequential figures, above 0 and below 1."""

    def __post_init__(self) -> None:
        if self.prequential_window < 1:
            raise UsageError(f"--prequential_window {self.prequential_window}: give a number of records from 1 up")
        if not 0 < self.fading_factor < 1:
            raise UsageError(f"--fading_factor {self.fading_factor}: give a number above 0 and below 1")


def is_test(batch: Batch, info: StreamInfo) -> bool:
    """Whether all records of a batch come for the first time: a batch over the end of the first pass is no test."""
    if info.records_per_pass is None:
        return True
    return batch.last_record(info.dealing) < info.records_per_pass


class Prequential:
    """Means over tested records: of the newest, fading with age, and of all since the start.

    Of a batch only its own means are known: each of its records counts with them. Only `read` waits for the device.
    Saved anywhere and restored it gives the same bits: when outcomes are added up depends on their number alone.
    """

    def __init__(self, settings: PrequentialSettings) -> None:
        self._window, self._factor = settings.prequential_window, settings.fading_factor
        self.count = 0
        #: Whether records were tested since the last reading.
        self._news = False
        #: By name [2]: the sum over all records, and S ← f·S + (1 - f)·x over them one after the other.
        self._sums: Values = {}
        #: What the records weigh together in the second: N ← f·N + (1 - f).
        self._weight = 0.0
        #: Records, mean loss and sums of the newest batches, of which the last `_open` are not added up yet.
        self._batches: list[Tested] = []
        self._open = 0

    def add(self, outcome: Outcome) -> None:
        """Count in what the network made of a batch before it learnt from it."""
        if self._open == ADDED_UP:
            self._sums, self._weight = self._added_up()
            self._batches, self._open = self._newest(), 0
        values = {name: detached(value) for name, value in outcome.sums.items()}
        values[LOSS] = detached(outcome.loss)
        self._batches.append((outcome.count, values))
        self._open += 1
        self.count += outcome.count
        self._news = True

    def read(self) -> dict[str, float]:
        """`loss_window`, `loss_fading`, `loss_since_start`, the same of what else the task counts, and `count`.

        Empty where no record was tested since the last reading.
        """
        if not self._news:
            return {}
        self._news = False
        newest, (sums, weight) = self._newest(), self._added_up()
        sizes = [float(count) for count, _ in newest]
        found = {"count": float(self.count)}
        for name, window in _weighed(newest, [sizes]).items():
            everything, fading = sums[name].tolist()
            reported = REPORTED_AS.get(name, name)
            found[f"{reported}_window"] = window.item() / sum(sizes)
            found[f"{reported}_fading"] = fading / weight
            found[f"{reported}_since_start"] = everything / self.count
        return found

    def state_dict(self) -> dict[str, Any]:
        """Numbers, and what lies on the device as it lies there, for a checkpoint to copy."""
        return {
            "count": self.count,
            "news": self._news,
            "sums": dict(self._sums),
            "weight": self._weight,
            "batches": {"counts": [count for count, _ in self._batches], "values": _columns(self._batches)},
            "open": self._open,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device | None = None) -> None:
        """Go on from a `state_dict`, with outcomes on `device` (None: where the state's tensors lie)."""
        self.count, self._news, self._weight, self._open = (state[each] for each in ("count", "news", "weight", "open"))
        self._sums = {name: sums.to(device) for name, sums in state["sums"].items()}
        columns = {name: column.to(device) for name, column in state["batches"]["values"].items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self._batches = list(zip(state["batches"]["counts"], rows, strict=True))

    def _added_up(self) -> tuple[Values, float]:
        """`_sums` and `_weight` with the open batches in them, as new tensors.

        What n records of the mean m make of S one after the other is fⁿ·S + (1 - fⁿ)·m.
        """
        batches = self._batches[len(self._batches) - self._open :]
        counts = [count for count, _ in batches]
        fades = [self._factor**later for later in accumulate(reversed(counts), initial=0)][::-1]
        fade = fades[0]
        weights = [[float(count) for count in counts], [after - before for before, after in pairwise(fades)]]
        remaining = torch.tensor([1.0, fade], dtype=torch.float64)
        sums = {name: value * remaining.to(value.device, non_blocking=True) for name, value in self._sums.items()}
        for name, added in _weighed(batches, weights).items():
            sums[name] = sums[name] + added if name in sums else added
        return sums, self._weight * fade + (1 - fade)

    def _newest(self) -> list[Tested]:
        """As few batches as hold the records of the window, all where there are not so many."""
        records, first = 0, len(self._batches)
        while first and records < self._window:
            first -= 1
            records += self._batches[first][0]
        return self._batches[first:]


def _weighed(batches: list[Tested], weights: list[list[float]]) -> Values:
    """By name [rows] float64: the means of these batches, weighed as each row of `weights` has it, added up."""
    of_means = torch.tensor(weights, dtype=torch.float64)
    of_sums = of_means / torch.tensor([count for count, _ in batches])
    found = {}
    for name, column in _columns(batches).items():
        weighing = of_means if name == LOSS else of_sums
        found[name] = (weighing.to(column.device, non_blocking=True) * column).sum(dim=1)
    return found


def _columns(batches: list[Tested]) -> Values:
    """By name [batches]: what these batches count; 0 for one that does not count it."""
    names = dict.fromkeys(name for _, values in batches for name in values)
    return {
        name: torch.stack([values[name] if name in values else values[LOSS] * 0 for _, values in batches])
        for name in names
    }
