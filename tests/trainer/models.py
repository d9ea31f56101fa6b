"""Small models that are named by their class path."""

import torch
from torch import nn


class Three(nn.Linear):
    """Three answers to four numbers."""

    def __init__(self) -> None:
        super().__init__(4, 3)


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.second(self.first(values))
        return answers


class Hesitant(nn.Linear):
    """Looks at its values before it decides what to do with them, which no exported program can."""

    def __init__(self) -> None:
        super().__init__(4, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return super().forward(values if values.sum().item() > 0 else -values)


class Flat(nn.Linear):
    """Scores of four classes from a picture of 28 by 28."""

    def __init__(self) -> None:
        super().__init__(784, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return super().forward(values.flatten(1))
