"""Augmentation that draws for each record and changes a whole batch at once: pictures [records, …, height, width].

torchvision's transforms draw once a call, and a call for each record costs more than a small network's step.
"""

import math
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from protocol.errors import UsageError

#: The longer side of an erased rectangle against the shorter one, at most.
WIDEST: Final = 3.3


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


class RandomErase(nn.Module):
    """Covers with the probability `p` a rectangle of each picture with `fill`, as torchvision's `RandomErasing` does.

    It covers `least` to `most` of the picture, and is up to 3.3 times as wide as it is high, or as high as it is wide
    (Zhong et al., Random Erasing Data Augmentation, AAAI 2020); one that would be too wide or too high ends at the
    picture's edge.
    """

    def __init__(self, p: float = 0.5, least: float = 0.02, most: float = 0.33, fill: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p <= 1 or not 0 <= least <= most <= 1:
            raise UsageError(f"p {p}, least {least}, most {most} of a RandomErase: give a probability and two shares")
        self.p, self.least, self.most, self.fill = p, least, most, fill

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The same shape and dtype."""
        records, (height, width) = len(pictures), pictures.shape[-2:]
        area = torch.empty(records).uniform_(self.least, self.most) * height * width
        ratio = torch.empty(records).uniform_(-math.log(WIDEST), math.log(WIDEST)).exp()
        size = torch.stack(
            ((area * ratio).sqrt().round().clamp(max=height), (area / ratio).sqrt().round().clamp(max=width))
        )
        first = (torch.rand(2, records) * (torch.tensor([[height], [width]]) - size + 1)).floor()
        size[:, torch.rand(records) >= self.p] = 0
        down, right = (
            _between(first[side], size[side], extent).to(pictures.device, non_blocking=True)
            for side, extent in enumerate((height, width))
        )
        covered = down[:, :, None] & right[:, None, :]
        covered = covered.view(records, *[1] * (pictures.ndim - 3), height, width)
        return pictures.masked_fill(covered, self.fill)


def _between(first: torch.Tensor, size: torch.Tensor, extent: int) -> torch.Tensor:
    """Which of 0 to `extent` - 1 lie in each of the spans, [spans, extent]."""
    places = torch.arange(extent)
    return (places >= first[:, None]) & (places < (first + size)[:, None])
