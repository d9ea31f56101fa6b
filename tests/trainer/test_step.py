from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.model import GarmentClassifier
from trainer.step import train_step
from trainer.task import Classification, Outcome, Prepared

CPU = torch.device("cpu")


def batches(number: int, count: int = 16) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 10, (count,), generator=generator),
        }
        for _ in range(number)
    ]


def model_of_seed_1() -> GarmentClassifier:
    torch.manual_seed(1)
    return GarmentClassifier()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        (torch.optim.AdamW, {"lr": 0.001}),
        (torch.optim.RMSprop, {"lr": 0.001}),
    ],
)
def test_steps_give_the_bits_of_a_plain_pytorch_loop(
    kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    task, model, plain = Classification(), model_of_seed_1(), model_of_seed_1()
    optimizer, plain_optimizer = kind(model.parameters(), **settings), kind(plain.parameters(), **settings)
    for columns in batches(5):
        outcome = train_step(model, optimizer, task, task.prepare(columns, CPU))

        plain_optimizer.zero_grad()
        loss = functional.cross_entropy(plain((columns["image"].float() / 255 - 0.5) / 0.5), columns["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        plain_optimizer.step()

        assert torch.equal(outcome.loss, loss)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_outcome_is_that_of_the_weights_before_the_step_and_holds_no_graph() -> None:
    task, model = Classification(), model_of_seed_1()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    prepared = task.prepare(batches(1)[0], CPU)
    expected = task.evaluate(model, prepared).loss.item()
    outcome = train_step(model, optimizer, task, prepared)
    assert outcome.loss.item() == expected
    assert outcome.loss.grad_fn is None


def test_an_optimizer_that_evaluates_a_batch_often_counts_its_records_once() -> None:
    evaluations = 0

    class Counted(Classification):
        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            nonlocal evaluations
            evaluations += 1
            return super().evaluate(model, prepared)

    task, model = Counted(), model_of_seed_1()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    prepared = task.prepare(batches(1)[0], CPU)
    expected = task.evaluate(model, prepared).loss.item()
    outcome = train_step(model, optimizer, task, prepared)
    assert evaluations > 3
    assert outcome.count == 16
    assert outcome.loss.item() == expected
    assert task.evaluate(model, prepared).loss.item() < expected
