"""torchvision's FashionMNIST in a DataLoader, as PyTorch's tutorials write it: decoded and normalised one by one."""

import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.peers.measuring import measure, over_and_over, parser

MEAN, STD = 0.2860, 0.3530


def restored(images: torch.Tensor) -> torch.Tensor:
    """The bytes [B, 1, 28, 28] that were normalised."""
    return ((images * STD + MEAN) * 255).round().to(torch.uint8)


def main() -> None:
    """Measure it."""
    arguments = parser().parse_args()
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    loader = DataLoader(
        datasets.FashionMNIST(arguments.data, train=True, transform=transform),
        batch_size=arguments.batch_size,
        shuffle=True,
        num_workers=arguments.workers,
        persistent_workers=arguments.workers > 0,
    )
    measure(arguments, over_and_over(loader), version=torchvision.__version__, restore=restored)


if __name__ == "__main__":
    main()
