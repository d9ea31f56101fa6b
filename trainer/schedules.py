"""Schedules whose arguments torch's own classes take as objects, so that a settings file can write them."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, SequentialLR


class Sequential(SequentialLR):
    """torch's `SequentialLR`: one of the `schedules` after the other, each but the first from a milestone (step) on."""

    def __init__(
        self, optimizer: Optimizer, schedules: list[Callable[[Optimizer], LRScheduler]], milestones: list[int]
    ) -> None:
        super().__init__(optimizer, [make(optimizer) for make in schedules], milestones)
