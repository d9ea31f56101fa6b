"""A smaller model learns what a larger one answers (Hinton, Vinyals, Dean, arXiv 1503.02531)."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from protocol.errors import UsageError
from trainer.supervised import INPUT, Supervised, described
from trainer.task import Prepared
from trainer.tasks import Classification
from trainer.trained import best_checkpoint, open_trained


@dataclass(frozen=True)
class Distillation(Classification):
    """The answers of a model that was trained before, learnt with Kullback-Leibler divergence.

    Accuracy and, by their share, the loss look at the labels of the stream as a classification does.
    """

    teacher: str = ""
    """Run directory of the model to learn from; its best checkpoint is read."""

    temperature: float = 2.0
    """What the scores of both are divided by: above 1 the classes that are not the first choice count more."""

    labels: float = 0.0
    """Share of the loss that the stream's own labels have, from 0 to 1."""

    _teacher: "_Teacher" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise UsageError(f"temperature {self.temperature} of a distillation: give a number above 0")
        if not 0 <= self.labels <= 1:
            raise UsageError(f"labels {self.labels} of a distillation: give their share of the loss, from 0 to 1")
        if not self.teacher:
            raise UsageError("a distillation needs a teacher: give the directory of a run that was trained")
        object.__setattr__(self, "_teacher", _Teacher(Path(self.teacher).expanduser(), self))

    def loss(self, scores: torch.Tensor, prepared: Prepared) -> torch.Tensor:
        """The mean divergence, times the temperature's square so that its gradients do not vanish with it."""
        taught = self._teacher.scores(prepared[INPUT])
        if taught.shape != scores.shape:
            raise UsageError(f"the teacher gives {described(taught)} where the model gives {described(scores)}")
        ours, theirs = (functional.log_softmax(each / self.temperature, dim=1) for each in (scores, taught))
        soft = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.temperature**2
        return soft if not self.labels else torch.lerp(soft, super().loss(scores, prepared), self.labels)


class _Teacher:
    """The model of a run, which does not learn. Raises `UsageError` where it saw its input in another way."""

    def __init__(self, run_dir: Path, pupil: Supervised) -> None:
        trained = open_trained(*best_checkpoint(run_dir))
        task = trained.task
        if isinstance(task, Supervised) and (task.mean, task.std) != (pupil.mean, pupil.std):
            raise UsageError(
                f"the teacher saw its input with mean {task.mean} and std {task.std}: give the task the same"
            )
        self._model: nn.Module = trained.model.eval().requires_grad_(False)
        self._device = torch.device("cpu")

    def scores(self, values: torch.Tensor) -> torch.Tensor:
        """What it answers, without gradients."""
        if values.device != self._device:
            self._model, self._device = self._model.to(values.device), values.device
        with torch.no_grad():
            answers: torch.Tensor = self._model(values)
        return answers
