"""The parts of a training run that a user may replace by class path: model, task, optimizer, schedule."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from protocol.class_path import add_class, class_path_in, import_class
from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from trainer.average import Average
from trainer.device import check_compiler
from trainer.optimization import OptimizationSettings, Schedule, check_decay, learnt
from trainer.precision import as_computed, evaluates_often, scaler_of
from trainer.step import StepSettings, check_own_step
from trainer.task import Task

DEFAULT_MODEL = "trainer.model.GarmentClassifier"
DEFAULT_TASK = "trainer.tasks.Classification"
DEFAULT_OPTIMIZER = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}

#: What makes two runs the same run; everything else may differ from life to life.
MEANING = (
    *("model", "task", "optimizer", "lr_scheduler", "batch_size", "seed"),
    *("freeze", "no_decay", "schedule_every", "clip_norm", "ema"),
    *("augment", "augment_each"),
    *("decode", "collate"),
)

#: What the class behind each of these options is a kind of.
KINDS: Mapping[str, type[Any]] = {"model": nn.Module, "task": Task, "optimizer": Optimizer, "lr_scheduler": LRScheduler}

OptimizerClass = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerClass = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run trains, on its device."""

    model: nn.Module
    task: Task
    optimizer: Optimizer
    schedule: Schedule
    scaler: GradScaler | None = None
    average: Average | None = None

    @property
    def judged(self) -> nn.Module:
        """What validation looks at: the average of the model, where one is kept."""
        return self.model if self.average is None else self.average.module


def check_classes(arguments: Sequence[str]) -> None:
    """Raise `UsageError` for a class path that leads nowhere, which the parser would say in many more words."""
    for option, kind in KINDS.items():
        if (path := class_path_in(arguments, option)) not in (None, "null"):
            import_class(path, f"--{option}", kind)


def add_model(parser: ArgumentParser, arguments: Sequence[str] = ()) -> None:
    """The options that an evaluation needs as well.

    A class that the arguments name is its option's default: what jsonargparse knows of a default class it hands on to
    any other with an argument of that name, such as a classification's `target`, or SGD's decay of 0.
    """
    model, task = (class_path_in(arguments, option) for option in ("model", "task"))
    text = "class path of the task, which prepares batches and gives the loss"
    add_class(parser, "model", nn.Module, "class path of the model", model or DEFAULT_MODEL)
    add_class(parser, "task", Task, text, task or DEFAULT_TASK)


def add_optimizer(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """The options that only training needs."""
    named = class_path_in(arguments, "optimizer")
    parser.add_argument("--optimizer", metavar="CLASS", type=OptimizerClass, help="class path of the optimizer")
    parser.add_argument(
        "--lr_scheduler",
        metavar="CLASS",
        type=SchedulerClass | None,
        default=None,
        help="class path of the schedule, stepped as --schedule_every says",
    )
    parser.set_defaults({"optimizer": {"class_path": named} if named else DEFAULT_OPTIMIZER})


def assemble(
    made: Any, device: torch.device, step: StepSettings, learning: OptimizationSettings | None = None
) -> Parts:
    """Parameters go to the device before the optimizer sees them; a compiled model keeps its class and its names."""
    model: nn.Module = made.model.to(device)
    if step.channels_last:
        model = model.to(memory_format=torch.channels_last)
    learning = learning or OptimizationSettings()
    check_own_step(made.task, step)
    try:
        optimizer = made.optimizer(learnt(model, learning))
        scheduler = None if made.lr_scheduler is None else made.lr_scheduler(optimizer)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the optimizer or its schedule cannot be made: {error}") from error
    check_decay(optimizer, learning)
    if step.on_nan == "skip" and evaluates_often(optimizer):
        name = type(optimizer).__name__
        raise UsageError(f"--on_nan skip does not go with {name}, which moves before a step was looked at: give stop")
    average = Average(model, learning.ema) if learning.ema else None
    if step.compile:
        check_compiler(device)
        model.compile()
    return Parts(
        model=model,
        task=as_computed(made.task, step, device),
        optimizer=optimizer,
        schedule=Schedule(scheduler, learning.schedule_every),
        scaler=scaler_of(step, optimizer, device),
        average=average,
    )


def meaning(config: Any) -> dict[str, Any]:
    """The settings that a checkpoint belongs to, as plain values."""
    plain = plain_settings(config)
    return {name: plain[name] for name in MEANING}


def plain_settings(config: Any) -> dict[str, Any]:
    """All settings as plain values; a function is its import path."""
    settings: dict[str, Any] = _plain(config.as_dict())
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, FunctionType) else value


def check_same(state: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raise `UsageError` where a checkpoint was made with other settings of meaning."""
    was = state["meaning"]
    differing = [each for name in now if name in was for each in _differences(name, was[name], now[name])]
    if differing:
        mend = "give these again, or another --run_dir, or --resume never"
        raise UsageError(f"{path} belongs to another run: {'; '.join(differing)}: {mend}")


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raise `UsageError` where what a checkpoint holds does not fit the parts that it was made with any more."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        why = "the code of its model, optimizer or schedule has changed since"
        raise UsageError(f"{path} cannot be loaded: {why}; begin anew in another --run_dir ({error})") from error


def _differences(name: str, was: Any, now: Any) -> list[str]:
    """What differs between two values of a setting; of two objects of one class, their arguments."""
    if was == now:
        return []
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [each for index, pair in pairs for each in _differences(f"{name}[{index}]", *pair)]
    if not isinstance(was, dict) or not isinstance(now, dict) or was.get("class_path") != now.get("class_path"):
        return [f"{name} was {_short(was)}, is {_short(now)}"]
    before, after = was.get("init_args") or {}, now.get("init_args") or {}
    keys = dict.fromkeys([*before, *after])
    return [each for key in keys for each in _differences(f"{name}.{key}", before.get(key), after.get(key))]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return str(value.get("class_path", value) if isinstance(value, dict) else value)
