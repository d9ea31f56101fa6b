"""Augmentation: what is drawn anew for each batch and changes its inputs, in training alone.

What a batch draws follows from the seed and its number: so a run that was stopped goes on with the same bits, and
nothing else that draws sees a difference.
"""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

import torch
from torch import nn

from protocol.class_path import check_added
from protocol.command_line import ArgumentParser, located
from protocol.errors import UsageError
from trainer.rng import drawing_from
from trainer.stages import Stages
from trainer.supervised import described
from trainer.task import Task
from trainer.transfer import Columns

Each = Literal["record", "batch"]

#: Where classes are from that draw once for whatever they are given.
DRAW_ONCE = "torchvision.transforms."


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """For what augmentation draws. A run goes on with the same."""

    augment_each: Each = "record"
    """What torchvision's transforms draw for: each `record`, or once for the whole `batch`, which is some 50 times as
    fast. Other classes are given the batch and draw as they like."""

    def __post_init__(self) -> None:
        if self.augment_each not in get_args(Each):
            raise UsageError(f"--augment_each is record or batch, not {self.augment_each!r}")


def add_augment(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """`--augment`: a list of class paths with typed arguments. Raises `UsageError` for one that leads nowhere."""
    check_added(arguments, "augment", nn.Module)
    parser.add_argument(
        "--augment",
        metavar="CLASSES",
        type=list[nn.Module],
        default=[],
        help="classes that change the task's inputs in training, one after the other: torchvision.transforms.v2, "
        "trainer.transforms or your own; a list in YAML, and here "
        "--augment+ torchvision.transforms.v2.RandomHorizontalFlip --augment.p 0.5 adds one",
    )


class Augmentation:
    """The transforms of a run, put on a batch's `task.inputs`; without any it gives the columns as they are.

    A transform takes a tensor [records, …], uint8 or float, where the batch lies, and gives one of as many records; one
    of torchvision's is given a record at a time, unless the settings say otherwise. What it does in place is done to a
    copy. Raises `UsageError` for a task that names no inputs.
    """

    def __init__(
        self,
        transforms: Sequence[nn.Module] | None,
        task: Task,
        settings: AugmentationSettings,
        *,
        seed: int,
        device: torch.device,
        stages: Stages,
    ) -> None:
        self._transforms = [transform.to(device) for transform in transforms or ()]
        self._inputs, self._seed, self._device, self._stages = task.inputs, seed, device, stages
        self._each = settings.augment_each
        if self._transforms and not self._inputs:
            raise UsageError(f"--augment: the task {type(task).__name__} does not say what is input: give it `inputs`")

    def __call__(self, columns: Columns, number: int) -> Columns:
        """The columns of batch `number`, those of the inputs changed.

        Raises `UsageError` for a transform that fails, or gives another number of records.
        """
        if not self._transforms:
            return columns
        with self._stages.of("augment"), torch.no_grad(), drawing_from(seed_of(self._seed, number), self._device):
            changed = {name: self._changed(name, columns[name]) for name in self._inputs if name in columns}
        return ChainMap(changed, columns)  # type: ignore[arg-type]  # it writes into the first alone

    def _changed(self, name: str, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        for transform in self._transforms:
            one_by_one = self._each == "record" and _draws_once(transform)
            try:
                found = torch.stack([transform(each) for each in values]) if one_by_one else transform(values)
            except Exception as error:  # whatever somebody's class does
                raise UsageError(f"{_of(transform, name, values)}: {located(error)}") from error
            if not isinstance(found, torch.Tensor) or found.shape[:1] != values.shape[:1]:
                given = described(found) if isinstance(found, torch.Tensor) else type(found).__name__
                raise UsageError(f"{_of(transform, name, values)}, of which it makes {given}: give one of its records")
            values = found
        return values


def seed_of(seed: int, number: int) -> int:
    """64 bits for batch `number` of a run."""
    return int.from_bytes(blake2b(f"augment {seed} {number}".encode(), digest_size=8).digest())


def _draws_once(transform: nn.Module) -> bool:
    return any(kind.__module__.startswith(DRAW_ONCE) for kind in type(transform).__mro__)


def _of(transform: nn.Module, name: str, values: torch.Tensor) -> str:
    return f"--augment: {type(transform).__name__} does not go with the column {name!r}, {described(values)}"
