"""A task of one's own: a network learns to take noise out of pictures.

python -m producer --passes 2 --rate 0
python -m trainer train --config examples/denoising.yaml
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import mse_loss

from trainer.task import Outcome, Prepared, Task


class Denoising(Task):
    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {"clean": columns["image"].to(device, non_blocking=True).float().div_(255)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        clean = prepared["clean"]
        noise = torch.randn_like(clean) * 0.3
        loss = mse_loss(model(clean + noise), clean)
        return Outcome(loss, len(clean))


class Denoiser(nn.Sequential):
    """Pictures [count, 1, 28, 28] with noise in, without out; values from 0 to 1."""

    def __init__(self, width: int = 256) -> None:
        encoder = (nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        super().__init__(*encoder, nn.Linear(width, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
