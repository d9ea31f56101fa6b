"""What is learnt: how the columns of a batch become what the model takes, and what its answers cost.

A task of one's own is a subclass of `Task` with two methods; its constructor's arguments are settings.
Training, validation and evaluation all go through the same task, so nothing is normalised twice or not at all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from protocol.errors import DataFault, UsageError

Prepared = dict[str, torch.Tensor]

#: A class that no label has: by default cross-entropy leaves the label -100 out without a word.
IGNORES_NONE = torch.iinfo(torch.int64).min


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


@dataclass(frozen=True)
class Classification(Task):
    """One class for each record, learnt with cross-entropy.

    uint8 pictures are scaled to 0 … 1 and normalised; floats were prepared by their source and pass as they are.
    """

    input: str = "image"
    """The column that the model sees."""

    target: str = "label"
    """The column of classes, integers from 0."""

    mean: float = 0.5
    """Taken from uint8 input after it was scaled to 0 … 1."""

    std: float = 0.5
    """What uint8 input is divided by after that."""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise UsageError(f"std {self.std} of a classification: give a number above 0")

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        """`input` as float32 of its shape and `target` as int64 [count], both on `device`."""
        values, targets = self._column(columns, self.input, "input"), self._column(columns, self.target, "target")
        if targets.shape != values.shape[:1] or targets.is_floating_point() or targets.is_complex():
            raise DataFault(
                f"the column {self.target!r} holds {_describe(targets)} for {len(values)} records: "
                "a classification needs one integer each"
            )
        values = values.to(device, non_blocking=True)
        if values.dtype == torch.uint8:
            values = values.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)
        elif values.is_floating_point():
            values = values.to(torch.float32)
        else:
            raise DataFault(
                f"the column {self.input!r} holds {_describe(values)}: a classification takes uint8, which it "
                "normalises, or floats; let the source give one of them, or write a task of your own"
            )
        return {self.input: values, self.target: targets.to(device, torch.int64, non_blocking=True)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """Mean cross-entropy; `correct` counts the records whose class got the highest score."""
        targets = prepared[self.target]
        scores = model(prepared[self.input])
        if scores.ndim != 2 or len(scores) != len(targets):
            raise UsageError(
                f"the model gives {_describe(scores)} for {len(targets)} records: a classification needs a model "
                "that gives [records, classes]"
            )
        try:
            loss = functional.cross_entropy(scores, targets, ignore_index=IGNORES_NONE)
        except IndexError:  # on the CPU alone; on CUDA an assertion of the device ends the program
            _check_classes(targets, scores.shape[1])
            raise
        scores = scores.detach()
        correct = scores.argmax(dim=1).eq_(targets).sum()
        return Outcome(loss, len(targets), {"correct": correct}, scores, targets)

    @staticmethod
    def _column(columns: Mapping[str, torch.Tensor], name: str, argument: str) -> torch.Tensor:
        if name not in columns:
            raise UsageError(
                f"there is no column {name!r} in the stream, only {', '.join(columns)}: "
                f"name the right one with the task's argument {argument!r}"
            )
        return columns[name]


def _check_classes(targets: torch.Tensor, classes: int) -> None:
    lowest, highest = (int(bound) for bound in targets.aminmax())
    if lowest < 0 or highest >= classes:
        label = lowest if lowest < 0 else highest
        raise DataFault(f"label {label} is out of range: the model tells classes 0 to {classes - 1} apart")


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
