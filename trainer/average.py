"""An exponential moving average of what a model learns, which often does better than its newest weights."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A model with averaged parameters and floating buffers; other buffers are as the model has them.

    It is torch's `AveragedModel` with `use_buffers`, without that one's word with the device at each step: the first
    update copies, each later one keeps the share `decay` of what was there.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._averaged = model, deepcopy(model).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._begun = False

    @property
    def module(self) -> nn.Module:
        """The averaged model; before the first update the model itself."""
        return self._averaged if self._begun else self._model

    def update(self) -> None:
        """Take in what the model has become; once after each step."""
        floating: list[tuple[torch.Tensor, torch.Tensor]] = []
        for ours, theirs in zip(_tensors(self._averaged), _tensors(self._model), strict=True):
            if self._begun and ours.is_floating_point():
                floating.append((ours, theirs.detach()))
            else:
                ours.copy_(theirs.detach())
        if floating:
            averaged, newest = zip(*floating, strict=True)
            self._average(averaged, newest, 0)
        self._begun = True

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; `module` is what another model with these weights loads."""
        return {"begun": self._begun, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._begun = state["begun"]
        self._averaged.load_state_dict(state["module"])


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())
