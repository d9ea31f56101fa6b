"""Which parameters are learnt and how: groups by the names of parameters, and when the schedule goes on."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from protocol.errors import UsageError
from trainer.every import Every

#: When a schedule takes its next step.
ScheduleEvery = Literal["batch", "validation"] | int


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings:
    """What of a model is learnt, beside its optimizer. A run goes on with the same."""

    freeze: str = ""
    """Regular expression: parameters whose name it finds (such as 'conv1|conv2') stay as they are."""

    no_decay: str = ""
    """Regular expression: parameters whose name it finds (such as 'bias|norm') are in a group without weight decay."""

    schedule_every: ScheduleEvery = "batch"
    """When the learning-rate schedule takes a step: after each batch, after each validation, or each so many samples.
    ReduceLROnPlateau looks at the validation loss and needs 'validation'."""

    ema: float = 0.0
    """What each step leaves of an exponential moving average of the weights, such as 0.999; validation, the
    best checkpoint and evaluate then look at the average. 0: none is kept."""

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1:
            raise UsageError(f"--ema {self.ema}: give the average's decay, above 0 and below 1, or 0 for no average")
        for name in ("freeze", "no_decay"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise UsageError(f"--{name} {getattr(self, name)!r} is no regular expression: {error}") from error
        if isinstance(self.schedule_every, int) and self.schedule_every < 1:
            raise UsageError(f"--schedule_every {self.schedule_every}: give batch, validation, or samples from 1 up")


def learnt(model: nn.Module, settings: OptimizationSettings) -> list[nn.Parameter] | list[dict[str, Any]]:
    """What an optimizer is to be made with; frozen parameters need no gradients from here on.

    Raises `UsageError` for an expression that finds no parameter, and where nothing is left to learn.
    """
    frozen = _found(model, "freeze", settings.freeze)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not moving:
        raise UsageError(f"--freeze {settings.freeze!r} leaves nothing to learn: let it find fewer parameters")
    if not settings.no_decay:
        return list(moving.values())
    plain = _found(model, "no_decay", settings.no_decay)
    decayed = [parameter for name, parameter in moving.items() if name not in plain]
    others = [parameter for name, parameter in moving.items() if name in plain]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def check_decay(optimizer: Optimizer, settings: OptimizationSettings) -> None:
    """Raise `UsageError` where there is no decay to leave out; torch takes any name in a group without a word."""
    if settings.no_decay and not optimizer.defaults.get("weight_decay"):
        name = type(optimizer).__name__
        raise UsageError(f"--no_decay: {name} has no weight decay here: give --optimizer.weight_decay, or another one")


class Schedule:
    """A learning-rate schedule and its unit; does nothing without a scheduler."""

    def __init__(self, scheduler: LRScheduler | None, every: ScheduleEvery = "batch") -> None:
        if isinstance(scheduler, ReduceLROnPlateau) and every != "validation":
            raise UsageError(
                "--lr_scheduler: ReduceLROnPlateau looks at the validation loss: give --schedule_every validation"
            )
        self.scheduler, self._every = scheduler, every

    def batch_trained(self, before: int, samples: int) -> None:
        """From `before` to `samples` samples. Raises `UsageError` where the schedule was made for fewer steps."""
        if self._every == "batch" or (isinstance(self._every, int) and Every(self._every).due(before, samples)):
            self._step()

    def validated(self, loss: float) -> None:
        """With this loss."""
        if self._every != "validation":
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)
        else:
            self._step()

    def _step(self) -> None:
        if self.scheduler is None:
            return
        try:
            self.scheduler.step()
        except ValueError as error:
            mend = "make it for more steps (and begin anew), or give --max_samples"
            raise UsageError(f"--lr_scheduler: the schedule is over and the stream is not ({error}): {mend}") from error


def _found(model: nn.Module, option: str, expression: str) -> set[str]:
    if not expression:
        return set()
    names = [name for name, _ in model.named_parameters()]
    found = {name for name in names if re.search(expression, name)}
    if not found:
        raise UsageError(f"--{option} {expression!r} finds none of the parameters {', '.join(names)}")
    return found
