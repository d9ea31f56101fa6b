"""Networks for pictures in float32 that give scores [count, classes]: of one channel and 28 × 28, or photos."""

import torch
from torch import nn
from torchvision.models import resnet18


class TwoConvolutions(nn.Module):
    """Two convolutions with batch normalisation, two linear layers with dropout; 825,066 parameters.

    A shoe may point left or right: half of the pictures are mirrored while it is trained, and when it is asked it
    scores both sides and gives the mean.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(1, 32, kernel_size=5),
            *convolution(32, 64, kernel_size=3),
            *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64 * 7 * 7, 256), nn.ReLU()),
            *(nn.Dropout(dropout), nn.Linear(256, classes)),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        mirrored = pictures.flip(-1)
        if not self.training:
            mean: torch.Tensor = (self.layers(pictures) + self.layers(mirrored)) / 2
            return mean
        heads = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        scores: torch.Tensor = self.layers(torch.where(heads, mirrored, pictures))
        return scores


def convolution(channels: int, into: int, kernel_size: int) -> tuple[nn.Module, ...]:
    # Pooled first: normalisation and activation then have a quarter of the work.
    convolved = nn.Conv2d(channels, into, kernel_size, padding=kernel_size // 2, bias=False)
    return convolved, nn.MaxPool2d(2), nn.BatchNorm2d(into), nn.ReLU()


class ResNet18(nn.Module):
    """torchvision's, with the stem that small pictures get: one channel, 3×3 without stride, no pooling."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.network = resnet18(num_classes=classes)
        self.network.conv1 = nn.Conv2d(1, 64, kernel_size=3, padding=1, bias=False)
        self.network.maxpool = nn.Identity()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(pictures)
        return scores


class Small(nn.Module):
    """One convolution and one linear layer; 3,098 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 8, kernel_size=5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            nn.Linear(8 * 6 * 6, classes),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(pictures)
        return scores


class Photos(nn.Module):
    """Pictures of any size [count, 3, height, width] in, scores [count, classes] out; three convolutions."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(3, width, kernel_size=5),
            *convolution(width, 2 * width, kernel_size=3),
            *convolution(2 * width, 2 * width, kernel_size=3),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes)),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(pictures)
        return scores
