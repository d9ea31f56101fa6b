"""`python -m benchmarks.tutorial_loop`: the PyTorch beginner tutorial's own loop, without a stream, over several seeds.

What the yardstick of `tutorial.yaml` is where it is not one seed's luck. The loop, its settings and its transforms are
those of https://docs.pytorch.org/tutorials/beginner/introyt/trainingyt.html: 60,000 pictures a pass, shuffled anew.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from trainer.model import GarmentClassifier


def accuracies(seed: int, passes: int, data: str) -> list[float]:
    """On the test split, after each pass."""
    torch.manual_seed(seed)
    transform = Compose([ToTensor(), Normalize((0.5,), (0.5,))])
    training = DataLoader(FashionMNIST(data, train=True, transform=transform), batch_size=4, shuffle=True)
    test = DataLoader(FashionMNIST(data, train=False, transform=transform), batch_size=1000)
    model, loss_of = GarmentClassifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    reached = []
    for _ in range(passes):
        model.train()
        for pictures, labels in training:
            optimizer.zero_grad()
            loss_of(model(pictures), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(pictures).argmax(1) == labels).sum()) for pictures, labels in test)
        reached.append(right / 10_000)
    return reached


def main() -> None:
    """Print each seed's accuracies, and their mean and range after each pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--data", default="data", help="folder of FashionMNIST")
    config = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed in range(config.seeds):
        began_s = time.monotonic()
        runs.append(accuracies(seed, config.passes, config.data))
        print(f"seed {seed}: {runs[-1]} in {time.monotonic() - began_s:.0f} s", flush=True)
    for number, reached in enumerate(zip(*runs, strict=True), 1):
        mean, least, greatest = statistics.mean(reached), min(reached), max(reached)
        print(f"after pass {number}: {mean:.3f} ({least:.3f} to {greatest:.3f}), {len(reached)} seeds")


if __name__ == "__main__":
    main()
