"""One optimizer step on one batch."""

from dataclasses import replace

import torch
from torch import nn

from trainer.task import Outcome, Prepared, Task


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, task: Task, prepared: Prepared) -> Outcome:
    """Train on a prepared batch and say what the model made of it before the step (test, then train).

    The work lies in a closure because some optimizers (LBFGS) evaluate a batch more than once in a step; their
    records still count once, as the first evaluation saw them. The outcome's loss is detached.
    """
    outcomes: list[Outcome] = []

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        outcome = task.evaluate(model, prepared)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        outcomes.append(replace(outcome, loss=outcome.loss.detach()))
        return outcome.loss

    optimizer.step(evaluate)  # type: ignore[arg-type]
    return outcomes[0]
