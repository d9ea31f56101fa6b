"""What all tasks with one input and one target have in common: which columns those are, and how they are prepared."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from protocol.errors import DataFault, UsageError
from trainer.task import Prepared, Task

INPUT, TARGET = "input", "target"


@dataclass(frozen=True)
class Supervised(Task):
    """A target for each record's input.

    uint8 input is scaled to 0 … 1 and normalised; floats were prepared by their source and pass as they are.
    """

    input: str = "image"
    """The column that the model sees."""

    target: str = "label"
    """The column that it is to tell."""

    mean: float = 0.5
    """Taken from uint8 input after it was scaled to 0 … 1."""

    std: float = 0.5
    """What uint8 input is divided by after that."""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise UsageError(f"std {self.std} of a task: give a number above 0")

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        """`input` as float32 of its shape and `target` as the task wants it, both on `device`."""
        values, targets = self._column(columns, self.input, INPUT), self._column(columns, self.target, TARGET)
        self.check_targets(targets, len(values))
        values = self._values(values, device)
        if self.target == self.input:
            return {INPUT: values, TARGET: values}
        return {INPUT: values, TARGET: targets.to(device, self.target_dtype, non_blocking=True)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def predict(self, model: nn.Module, columns: Mapping[str, torch.Tensor], device: torch.device) -> torch.Tensor:
        values = self._values(self._column(columns, self.input, INPUT), device)
        return self.meant(model(values), values.shape[0]).float()

    def meant(self, answers: torch.Tensor, count: int) -> torch.Tensor:
        """What the model's answers to `count` records say; by default themselves. Raises `UsageError` for the shape."""
        del count
        return answers

    @property
    @abstractmethod
    def target_dtype(self) -> torch.dtype:
        """What targets are converted to."""

    @abstractmethod
    def check_targets(self, targets: torch.Tensor, count: int) -> None:
        """Raise `DataFault` for a column that cannot be the target of `count` records; looks at no value."""

    def _values(self, values: torch.Tensor, device: torch.device) -> torch.Tensor:
        values = values.to(device, non_blocking=True)
        if values.dtype == torch.uint8:
            return values.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)
        if values.is_floating_point():
            return values.to(torch.float32)
        raise DataFault(
            f"the column {self.input!r} holds {described(values)}: it may be uint8, which is normalised, or floats; "
            "let the source give one of them, or write a task of your own"
        )

    @staticmethod
    def _column(columns: Mapping[str, torch.Tensor], name: str, argument: str) -> torch.Tensor:
        if name not in columns:
            raise UsageError(
                f"there is no column {name!r} in the stream, only {', '.join(columns)}: "
                f"name the right one with the task's argument {argument!r}"
            )
        return columns[name]


def described(tensor: torch.Tensor) -> str:
    """Dtype and shape, for people."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


class Numbers:
    """A list of numbers as a tensor, made once: a copy to the device at each step would wait for it."""

    def __init__(self) -> None:
        self._tensor: torch.Tensor | None = None

    def on(self, scores: torch.Tensor, numbers: list[float] | None, name: str, things: str) -> torch.Tensor | None:
        """Where the scores are; None where there are no numbers. Raises `UsageError` for too few or too many."""
        if numbers is None:
            return None
        if len(numbers) != scores.shape[1]:
            raise UsageError(f"{len(numbers)} {name} for {scores.shape[1]} {things}: give one for each")
        if self._tensor is None or self._tensor.device != scores.device:
            self._tensor = torch.tensor(numbers, device=scores.device)
        return self._tensor


def check_numbers(name: str, numbers: list[float] | None) -> None:
    """Raise `UsageError` for numbers that cannot be weights."""
    if numbers is not None and not (numbers and all(0 <= each < float("inf") for each in numbers)):
        raise UsageError(f"{name} {numbers}: give numbers from 0 up, such as [1.0, 2.5]")
