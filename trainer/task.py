"""What is learnt: how the columns of a batch become what the model takes, and what its answers cost.

A task of one's own is a subclass of `Task` with two methods; its constructor's arguments are settings.
Training, validation and evaluation all go through the same task, so nothing is normalised twice or not at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

Prepared = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model made of `count` records.

    `loss` is their mean, a scalar to call `backward` on. `sums` are sums over the records, scalars on the model's
    device and without gradients: divided by the count they are reported under their names (`correct` as
    `accuracy`). Neither may be changed in place afterwards: they are added up some steps later. A task that tells
    classes apart adds its `scores` [count, classes] and `targets` [count].
    """

    loss: torch.Tensor
    count: int
    sums: Mapping[str, torch.Tensor] = field(default_factory=dict)
    scores: torch.Tensor | None = None
    targets: torch.Tensor | None = None


class Task(ABC):
    """From the columns of a batch to a loss. Neither method waits for the device: that would slow every step."""

    @abstractmethod
    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        """The columns that the task reads, on `device` and as the model wants them. The only place where this is done.

        They come from the host or lie on the device already. A column travels when it is first looked at.
        Raises `DataFault` for values that must not be trained on, `UsageError` for a column that is not there.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """Put the prepared batch through the model."""


class OwnStep(Task):
    """A task that also takes its steps itself, such as one of two networks that learn in turns (examples/gan.py).

    `evaluate` is for validation alone then. What the command line says about how a step is computed is for other tasks.
    """

    @abstractmethod
    def step(self, model: nn.Module, optimizer: Optimizer, prepared: Prepared) -> Outcome:
        """Learn from a prepared batch, and say what the model made of it before, without a graph.

        All that it draws comes from torch's global generators, and all that it remembers lies in model or optimizer: of
        these a checkpoint holds the state.
        """
