"""The pictures of a validation that the model was most wrong about."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from trainer.task import Outcome

KEPT = 16


@dataclass(frozen=True)
class Mistake:
    """A picture [1 or 3, height, width] of the class `truth` that was told to be of `told`, with its cross-entropy."""

    loss: float
    truth: int
    told: int
    picture: npt.NDArray[np.uint8]


class Mistakes:
    """Those with the largest losses. There are none where there are no pictures or the task gives no scores."""

    def __init__(self) -> None:
        #: At most `KEPT`, the largest loss first.
        self.worst: list[Mistake] = []

    def observe(self, columns: Mapping[str, torch.Tensor], outcome: Outcome) -> None:
        """Look a batch through; waits for the device."""
        pictures = next(filter(_are_pictures, columns.values()), None)
        if pictures is None or outcome.scores is None or outcome.targets is None:
            return
        scores, targets = outcome.scores.float(), outcome.targets.long()
        told = scores.argmax(dim=1)
        losses = functional.cross_entropy(scores, targets, reduction="none", ignore_index=-1)
        found = losses.masked_fill(told == targets, 0).topk(min(KEPT, len(losses)))
        least = self.worst[-1].loss if len(self.worst) == KEPT else 0.0
        rows = zip(*(each.tolist() for each in (found.values, found.indices)), strict=True)
        mistakes = [
            Mistake(loss, int(targets[row]), int(told[row]), pictures[row].cpu().numpy().copy())
            for loss, row in rows
            if loss > least
        ]
        self.worst = sorted([*self.worst, *mistakes], key=lambda each: each.loss, reverse=True)[:KEPT]


def _are_pictures(column: torch.Tensor) -> bool:
    return column.dtype == torch.uint8 and column.ndim == 4 and column.shape[1] in (1, 3)
