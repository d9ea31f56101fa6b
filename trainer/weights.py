"""Weights and gradients of a model in numbers for people: norms, and values for histograms."""

from collections.abc import Iterable
from math import ceil

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import get_total_norm

#: Of a larger tensor as many values are enough for the shape of its histogram.
VALUES = 100_000


def norms(model: nn.Module, before_clipping: torch.Tensor | None = None) -> dict[str, float]:
    """`gradient` and `weight`: Euclidean norms of all that is learnt, as the last step left it; waits for the device.

    Where gradients were clipped their norm before that takes the place of what is left of it. Before a life's first
    step there is no `gradient`.
    """
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [_dense(parameter.grad) for parameter in learnt if parameter.grad is not None]
    found = {}
    with torch.no_grad():
        if before_clipping is not None:
            found["gradient"] = before_clipping
        elif gradients:
            found["gradient"] = get_total_norm(gradients)
        found["weight"] = get_total_norm(learnt)
        device = found["weight"].device
        values = torch.stack([norm.to(device, torch.float64) for norm in found.values()]).tolist()
    return dict(zip(found, values, strict=True))


def histogram_values(model: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """The finite values [n] of each parameter and of its gradient, as `weights/NAME` and `gradients/NAME`.

    Of a large tensor they are at most `VALUES`, evenly spaced; a tensor without a finite value is left out.
    """
    tensors = {
        **{f"weights/{name}": parameter.detach() for name, parameter in model.named_parameters()},
        **{f"gradients/{name}": _dense(grad) for name, grad in _gradients(model)},
    }
    finite = {name: _finite(tensor) for name, tensor in tensors.items()}
    return {name: values for name, values in finite.items() if values.size}


def _gradients(model: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            yield name, parameter.grad


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    """Of a sparse gradient (embeddings have some) the values that are there."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _finite(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    spaced = tensor.reshape(-1)[:: max(1, ceil(tensor.numel() / VALUES))]
    values: npt.NDArray[np.float32] = spaced.float().cpu().numpy()
    return values[np.isfinite(values)]
