"""The tasks that are ready-made: one class for a record, numbers, several labels, a distribution, a teacher's answers.

Each loss is torch's own function with torch's own words.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from protocol.errors import DataFault, UsageError
from trainer.supervised import INPUT, TARGET, Numbers, Supervised, check_numbers, described
from trainer.task import Answers, Outcome, Prepared

#: A class that no label has: by default cross-entropy leaves the label -100 out without a word.
IGNORES_NONE = torch.iinfo(torch.int64).min

#: How far off a number is.
Distance = Literal["mse", "l1", "huber"]


@dataclass(frozen=True)
class Classification(Supervised):
    """One class for each record, learnt with cross-entropy. Targets are integers from 0."""

    answers: ClassVar[Answers] = "classes"

    class_weights: list[float] | None = None
    """What each class counts in the loss, one number for each; all the same by default."""

    label_smoothing: float = 0.0
    """How much of each target is spread over all classes, from 0 to 1."""

    ignore_index: int | None = None
    """A target that stands for no class: such records are counted as trained and reported as `ignored`, but are in
    neither loss nor `accuracy`'s numerator."""

    _weights: Numbers = field(default_factory=Numbers, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers("class_weights", self.class_weights)
        if not 0 <= self.label_smoothing <= 1:
            raise UsageError(f"label_smoothing {self.label_smoothing} of a classification: give a number from 0 to 1")

    @property
    def target_dtype(self) -> torch.dtype:
        return torch.int64

    def check_targets(self, targets: torch.Tensor, count: int) -> None:
        if targets.shape != (count,) or targets.is_floating_point() or targets.is_complex():
            raise DataFault(
                f"the column {self.target!r} holds {described(targets)} for {count} records: "
                "a classification needs one integer each"
            )

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """The mean loss; `correct` counts the records whose class got the highest score."""
        targets = prepared[TARGET]
        scores = _scores(model(prepared[INPUT]), len(targets), "a classification")
        loss = self.loss(scores, prepared)
        scores = scores.detach()
        right = scores.argmax(dim=1).eq_(targets)
        sums = {"correct": right.sum()}
        if self.ignore_index is None:
            return Outcome(loss, len(targets), sums, scores, targets)
        ignored = targets == self.ignore_index
        sums["ignored"] = ignored.sum()
        return Outcome(loss, len(targets), sums, scores, targets.masked_fill(ignored, -1))

    def meant(self, answers: torch.Tensor, count: int) -> torch.Tensor:
        """Probabilities [records, classes]."""
        return functional.softmax(_scores(answers, count, "a classification"), dim=1)

    def loss(self, scores: torch.Tensor, prepared: Prepared) -> torch.Tensor:
        """Mean cross-entropy."""
        targets = prepared[TARGET]
        weights = self._weights.on(scores, self.class_weights, "class_weights", "classes")
        smoothing, ignored = self.label_smoothing, self.ignore_index
        try:
            if ignored is None:
                return functional.cross_entropy(
                    scores, targets, weights, ignore_index=IGNORES_NONE, label_smoothing=smoothing
                )
            total = functional.cross_entropy(
                scores, targets, weights, ignore_index=ignored, label_smoothing=smoothing, reduction="sum"
            )
        except IndexError:  # on the CPU alone; on CUDA an assertion of the device ends the program
            _check_classes(targets, scores.shape[1], ignored)
            raise
        kept = targets != ignored
        counted = kept.sum() if weights is None else weights[targets * kept][kept].sum()
        return total / counted.clamp_min(torch.finfo(total.dtype).tiny)  # of a batch without any target it is 0


@dataclass(frozen=True)
class Regression(Supervised):
    """Numbers for each record. With the input's own name as target the model is to give back what it was given."""

    target: str = "target"
    """The column of numbers, of any shape; the model's answer has as many."""

    loss: Distance = "mse"
    """How far off an answer is: mse (mean squared error), l1 (mean absolute error), or huber (the first up to `delta`,
    the second beyond)."""

    delta: float = 1.0
    """Where huber goes over from square to absolute."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in get_args(Distance):
            raise UsageError(f"loss {self.loss!r} of a regression: give one of {', '.join(get_args(Distance))}")
        if not self.delta > 0:
            raise UsageError(f"delta {self.delta} of a regression: give a number above 0")

    @property
    def target_dtype(self) -> torch.dtype:
        return torch.float32

    def check_targets(self, targets: torch.Tensor, count: int) -> None:
        if len(targets) != count or targets.is_complex():
            raise DataFault(f"the column {self.target!r} holds {described(targets)}, which is no target of {count}")

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """The mean distance; `absolute_error` and `squared_error` are sums of each record's mean."""
        targets, answers = prepared[TARGET], model(prepared[INPUT])
        if answers.shape != targets.shape:  # torch would repeat [count, 1] over [count], and mean [count, count]
            if len(answers) != len(targets) or answers.numel() != targets.numel():
                raise UsageError(
                    f"the model gives {described(answers)} for targets {described(targets)}: give a model with as many"
                )
            answers = answers.reshape(targets.shape)
        errors = (answers.detach() - targets).reshape(len(targets), -1)
        sums = {"absolute_error": errors.abs().mean(1).sum(), "squared_error": errors.square().mean(1).sum()}
        return Outcome(self._distance(answers, targets), len(targets), sums)

    def _distance(self, answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        match self.loss:
            case "mse":
                return functional.mse_loss(answers, targets)
            case "l1":
                return functional.l1_loss(answers, targets)
            case _:
                return functional.huber_loss(answers, targets, delta=self.delta)


@dataclass(frozen=True)
class MultiLabel(Supervised):
    """Any number of labels for each record, learnt with binary cross-entropy. Targets [labels] are 0 or 1."""

    answers: ClassVar[Answers] = "labels"

    target: str = "labels"
    """The column of labels: an entry for each that there is."""

    pos_weight: list[float] | None = None
    """What a 1 counts against a 0 in the loss, one number for each label; the same by default."""

    _weights: Numbers = field(default_factory=Numbers, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers("pos_weight", self.pos_weight)

    @property
    def target_dtype(self) -> torch.dtype:
        return torch.float32

    def check_targets(self, targets: torch.Tensor, count: int) -> None:
        if targets.ndim != 2 or len(targets) != count or targets.is_complex():
            raise DataFault(
                f"the column {self.target!r} holds {described(targets)} for {count} records: several labels need one "
                "entry a label"
            )

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """Mean binary cross-entropy; `correct` counts the share of each record's labels that were told right."""
        targets = prepared[TARGET]
        scores = _scores(model(prepared[INPUT]), len(targets), "several labels")
        _check_width(scores, targets, "labels")
        weights = self._weights.on(scores, self.pos_weight, "pos_weight", "labels")
        loss = functional.binary_cross_entropy_with_logits(scores, targets, pos_weight=weights)
        right = (scores.detach() > 0) == (targets > 0.5)
        return Outcome(loss, len(targets), {"correct": right.float().mean(1).sum()})

    def meant(self, answers: torch.Tensor, count: int) -> torch.Tensor:
        """Probabilities [records, labels]."""
        return _scores(answers, count, "several labels").sigmoid()


@dataclass(frozen=True)
class Distribution(Supervised):
    """Probabilities for each record, learnt with Kullback-Leibler divergence. Targets [classes] add up to 1."""

    answers: ClassVar[Answers] = "classes"

    target: str = "probabilities"
    """The column of probabilities, floats."""

    @property
    def target_dtype(self) -> torch.dtype:
        return torch.float32

    def check_targets(self, targets: torch.Tensor, count: int) -> None:
        if targets.ndim != 2 or len(targets) != count or not targets.is_floating_point():
            raise DataFault(
                f"the column {self.target!r} holds {described(targets)} for {count} records: "
                "a distribution needs a float for each class"
            )

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """Mean divergence of the model's distribution from the target; `correct` is where both prefer one class."""
        targets = prepared[TARGET]
        scores = _scores(model(prepared[INPUT]), len(targets), "a distribution")
        _check_width(scores, targets, "classes")
        loss = functional.kl_div(functional.log_softmax(scores, dim=1), targets, reduction="batchmean")
        right = scores.detach().argmax(dim=1) == targets.argmax(dim=1)
        return Outcome(loss, len(targets), {"correct": right.sum()})

    def meant(self, answers: torch.Tensor, count: int) -> torch.Tensor:
        """Probabilities [records, classes]."""
        return functional.softmax(_scores(answers, count, "a distribution"), dim=1)


def _scores(answers: torch.Tensor, count: int, who: str) -> torch.Tensor:
    if answers.ndim != 2 or answers.shape[0] != count:  # len() would fix the number of records of an export
        raise UsageError(
            f"the model gives {described(answers)} for {count} records: {who} needs a model "
            "that gives [records, classes]"
        )
    return answers


def _check_width(scores: torch.Tensor, targets: torch.Tensor, things: str) -> None:
    if scores.shape != targets.shape:
        raise UsageError(f"the model gives {scores.shape[1]} {things} for targets of {targets.shape[1]}: make it equal")


def _check_classes(targets: torch.Tensor, classes: int, ignored: int | None) -> None:
    lowest, highest = (int(bound) for bound in targets[targets != ignored].aminmax())
    if lowest < 0 or highest >= classes:
        label = lowest if lowest < 0 else highest
        raise DataFault(f"label {label} is out of range: the model tells classes 0 to {classes - 1} apart")
