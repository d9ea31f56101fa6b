"""The default model: the garment classifier of PyTorch's introduction to training, a LeNet."""

import torch
from torch import nn
from torch.nn import functional


class GarmentClassifier(nn.Module):
    """Two convolutions with pooling, three linear layers; 44,426 parameters for ten classes.

    Takes pictures [count, 1, 28, 28] in float32, gives unnormalised scores [count, classes].
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores [count, classes]."""
        features = functional.max_pool2d(functional.relu(self.conv1(pictures)), 2)  # [count, 6, 12, 12]
        features = functional.max_pool2d(functional.relu(self.conv2(features)), 2)  # [count, 16, 4, 4]
        hidden = functional.relu(self.fc1(features.flatten(1)))
        scores: torch.Tensor = self.fc3(functional.relu(self.fc2(hidden)))
        return scores
