"""Means over many batches that never make the device wait for the program, or the program for the device."""

from collections.abc import Iterable
from typing import Any

import torch

from trainer.task import Outcome

#: Sums that are reported under another name than their own.
REPORTED_AS = {"correct": "accuracy"}


class Window:
    """Sums over the outcomes since the last `reset`, kept in float64 on the device that they came from.

    Only `read` and `finite` wait for the device. Saved in the middle and restored, a window gives the same bits
    as one that was never saved.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = 0
        self._loss = torch.zeros((), dtype=torch.float64)
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, outcome: Outcome) -> None:
        """Count the records of an outcome in, each with the same weight."""
        self.count += outcome.count
        # New tensors instead of `+=`: what state_dict() gave out must not change.
        self._loss = self._loss + outcome.loss.detach().to(torch.float64) * outcome.count
        for name, value in outcome.sums.items():
            total = value.detach().to(torch.float64)
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def read(self) -> dict[str, float]:
        """The means by name: `loss`, `accuracy` where there is `correct`, other sums by their own names, and `count`.

        An empty window has only the count.
        """
        if not self.count:
            return {"count": 0.0}
        totals = torch.stack([self._loss, *self._sums.values()]).tolist()
        names = ["loss", *(REPORTED_AS.get(name, name) for name in self._sums)]
        return {name: total / self.count for name, total in zip(names, totals, strict=True)} | {
            "count": float(self.count)
        }

    def finite(self) -> bool:
        """Whether every loss since the last reset was a number: one NaN or infinity stays in the sum for ever."""
        return bool(self._loss.isfinite())

    def state_dict(self) -> dict[str, Any]:
        """The sums as they lie on the device, for a checkpoint to copy."""
        return {"count": self.count, "loss": self._loss, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, wherever its tensors lie."""
        self.count = state["count"]
        self._loss = state["loss"]
        self._sums = dict(state["sums"])


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether none of the tensors holds a NaN or an infinity; waits for the device once.

    A step can ruin the weights while every loss up to it was a number, so a save looks at them as well.
    """
    flags = [tensor.detach().isfinite().all() for tensor in tensors]
    return bool(torch.stack(flags).all()) if flags else True
