"""The parts of a training run that a user may replace by class path: model, task, optimizer, schedule."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from trainer.task import Task

DEFAULT_MODEL = "trainer.model.GarmentClassifier"
DEFAULT_TASK = "trainer.task.Classification"
DEFAULT_OPTIMIZER = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}

#: What makes two runs the same run; everything else may differ from life to life.
MEANING = ("model", "task", "optimizer", "lr_scheduler", "batch_size", "seed")

OptimizerClass = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerClass = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run trains, on its device."""

    model: nn.Module
    task: Task
    optimizer: Optimizer
    scheduler: LRScheduler | None


def add_model(parser: ArgumentParser) -> None:
    """The arguments that an evaluation needs as well."""
    parser.add_subclass_arguments(nn.Module, "model", required=True, help="class path of the model")
    parser.add_subclass_arguments(
        Task, "task", required=True, help="class path of the task: prepares batches, gives the loss"
    )
    parser.set_defaults({"model": {"class_path": DEFAULT_MODEL}, "task": {"class_path": DEFAULT_TASK}})


def add_optimizer(parser: ArgumentParser) -> None:
    """The arguments that only training needs."""
    parser.add_argument("--optimizer", type=OptimizerClass, help="class path of the optimizer")
    parser.add_argument(
        "--lr_scheduler",
        type=SchedulerClass | None,
        default=None,
        help="class path of the schedule, stepped after each batch",
    )
    parser.set_defaults({"optimizer": DEFAULT_OPTIMIZER})


def assemble(made: Any, device: torch.device) -> Parts:
    """Parameters go to the device before the optimizer sees them."""
    model: nn.Module = made.model.to(device)
    try:
        optimizer = made.optimizer(model.parameters())
        scheduler = None if made.lr_scheduler is None else made.lr_scheduler(optimizer)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the optimizer or its schedule cannot be made: {error}") from error
    return Parts(model=model, task=made.task, optimizer=optimizer, scheduler=scheduler)


def meaning(config: Any) -> dict[str, Any]:
    """The settings that a checkpoint belongs to, as plain values."""
    plain = config.as_dict()
    return {name: plain[name] for name in MEANING}


def check_same(was: dict[str, Any], now: dict[str, Any], path: str) -> None:
    """Raise `UsageError` where a checkpoint was made with other settings of meaning."""
    differing = [
        f"{name} was {_short(was.get(name))}, is {_short(now[name])}" for name in now if was.get(name) != now[name]
    ]
    if differing:
        mend = "give these again, or another --run_dir, or --resume never"
        raise UsageError(f"{path} belongs to another run: {'; '.join(differing)}: {mend}")


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        arguments = value.get("init_args") or {}
        return f"{value['class_path']}({', '.join(f'{name}={each}' for name, each in arguments.items())})"
    return str(value)
