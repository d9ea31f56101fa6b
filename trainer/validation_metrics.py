"""Metrics of torchmetrics' kind that a validation gives beside loss and accuracy. They leave no trace on training."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from protocol.class_path import check_added, class_path_in
from protocol.command_line import ArgumentParser, located
from protocol.errors import UsageError
from trainer.task import Outcome

if TYPE_CHECKING:
    from torchmetrics import Metric

#: What a validation says under these names is said by its task.
TAKEN = ("loss", "accuracy", "count")
#: What a producer takes as `--metrics`.
ADDRESS = re.compile(r"[\w.\[\]]*:\d+")


def add_metrics(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """`--metrics`: a list of class paths with typed arguments. Only who gives one waits for torchmetrics' import."""
    kind: object = str
    if "--metrics" in arguments[:-1] and ADDRESS.fullmatch(arguments[arguments.index("--metrics") + 1]):
        raise UsageError("--metrics names classes of torchmetrics here: for Prometheus give --prometheus [HOST]:PORT")
    if class_path_in(arguments, "metrics") is not None or any(each.startswith("--metrics") for each in arguments):
        from torchmetrics import Metric

        kind = Metric
        check_added(arguments, "metrics", Metric)
    parser.add_argument(
        "--metrics",
        metavar="CLASSES",
        type=list[kind] | None,  # type: ignore[valid-type]
        default=None,
        help="classes of torchmetrics that validation reports beside loss and accuracy; a list in YAML, and here "
        "--metrics+ torchmetrics.classification.MulticlassF1Score --metrics.num_classes 10 adds one",
    )


class ValidationMetrics:
    """Metrics that see the scores [count, classes] and targets [count] of all batches since the last `compute`.

    They are called as their classes are, `multiclass_f1_score`; further ones of one class are numbered. Raises
    `UsageError` where the task gives no scores, and for a metric that does not take them or gives more than one number.
    """

    def __init__(self, metrics: "Sequence[Metric] | None", device: torch.device) -> None:
        self._metrics: dict[str, Metric] = {}
        taken = Counter(TAKEN)
        for metric in metrics or ():
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower()
            taken[name] += 1
            self._metrics[name if taken[name] == 1 else f"{name}_{taken[name]}"] = metric.to(device)

    def update(self, outcome: Outcome) -> None:
        """Count the records of an outcome in."""
        for name, metric in self._metrics.items():
            if outcome.scores is None or outcome.targets is None:
                raise UsageError(f"--metrics: this task gives no scores and targets, which {name} needs: leave it out")
            known = outcome.targets >= 0  # the others have no class
            try:
                metric.update(outcome.scores[known].float(), outcome.targets[known])
            except (ValueError, TypeError, RuntimeError, IndexError) as error:
                given = f"scores {list(outcome.scores.shape)} and targets {list(outcome.targets.shape)}"
                raise UsageError(f"--metrics: {name} does not take {given}: {located(error)}") from error

    def compute(self) -> dict[str, float]:
        """The number that each has come to, by name; they begin anew."""
        found = {}
        for name, metric in self._metrics.items():
            value = metric.compute()
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                mend = "give it arguments with which it gives one, such as average: macro"
                raise UsageError(f"--metrics: {name} gives no single number: {mend}")
            found[name] = value.item()
            metric.reset()
        return found
