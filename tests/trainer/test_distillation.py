"""The loss of a distillation: the divergence from a teacher's answers, as torch computes it."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from protocol.errors import UsageError
from trainer import distillation
from trainer.distillation import Distillation
from trainer.task import Task
from trainer.tasks import Classification
from trainer.trained import Trained

CPU = torch.device("cpu")


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """What `runs/teacher` holds."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    task: Task = Classification(input="x")
    monkeypatch.setattr(distillation, "best_checkpoint", lambda run_dir: (Path(run_dir), {}, ()))
    monkeypatch.setattr(distillation, "open_trained", lambda *best: Trained(best[0], best[1], model, task, best[2]))
    return model


@pytest.mark.parametrize("labels", [0.0, 0.25])
def test_the_loss_is_the_divergence_and_the_labels_share(teacher: nn.Module, labels: float) -> None:
    task = Distillation(input="x", teacher="runs/teacher", temperature=3.0, labels=labels)
    model = nn.Linear(4, 3)
    x, label = torch.randn(16, 4), torch.arange(16) % 3
    outcome = task.evaluate(model, task.prepare({"x": x, "label": label}, CPU))
    scores, taught = model(x), teacher(x)
    soft = 9 * nn.KLDivLoss(reduction="batchmean")((scores / 3).log_softmax(1), (taught / 3).softmax(1))
    expected = (1 - labels) * soft + labels * functional.cross_entropy(scores, label)
    torch.testing.assert_close(outcome.loss, expected)
    assert outcome.sums["correct"].item() == (scores.argmax(1) == label).sum().item()


def test_the_teacher_answers_without_dropout_and_learns_nothing(teacher: nn.Module) -> None:
    task = Distillation(input="x", teacher="runs/teacher")
    prepared = task.prepare({"x": torch.randn(8, 4), "label": torch.zeros(8, dtype=torch.int64)}, CPU)
    model = nn.Linear(4, 3)
    first, second = (task.evaluate(model, prepared).loss for _ in range(2))
    assert torch.equal(first, second)
    first.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert model.weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 .* above 0"),
        ({"labels": 1.5}, "labels 1.5 .* from 0 to 1"),
        ({"teacher": ""}, "needs a teacher"),
        ({"std": 0.3}, "the teacher saw its input with mean 0.5 and std 0.5: give the task the same"),
    ],
)
@pytest.mark.usefixtures("teacher")
def test_what_makes_no_sense_is_the_users_mistake(arguments: dict[str, float | str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Distillation(**{"teacher": "runs/teacher", **arguments})  # type: ignore[arg-type]


@pytest.mark.usefixtures("teacher")
def test_a_teacher_with_other_classes_is_the_users_mistake() -> None:
    task = Distillation(input="x", teacher="runs/teacher")
    prepared = task.prepare({"x": torch.randn(8, 4), "label": torch.zeros(8, dtype=torch.int64)}, CPU)
    with pytest.raises(UsageError, match=r"the teacher gives float32 \[8, 3\] where the model gives float32 \[8, 5\]"):
        task.evaluate(nn.Linear(4, 5), prepared)
