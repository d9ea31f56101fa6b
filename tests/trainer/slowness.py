"""One part of a run that takes its time, for each stage that a user's own parts can slow down."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.trainer.counting import DroppingClassifier
from trainer.task import Prepared
from trainer.tasks import Classification


class Pictures:
    """A map-style dataset; each record takes `record_s` to read."""

    def __init__(self, records: int, record_s: float = 0.0, padding: int = 1 << 16) -> None:
        self._records, self._record_s, self._padding = records, record_s, padding

    def __len__(self) -> int:
        return self._records

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(self._record_s)
        if not 0 <= index < self._records:
            raise IndexError(index)
        picture = np.full((1, 28, 28), index % 250, np.uint8)
        return {"image": picture, "label": index % 10, "padding": np.zeros(self._padding, np.uint8)}


class SlowClassifier(DroppingClassifier):
    """Takes `step_s` to train on a batch and `state_s` to say its state."""

    def __init__(self, step_s: float = 0.0, state_s: float = 0.0) -> None:
        super().__init__()
        self._step_s = step_s
        self._state_s = state_s

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores [count, 10]."""
        if self.training:
            time.sleep(self._step_s)
        return super().forward(pictures)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # of two overloads
        time.sleep(self._state_s)
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        return state


@dataclass(frozen=True)
class SlowClassification(Classification):
    """Takes `prepare_s` to prepare a batch."""

    prepare_s: float = 0.0

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        time.sleep(self.prepare_s)
        return super().prepare(columns, device)
