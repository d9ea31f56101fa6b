from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from protocol.errors import DataFault, UsageError
from trainer.model import GarmentClassifier
from trainer.task import Outcome, Prepared, Task
from trainer.tasks import Classification
from trainer.validation import evaluate, validate

CPU = torch.device("cpu")
Columns = dict[str, torch.Tensor]


class Pictures(Dataset[Columns]):
    def __init__(self, count: int = 50, labels: list[int] | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
        self.labels = torch.tensor(labels or torch.randint(0, 10, (count,), generator=generator).tolist())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Columns:
        return {"image": self.images[index], "label": self.labels[index]}


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(784), nn.Linear(784, 10))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(pictures)
        return scores


class FirstPixel(nn.Module):
    """Says the class that stands in the first pixel, modulo ten."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        values = ((pictures[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long()
        return functional.one_hot(values % 10, 10).float()


def as_read(pictures: Pictures, order: list[int]) -> Columns:
    return {"image": pictures.images[order], "label": pictures.labels[order]}


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_the_figures_are_those_of_all_records_at_once(batch_size: int) -> None:
    pictures, model, task = Pictures(), GarmentClassifier(), Classification()
    found = validate(model, task, DataLoader(pictures, batch_size), CPU)
    whole = task.evaluate(model, task.prepare(as_read(pictures, list(range(50))), CPU))
    assert found == {
        "loss": pytest.approx(whole.loss.item(), rel=1e-6),
        "accuracy": whole.sums["correct"].item() / 50,
        "count": 50.0,
    }


def test_dropout_is_off_and_normalisation_learns_nothing() -> None:
    model, loader = Dropping(), DataLoader(Pictures(), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = validate(model, Classification(), loader, CPU)
    assert validate(model, Classification(), loader, CPU) == first
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_gradient_is_kept_or_made() -> None:
    model = GarmentClassifier()

    class Looking(Classification):
        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            outcome = super().evaluate(model, prepared)
            assert not outcome.loss.requires_grad
            return outcome

    validate(model, Looking(), DataLoader(Pictures(), 10), CPU)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_afterwards_each_module_is_in_the_mode_that_it_was_in() -> None:
    model = Dropping().train()
    frozen = model.layers[2].eval()
    validate(model, Classification(), DataLoader(Pictures(), 10), CPU)
    assert model.training
    assert model.layers[1].training
    assert not frozen.training
    model.eval()
    validate(model, Classification(), DataLoader(Pictures(), 10), CPU)
    assert not any(module.training for module in model.modules())


def test_a_fault_in_the_middle_leaves_no_trace_either() -> None:
    model = Dropping().train()
    state = torch.get_rng_state()
    with pytest.raises(DataFault):
        validate(model, Classification(), DataLoader(Pictures(3, labels=[0, 1, 99]), 1), CPU)
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_run_draws_the_same_random_numbers_with_and_without_a_validation(*, shuffle: bool) -> None:
    model, loader = Dropping(), DataLoader(Pictures(), 10, shuffle=shuffle)
    before = torch.get_rng_state()
    validate(model, Classification(), loader, CPU)
    evaluate(model, Classification(), loader, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    iter(loader)
    assert not torch.equal(torch.get_rng_state(), before), "the loader draws nothing, so this test shows nothing"


def test_a_set_without_records_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="no held-out records"):
        validate(GarmentClassifier(), Classification(), [], CPU)


def test_evaluate_gives_the_same_figures_and_the_share_right_of_each_class() -> None:
    pictures, task = Pictures(50, labels=[0, 1, 2, 2, 9] * 10), Classification()
    model, loader = FirstPixel(), DataLoader(pictures, 7)
    evaluation = evaluate(model, task, loader, CPU, ["Top", "Trouser", "Pullover"])
    assert evaluation.figures == validate(model, task, loader, CPU)
    predicted, truth = pictures.images[:, 0, 0, 0].numpy() % 10, pictures.labels.numpy()
    names = {0: "Top", 1: "Trouser", 2: "Pullover", 9: "9"}  # no names for the rest, and classes 3 to 8 have no record
    assert evaluation.per_class == {
        name: pytest.approx(np.mean(predicted[truth == label] == label)) for label, name in names.items()
    }
    assert len(set(evaluation.per_class.values())) > 2, "nothing to tell apart"


def test_evaluate_knows_no_classes_where_the_task_has_none() -> None:
    class Mean(Task):
        def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
            return {"x": columns["label"].float()}

        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            return Outcome(prepared["x"].mean(), len(prepared["x"]))

    evaluation = evaluate(nn.Identity(), Mean(), DataLoader(Pictures(4, labels=[1, 2, 3, 6]), 3), CPU)
    assert evaluation.figures == {"loss": 3.0, "count": 4.0}
    assert evaluation.per_class == {}
