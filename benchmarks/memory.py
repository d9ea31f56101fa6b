"""The same records without a stream: what lies in memory, as a loop of one's own would read it."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.measure import Columns, Indices

Tensors = dict[str, torch.Tensor]
SEED = 0


def tensors(columns: Columns, device: str = "cpu") -> Tensors:
    """The columns on a device."""
    return {name: torch.from_numpy(column).to(device) for name, column in columns.items()}


def shuffled(columns: Tensors, batch_size: int) -> Iterator[Tensors]:
    """Endless batches: a new permutation each pass, gathered by index; what does not fill a batch is left out."""
    generator = torch.Generator().manual_seed(SEED)
    size, device = _shape(columns)
    while True:
        order = torch.randperm(size, generator=generator).to(device)
        for first in range(0, size - batch_size + 1, batch_size):
            rows = order[first : first + batch_size]
            yield {name: column[rows] for name, column in columns.items()}


def shuffles(size: int, batch_size: int) -> Callable[[int], Indices]:
    """The indices of each pass of `shuffled`, to be asked for in their order."""
    generator, drawn = torch.Generator().manual_seed(SEED), list[Indices]()

    def order(number: int) -> Indices:
        while len(drawn) <= number:
            drawn.append(torch.randperm(size, generator=generator).numpy()[: size // batch_size * batch_size])
        return drawn[number]

    return order


def sliced(columns: Tensors, batch_size: int) -> Iterator[Tensors]:
    """Endless batches in the columns' own order; nothing is moved."""
    size, _ = _shape(columns)
    while True:
        for first in range(0, size - batch_size + 1, batch_size):
            yield {name: column[first : first + batch_size] for name, column in columns.items()}


def _shape(columns: Tensors) -> tuple[int, torch.device]:
    column = next(iter(columns.values()))
    return len(column), column.device
