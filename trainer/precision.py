"""Numbers and layouts that a task computes in, put around any task: training and validation go through the same."""

import inspect
from collections.abc import Mapping
from typing import Final

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from protocol.errors import UsageError
from trainer.step import StepSettings
from trainer.task import Outcome, Prepared, Task

DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Autocast(Task):
    """The task with its model and its loss in `dtype` where torch's autocast holds that for safe."""

    def __init__(self, task: Task, device: torch.device, dtype: torch.dtype) -> None:
        self._task, self._kind, self._dtype = task, device.type, dtype

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return self._task.prepare(columns, device)

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        with torch.autocast(self._kind, dtype=self._dtype):
            return self._task.evaluate(model, prepared)


class ChannelsLast(Task):
    """The task with its 4-D floating inputs in memory with the channels innermost; their shape stays."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {name: _channels_last(value) for name, value in self._task.prepare(columns, device).items()}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        return self._task.evaluate(model, prepared)


def as_computed(task: Task, settings: StepSettings, device: torch.device) -> Task:
    """The task as the settings have it computed; itself where they leave everything as it is.

    Raises `UsageError` where the device cannot.
    """
    if settings.channels_last:
        task = ChannelsLast(task)
    if settings.amp == "off":
        return task
    if settings.amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError(f"--amp bf16: {torch.cuda.get_device_name(device)} cannot compute in it: give fp16 or off")
    return Autocast(task, device, DTYPES[settings.amp])


def scaler_of(settings: StepSettings, optimizer: Optimizer, device: torch.device) -> GradScaler | None:
    """What scales the loss of fp16 so that small gradients do not vanish. Its state belongs into a checkpoint.

    Raises `UsageError` for an optimizer that evaluates a batch more than once: a scaler cannot drive it.
    """
    if settings.amp != "fp16":
        return None
    if evaluates_often(optimizer):
        name = type(optimizer).__name__
        raise UsageError(
            f"--amp fp16 does not go with {name}, which evaluates a batch more than once: give bf16 or off"
        )
    return GradScaler(device.type)


def evaluates_often(optimizer: Optimizer) -> bool:
    """Whether an optimizer evaluates a batch more than once in a step, moving the weights in between."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _channels_last(value: torch.Tensor) -> torch.Tensor:
    if value.ndim == 4 and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value
