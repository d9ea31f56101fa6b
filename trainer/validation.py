"""What the model makes of held-out records, without learning from them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from protocol.errors import UsageError
from trainer.confusion import Confusion
from trainer.metrics import Window
from trainer.task import Outcome, Task
from trainer.validation_metrics import ValidationMetrics

Batches = Iterable[Mapping[str, torch.Tensor]]
#: Looks at each batch of a validation: its columns as they were read, and what the model made of them.
Observer = Callable[[Mapping[str, torch.Tensor], Outcome], None]


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
    observers: Sequence[Observer] = (),
    metrics: ValidationMetrics | None = None,
) -> dict[str, float]:
    """Means over all records: `loss`, `accuracy` (where the task counts `correct`) and `count`; then the `metrics`.

    Leaves no trace: each module is in training mode afterwards if it was before, and the global generators of torch
    (from which even `iter(DataLoader)` draws) stand where they stood. Raises `UsageError` where there are no records.
    """
    window = Window()
    with undisturbed(model, device):
        for columns in data_loader:
            outcome = task.evaluate(model, task.prepare(columns, device))
            window.add(outcome)
            for observe in observers:
                observe(columns, outcome)
            if metrics is not None:
                metrics.update(outcome)
    if not window.count:
        raise UsageError("there are no held-out records to validate on: give a set that is not empty, or none")
    return window.read() | ({} if metrics is None else metrics.compute())


def evaluate(
    model: nn.Module,
    task: Task,
    data_loader: Batches,
    device: torch.device,
    class_names: Sequence[str] = (),
    metrics: ValidationMetrics | None = None,
) -> Evaluation:
    """As `validate`, and the accuracy of each class, by its name where there is one, else by its number."""
    confusion = Confusion()
    figures = validate(model, task, data_loader, device, [confusion.observe], metrics)
    return Evaluation(figures, confusion.per_class(class_names))


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
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
