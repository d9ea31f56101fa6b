"""The oracle of the fault tests: a model that counts how often each record was trained, and what shows its moments."""

import mmap
import os
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import nn

from protocol.errors import DataFault
from trainer.task import Outcome, Prepared, Task
from trainer.tasks import Classification

#: Names a file of 16 bytes in which the processes of a test see what the trainer does at this moment.
MOMENT_FILE = "HEADRACE_TEST_MOMENT"
ELSEWHERE, IN_STEP, IN_VALIDATION = range(3)


class Moment:
    """What a trainer does, and how many steps it has begun in this life; shared through a file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 16)

    def enter(self, moment: int) -> None:
        """Said by the trainer."""
        steps = self.steps + (moment == IN_STEP)
        self._map[:] = struct.pack("<qq", moment, steps)

    def begin(self) -> None:
        """Said by the test: a new life begins."""
        self._map[:] = bytes(16)

    @property
    def now(self) -> int:
        """ELSEWHERE, IN_STEP or IN_VALIDATION."""
        return int(struct.unpack_from("<q", self._map, 0)[0])

    @property
    def steps(self) -> int:
        """Steps begun in this life."""
        return int(struct.unpack_from("<q", self._map, 8)[0])


class _Elsewhere:
    def enter(self, moment: int) -> None:
        """Nobody watches."""


@cache
def watched() -> "Moment | _Elsewhere":
    """The moment's file, where the environment names one."""
    path = os.environ.get(MOMENT_FILE)
    return Moment(Path(path)) if path else _Elsewhere()


class CountingModel(nn.Module):
    """Counts the ids that it is trained on, and adds up each one times its place in the order of training.

    `ballast` bytes make a checkpoint take a while; they go first, so that counts which are still counted on while they
    are written would be seen in it. The sum (modulo 2^64) shows what the counts of many passes cannot: an id that one
    pass has lost and another trained twice.
    """

    counts: torch.Tensor
    trained: torch.Tensor
    placed: torch.Tensor

    def __init__(self, records: int = 6000, ballast: int = 1 << 20) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("ballast", torch.zeros(ballast, dtype=torch.uint8))
        self.register_buffer("counts", torch.zeros(records, dtype=torch.int64))
        self.register_buffer("trained", torch.zeros((), dtype=torch.int64))
        self.register_buffer("placed", torch.zeros((), dtype=torch.int64))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """A loss for each record."""
        if self.training:
            self.counts.index_add_(0, ids, torch.ones_like(ids))
            self.placed += (ids * (self.trained + torch.arange(len(ids)))).sum()
            self.trained += len(ids)
        return (self.weight - ids % 2).square()


class Counting(Task):
    """Puts the ids through the model; a record whose payload is not that of its id is a fault."""

    def __init__(self, step_s: float = 0.003, validation_s: float = 0.02) -> None:
        self._step_s, self._validation_s = step_s, validation_s
        self._moment = watched()

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        ids, payload = columns["id"], columns["payload"]
        if not torch.equal(payload, (ids % 251).to(torch.uint8)[:, None].expand_as(payload)):
            raise DataFault("a payload is not that of its record")
        return {"id": ids.to(device)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        self._moment.enter(IN_STEP if model.training else IN_VALIDATION)
        losses = model(prepared["id"])
        time.sleep(self._step_s if model.training else self._validation_s)
        self._moment.enter(ELSEWHERE)
        return Outcome(losses.mean(), len(losses), {"correct": (losses < 1).sum()})


class CountingShares(Counting):
    """The same, where each batch has so many times as many records with ids under `first` as with others."""

    def __init__(self, first: int = 6000, times: int = 3, step_s: float = 0.003) -> None:
        super().__init__(step_s)
        self._first, self._times = first, times

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        of_first = int((prepared["id"] < self._first).sum())
        of_others = len(prepared["id"]) - of_first
        if model.training and of_first != self._times * of_others:
            raise DataFault(f"{of_first} records of one stream and {of_others} of the other in a batch")
        return super().evaluate(model, prepared)


class DroppingClassifier(nn.Module):
    """A small classifier that draws random numbers in each step."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, classes)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores [count, classes]."""
        scores: torch.Tensor = self.layers(pictures)
        return scores


class WatchedClassification(Classification):
    """The default task, with the moment shown."""

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        moment = watched()
        moment.enter(IN_STEP if model.training else IN_VALIDATION)
        outcome = super().evaluate(model, prepared)
        moment.enter(ELSEWHERE)
        return outcome


class CountingNumbers(Task):
    """Puts the ids through a counting model; a record whose value is NaN spoils the loss and the gradients."""

    def __init__(self, step_s: float = 0.003) -> None:
        self._step_s = step_s

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {"id": columns["id"].to(device), "value": columns["value"].to(device)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        moment = watched()
        moment.enter(IN_STEP)
        losses = model(prepared["id"]) * prepared["value"]
        time.sleep(self._step_s)
        moment.enter(ELSEWHERE)
        return Outcome(losses.mean(), len(losses))
