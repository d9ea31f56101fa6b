"""A task of one's own."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from protocol.errors import UsageError
from trainer.step import train_step
from trainer.task import Outcome, Prepared, Task

CPU = torch.device("cpu")


class Regression(Task):  # a user's own, in under 15 lines
    def __init__(self, target: str = "y") -> None:
        self.target = target

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {name: columns[name].to(device, torch.float32) for name in ("x", self.target)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        errors = model(prepared["x"]) - prepared[self.target]
        return Outcome(errors.square().mean(), len(errors), {"absolute_error": errors.detach().abs().sum()})


def test_a_task_of_ones_own_is_two_methods() -> None:
    torch.manual_seed(0)
    model, task = nn.Linear(3, 1), Regression(target="z")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.rand(32, 3)
    prepared = task.prepare({"x": x, "z": x.sum(dim=1, keepdim=True)}, CPU)
    losses = [train_step(model, optimizer, task, prepared).loss.item() for _ in range(200)]
    assert losses[-1] < losses[0] / 20


def test_without_a_third_one_it_does_not_predict() -> None:
    assert Regression().inputs == ()
    with pytest.raises(UsageError, match="the task Regression does not predict: give it `inputs` and `predict`"):
        Regression().predict(nn.Linear(3, 1), {"x": torch.zeros(1, 3)}, CPU)
