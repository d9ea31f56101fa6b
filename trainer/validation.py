"""What the model makes of held-out records, without learning from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from protocol.errors import UsageError
from trainer.metrics import Window
from trainer.task import Task
from trainer.validation_metrics import ValidationMetrics

Batches = Iterable[Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """`figures` as `validate` gives them; `per_class` is the share of each class's records that was told right.

    Classes without a record are left out; where the task gives no scores `per_class` is empty.
    """

    figures: dict[str, float]
    per_class: dict[str, float] = field(default_factory=dict)


def validate(
    model: nn.Module,
    task: Task,
    data_loader: Batches,
    device: torch.device,
    metrics: ValidationMetrics | None = None,
) -> dict[str, float]:
    """Means over all records: `loss`, `accuracy` (where the task counts `correct`) and `count`; then the `metrics`.

    Leaves no trace: each module is in training mode afterwards if it was before, and the global generators of torch
    (from which even `iter(DataLoader)` draws) stand where they stood. Raises `UsageError` where there are no records.
    """
    window = Window()
    with _undisturbed(model, device):
        for columns in data_loader:
            outcome = task.evaluate(model, task.prepare(columns, device))
            window.add(outcome)
            if metrics is not None:
                metrics.update(outcome)
    return _figures(window, metrics)


def evaluate(
    model: nn.Module,
    task: Task,
    data_loader: Batches,
    device: torch.device,
    class_names: Sequence[str] = (),
    metrics: ValidationMetrics | None = None,
) -> Evaluation:
    """As `validate`, and the accuracy of each class, by its name where there is one, else by its number."""
    from torchmetrics.classification import MulticlassConfusionMatrix  # importing it takes seconds; training needs none

    window = Window()
    confusion: MulticlassConfusionMatrix | None = None
    with _undisturbed(model, device):
        for columns in data_loader:
            outcome = task.evaluate(model, task.prepare(columns, device))
            window.add(outcome)
            if metrics is not None:
                metrics.update(outcome)
            if outcome.scores is None or outcome.targets is None:
                continue
            if confusion is None:
                confusion = MulticlassConfusionMatrix(num_classes=outcome.scores.shape[1]).to(device)
            confusion.update(outcome.scores, outcome.targets)
    figures = _figures(window, metrics)
    if confusion is None:
        return Evaluation(figures)
    matrix = confusion.compute()
    rows = zip(matrix.diagonal().tolist(), matrix.sum(dim=1).tolist(), strict=True)
    return Evaluation(
        figures,
        {
            class_names[number] if number < len(class_names) else str(number): right / total
            for number, (right, total) in enumerate(rows)
            if total
        },
    )


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients; then every module has the mode that it had, frozen ones among them."""
    training = {module: module.training for module in model.modules()}
    generators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(generators), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, mode in training.items():
                module.training = mode


def _figures(window: Window, metrics: ValidationMetrics | None) -> dict[str, float]:
    if not window.count:
        raise UsageError("there are no held-out records to validate on: give a set that is not empty, or none")
    return window.read() | (metrics.compute() if metrics is not None else {})
