"""Metrics of torchmetrics beside loss and accuracy: the same as over all records at once, anew each time."""

from typing import Any

import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from protocol.errors import UsageError
from trainer.commands import main
from trainer.task import Outcome, Prepared
from trainer.tasks import Classification
from trainer.validation import evaluate, validate
from trainer.validation_metrics import ValidationMetrics

CPU = torch.device("cpu")
TASK = Classification(input="x")


def columns(count: int, seed: int = 1) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(count, 5, generator=drawn), "label": torch.randint(0, 3, (count,), generator=drawn)}


def in_batches(whole: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    parts = [torch.split(column, size) for column in whole.values()]
    return [dict(zip(whole, part, strict=True)) for part in zip(*parts, strict=True)]


def test_they_are_those_of_all_records_at_once_and_begin_anew_with_each_validation() -> None:
    model, whole = nn.Linear(5, 3), columns(40)
    metrics = ValidationMetrics([MulticlassF1Score(3), MulticlassAccuracy(3), MulticlassAccuracy(3, top_k=2)], CPU)
    with torch.no_grad():
        scores = model(whole["x"])
    expected = {
        "multiclass_f1_score": MulticlassF1Score(3)(scores, whole["label"]).item(),
        "multiclass_accuracy": MulticlassAccuracy(3)(scores, whole["label"]).item(),
        "multiclass_accuracy_2": MulticlassAccuracy(3, top_k=2)(scores, whole["label"]).item(),
    }
    alone = validate(model, TASK, in_batches(whole, 7), CPU)
    validate(model, TASK, in_batches(columns(30, seed=2), 7), CPU, metrics=metrics)
    assert validate(model, TASK, in_batches(whole, 7), CPU, metrics=metrics) == alone | expected
    assert evaluate(model, TASK, in_batches(whole, 9), CPU, (), metrics=metrics).figures == pytest.approx(
        alone | expected
    )


def test_records_without_a_class_are_in_no_metric() -> None:
    model, whole = nn.Linear(5, 3), columns(40)
    task, kept = Classification(input="x", ignore_index=2), whole["label"] != 2
    found = validate(model, task, in_batches(whole, 7), CPU, metrics=ValidationMetrics([MulticlassF1Score(3)], CPU))
    with torch.no_grad():
        expected = MulticlassF1Score(3)(model(whole["x"][kept]), whole["label"][kept]).item()
    assert found["multiclass_f1_score"] == expected


def test_a_metric_called_as_what_the_task_says_takes_no_place_of_it() -> None:
    class Loss(torchmetrics.MeanMetric):
        def update(self, scores: torch.Tensor, targets: torch.Tensor) -> None:  # type: ignore[override]
            super().update(torch.full(targets.shape, 7.0))

    found = validate(nn.Linear(5, 3), TASK, in_batches(columns(8), 4), CPU, metrics=ValidationMetrics([Loss()], CPU))
    assert found["loss"] != found["loss_2"] == 7.0


@pytest.mark.parametrize(
    ("metric", "outcome", "message"),
    [
        (
            MulticlassF1Score(3),
            Outcome(torch.zeros(()), 2),
            "gives no scores and targets, which multiclass_f1_score needs",
        ),
        (
            MulticlassF1Score(3),
            Outcome(torch.zeros(()), 2, {}, torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)),
            r"multiclass_f1_score does not take scores \[2, 4\] and targets \[2\]: ValueError",
        ),
        (
            MulticlassConfusionMatrix(3),
            Outcome(torch.zeros(()), 2, {}, torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)),
            "multiclass_confusion_matrix gives no single number: give it arguments",
        ),
    ],
)
def test_what_does_not_fit_is_the_users_mistake(metric: Any, outcome: Outcome, message: str) -> None:
    class Told(Classification):
        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            return outcome

    with pytest.raises(UsageError, match=message):
        validate(nn.Linear(5, 3), Told(input="x"), [columns(2)], CPU, metrics=ValidationMetrics([metric], CPU))


F1 = "torchmetrics.classification.MulticlassF1Score"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "no.such.Class"], "--metrics: no.such.Class is none of "),
        (["--metrics", "[torch.nn.Linear]"], "--metrics: "),
        (["--metrics+", "torchmetrics.Nope"], "--metrics 'torchmetrics.Nope': module 'torchmetrics' has no 'Nope'"),
        (["--metrics+", F1], "--metrics: give num_classes as well"),
        (["--metrics+", F1, "--metrics.num_classes", "many"], "--metrics.num_classes: many is no int"),
        (["--metrics+", F1, "--metrics.classes", "3"], "there is no option --metrics.classes"),
    ],
)
def test_a_mistake_in_a_class_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        main(["evaluate", *arguments])
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 250
