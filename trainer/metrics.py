"""Means over many batches that never make the device wait for the program, or the program for the device."""

from collections.abc import Iterable
from typing import Any

import torch

from trainer.task import Outcome

#: Sums that are reported under another name than their own.
REPORTED_AS = {"correct": "accuracy"}


#: Outcomes that are kept as they come and added up at once: operations on single numbers would slow every step.
KEPT = 64


class Window:
    """Sums over the outcomes since the last `reset`, kept in float64 on the device that they came from.

    Only `read` and `finite` wait for the device. Saved in the middle and restored, a window gives the same bits
    as one that was never saved: when outcomes are added up depends on their numbers of records alone.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = 0
        self._loss = torch.zeros((), dtype=torch.float64)
        self._sums: dict[str, torch.Tensor] = {}
        # What is not added up yet, all of `_each` records.
        self._each = 0
        self._kept_losses: list[torch.Tensor] = []
        self._kept_sums: dict[str, list[torch.Tensor]] = {}

    def add(self, outcome: Outcome) -> None:
        """Count the records of an outcome in, each with the same weight."""
        if outcome.count != self._each or len(self._kept_losses) == KEPT:
            self._loss, self._sums = self._totals()
            self._each, self._kept_losses, self._kept_sums = outcome.count, [], {}
        self.count += outcome.count
        self._kept_losses.append(detached(outcome.loss))
        for name, value in outcome.sums.items():
            self._kept_sums.setdefault(name, []).append(detached(value))

    def read(self) -> dict[str, float]:
        """The means by name: `loss`, `accuracy` where there is `correct`, other sums by their own names, and `count`.

        An empty window has only the count.
        """
        if not self.count:
            return {"count": 0.0}
        loss, sums = self._totals()
        totals = torch.stack([loss, *sums.values()]).tolist()
        names = ["loss", *(REPORTED_AS.get(name, name) for name in sums)]
        return {name: total / self.count for name, total in zip(names, totals, strict=True)} | {
            "count": float(self.count)
        }

    def finite(self) -> bool:
        """Whether every loss since the last reset was a number: one NaN or infinity stays in the sum for ever."""
        return bool(self._totals()[0].isfinite())

    def state_dict(self) -> dict[str, Any]:
        """The sums as they lie on the device, for a checkpoint to copy, and what is not added up yet."""
        kept = {name: torch.stack(values) for name, values in self._kept_sums.items()}
        losses = torch.stack(self._kept_losses) if self._kept_losses else torch.zeros(0)
        return {
            "count": self.count,
            "loss": self._loss,
            "sums": dict(self._sums),
            "kept": {"each": self._each, "losses": losses, "sums": kept},
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device | None = None) -> None:
        """Go on from a `state_dict`, with outcomes on `device` (None: where the state's tensors lie)."""
        self.reset()
        self.count = state["count"]
        self._loss = state["loss"].to(device)
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        if "kept" in state:  # in older states everything is added up
            kept = state["kept"]
            self._each = kept["each"]
            self._kept_losses = list(kept["losses"].to(device))
            self._kept_sums = {name: list(values.to(device)) for name, values in kept["sums"].items()}

    def _totals(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and sums with all that was kept: new tensors, so what state_dict() gave out does not change."""
        if not self._kept_losses:
            return self._loss, self._sums
        sums = dict(self._sums)
        for name, values in self._kept_sums.items():
            sums[name] = sums[name] + _total(values) if name in sums else _total(values)
        return self._loss + _total(self._kept_losses) * self._each, sums


def _total(values: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(values).sum(dtype=torch.float64)


def detached(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without a graph; itself where it has none, which is quicker."""
    return tensor.detach() if tensor.requires_grad else tensor


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether none of the tensors holds a NaN or an infinity; waits for the device once.

    A step can ruin the weights while every loss up to it was a number, so a save looks at them as well.
    """
    flags = [tensor.detach().isfinite().all() for tensor in tensors]
    return bool(torch.stack(flags).all()) if flags else True
