"""What is learnt: how the columns of a batch become what the model takes, and what its answers cost.

A task of one's own is a subclass of `Task` with two methods; its constructor's arguments are settings. With `predict`
its models answer for records without a target too. Training, validation, evaluation, prediction and export all go
through the same task, so nothing is normalised twice or not at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from protocol.errors import UsageError

Prepared = dict[str, torch.Tensor]

#: What a prediction gives: probabilities of classes, of which a record has one; of labels, each for itself; or numbers.
Answers = Literal["classes", "labels", "numbers"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model made of `count` records.

    `loss` is their mean, a scalar to call `backward` on. `sums` are sums over the records, scalars on the model's
    device and without gradients: divided by the count they are reported under their names (`correct` as
    `accuracy`). Neither may be changed in place afterwards: they are added up some steps later. A task that tells
    classes apart adds its `scores` [count, classes] and `targets` [count], -1 where a record has none.
    `gradient_norm` is that of the step before its gradients were clipped, where they were.
    """

    loss: torch.Tensor
    count: int
    sums: Mapping[str, torch.Tensor] = field(default_factory=dict)
    scores: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    gradient_norm: torch.Tensor | None = None


class Task(ABC):
    """From the columns of a batch to a loss. No method waits for the device: that would slow every step."""

    answers: ClassVar[Answers] = "numbers"
    """What `predict` gives."""

    @abstractmethod
    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        """The columns that the task reads, on `device` and as the model wants them. The only place where this is done.

        They come from the host or lie on the device already. A column travels when it is first looked at.
        Raises `DataFault` for values that must not be trained on, `UsageError` for a column that is not there.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """Put the prepared batch through the model."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that `predict` reads; none where there is no `predict`."""
        return ()

    def predict(self, model: nn.Module, columns: Mapping[str, torch.Tensor], device: torch.device) -> torch.Tensor:
        """What the model says of records whose target nobody knows: float32 [count, …], as `answers` says.

        Prepares them as `prepare` does. What it does with shapes must hold for any count, so that it can be exported.
        """
        del model, columns, device
        raise UsageError(f"the task {type(self).__name__} does not predict: give it `inputs` and `predict`")


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
