"""Augmentation that draws for each record and changes a whole batch at once: pictures [records, …, height, width].

torchvision's transforms draw once a call, and a call for each record costs more than a small network's step.
"""

import torch
from torch import nn
from torch.nn import functional

from protocol.errors import UsageError


class RandomFlip(nn.Module):
    """Mirrors each picture with the probability `p`, left to right, as torchvision's `RandomHorizontalFlip` does."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UsageError(f"p {p} of a RandomFlip: give a probability from 0 to 1")
        self.p = p

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The same shape and dtype."""
        mirrored = torch.rand(len(pictures)) < self.p  # drawn on the processor: alike wherever the pictures lie
        mirrored = mirrored.to(pictures.device, non_blocking=True)
        return torch.where(mirrored.view(-1, *[1] * (pictures.ndim - 1)), pictures.flip(-1), pictures)


class RandomShift(nn.Module):
    """Moves each picture by up to `pixels` down or up and right or left; what comes in from outside is `fill`.

    torchvision's `RandomCrop` of the picture's own size with this padding does the same.
    """

    def __init__(self, pixels: int = 4, fill: float = 0.0) -> None:
        super().__init__()
        if pixels < 0:
            raise UsageError(f"pixels {pixels} of a RandomShift: give 0 or more")
        self.pixels, self.fill = pixels, fill

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The same shape and dtype."""
        height, width = pictures.shape[-2:]
        drawn = torch.randint(0, 2 * self.pixels + 1, (2, len(pictures)))
        down, right = drawn.to(pictures.device, non_blocking=True)
        channels = pictures.reshape(len(pictures), -1, height, width)
        padded = functional.pad(channels, [self.pixels] * 4, value=self.fill)
        places = padded.unfold(2, height, 1).unfold(3, width, 1)  # [records, channels, down, right, height, width]
        records = torch.arange(len(pictures), device=pictures.device)
        return places[records, :, down, right].view_as(pictures)
