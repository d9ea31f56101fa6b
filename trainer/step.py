"""One optimizer step on one batch, and how it is computed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_, get_total_norm

from protocol.errors import UsageError
from trainer.task import Outcome, OwnStep, Prepared, Task


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a step is computed. A run may go on with other settings of these; its bits depend on them."""

    amp: Literal["off", "bf16", "fp16"] = "off"
    """Automatic mixed precision: the model and the loss compute in `bf16` or `fp16` where that is safe, in training and
    in the run's validation; weights stay float32. `fp16` scales the loss, and on CUDA it waits for the device at each
    step unless the optimizer is `fused`; not for an optimizer that evaluates a batch more than once. In a YAML file
    'off' needs its quotes."""

    compile: bool = False
    """Compile the model with `torch.compile` at its first batches; needs a C++ compiler, on CUDA a C compiler."""

    channels_last: bool = False
    """Lay the model's weights and its 4-D floating inputs out with the channels innermost: faster for convolutions on
    many devices."""

    accumulate: int = 1
    """Micro-batches that a batch is split into inside its step: less memory, the same gradients up to rounding. A batch
    is still one step. Layers that look at their whole batch, such as batch normalisation, see a micro-batch."""

    clip_norm: float = 0.0
    """Largest norm of all gradients together; larger ones are scaled down to it before the optimizer moves. 0: none is.
    A run goes on with the same."""

    on_nan: Literal["stop", "skip"] = "stop"
    """What is done about a loss or a gradient that is NaN or infinite. `stop`: the run ends with the last good
    checkpoint named, when a report or a checkpoint next reads the losses. `skip`: each step is looked at before the
    optimizer moves, which on CUDA waits for the device once a step; one without a number is not taken, and its records
    count as skipped in the ledger and not as samples; 100 of them in a row end the run. With `fp16` only the loss is
    looked at: gradients are its scaler's. Not for an optimizer that evaluates a batch more than once."""

    def __post_init__(self) -> None:
        if self.on_nan not in ("stop", "skip"):
            raise UsageError(f"--on_nan is stop or skip, not {self.on_nan!r}")
        if self.amp not in ("off", "bf16", "fp16"):
            raise UsageError(f"--amp is off, bf16 or fp16, not {self.amp!r}")
        if not 0 <= self.clip_norm < math.inf:
            raise UsageError(f"--clip_norm {self.clip_norm}: give the largest norm of the gradients, or 0 for any")
        if self.accumulate < 1:
            raise UsageError(f"--accumulate {self.accumulate}: give the number of micro-batches of a batch, 1 or more")


def check_own_step(task: Task, settings: StepSettings) -> None:
    """Raise `UsageError` for a setting that a task which takes its steps itself would not hear of."""
    if not isinstance(task, OwnStep):
        return
    for name in ("amp", "channels_last", "accumulate", "clip_norm", "on_nan"):
        if getattr(settings, name) != getattr(StepSettings(), name):
            kind = type(task).__name__
            raise UsageError(f"--{name} does not go with {kind}, which takes its steps itself: leave it out")


class StepNotTaken(Exception):
    """The loss or a gradient of a batch is no number: weights, optimizer, scaler and buffers are as they were."""


def micro_batches(columns: Mapping[str, torch.Tensor], count: int, parts: int) -> Sequence[Mapping[str, torch.Tensor]]:
    """The columns of `count` records as up to `parts` views of near equal size, none of them empty."""
    if parts == 1:
        return (columns,)
    bounds = [count * part // parts for part in range(parts + 1)]
    return [
        {name: column[begin:end] for name, column in columns.items()} for begin, end in pairwise(bounds) if begin < end
    ]


def train_step(  # noqa: PLR0913  (what a step is made of, and three ways in which it may differ)
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    *prepared: Prepared,
    count: int = 0,
    scaler: GradScaler | None = None,
    skip_nan: bool = False,
    clip_norm: float = 0.0,
) -> Outcome:
    """Train on a batch and say what the model made of it before the step (test, then train).

    `prepared` is the batch, or its micro-batches; of several, `count` is the number of all their records, each of
    which has the same weight in the gradients. The work lies in a closure because some optimizers (LBFGS) evaluate a
    batch more than once in a step; their records still count once, as the first evaluation saw them. With a `scaler`
    the optimizer gets no closure, and leaves the weights as they are where scaled gradients overflow. The outcome's
    loss is detached. With `skip_nan` it is looked at before the optimizer moves, and `StepNotTaken` raised. With
    `clip_norm` the gradients are clipped each time that they were computed, and the outcome has their norm before that.
    A task with a step of its own takes that.
    """
    if isinstance(task, OwnStep):
        (batch,) = prepared
        return task.step(model, optimizer, batch)
    evaluations: list[Outcome] = []
    norms: list[torch.Tensor] = []  # before clipping
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if skip_nan else ()

    def evaluate() -> torch.Tensor:
        _drop_gradients(optimizer)
        outcomes = [_backward(task.evaluate(model, each), count, scaler) for each in prepared]
        evaluations.append(outcomes[0] if len(outcomes) == 1 else _whole(outcomes))
        loss = evaluations[-1].loss
        if skip_nan and not _is_number(loss, () if scaler is not None else model.parameters()):
            for buffer, before in buffers:  # batch normalisation has seen the batch
                buffer.copy_(before)
            raise StepNotTaken
        if clip_norm and scaler is None:
            norms.append(clip_grad_norm_(model.parameters(), clip_norm))
        return loss

    if scaler is None:
        optimizer.step(evaluate)  # type: ignore[arg-type]
    else:
        evaluate()
        if clip_norm:
            scaler.unscale_(optimizer)
            norms.append(clip_grad_norm_(model.parameters(), clip_norm))
        scaler.step(optimizer)
        scaler.update()
    return replace(evaluations[0], gradient_norm=norms[-1]) if norms else evaluations[0]


def _is_number(loss: torch.Tensor, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether loss and gradients are finite; asks the device once."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    largest = get_total_norm(gradients, math.inf)  # the magnitude of the largest number, NaN where one is
    return bool((loss.isfinite() & largest.isfinite().to(loss.device)).item())


def _drop_gradients(optimizer: torch.optim.Optimizer) -> None:
    """What `zero_grad()` does; of torch's own only the loop, since all around it costs more than a small batch may."""
    if type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _backward(outcome: Outcome, count: int, scaler: GradScaler | None) -> Outcome:
    """Add the gradients of an outcome, weighted by its share of `count` records (0: it is all of them)."""
    loss = outcome.loss * (outcome.count / count) if count and outcome.count != count else outcome.loss
    (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    return Outcome(outcome.loss.detach(), outcome.count, outcome.sums, outcome.scores, outcome.targets)


def _whole(outcomes: Sequence[Outcome]) -> Outcome:
    """What micro-batches make together."""
    count = sum(outcome.count for outcome in outcomes)
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.sums)
    scores = [outcome.scores for outcome in outcomes if outcome.scores is not None]
    targets = [outcome.targets for outcome in outcomes if outcome.targets is not None]
    return Outcome(
        loss=torch.stack([outcome.loss * (outcome.count / count) for outcome in outcomes]).sum(),
        count=count,
        sums={name: torch.stack([each.sums[name] for each in outcomes if name in each.sums]).sum() for name in names},
        scores=torch.cat(scores) if scores else None,
        targets=torch.cat(targets) if targets else None,
    )
