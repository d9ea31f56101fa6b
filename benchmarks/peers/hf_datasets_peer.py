"""HF datasets in torch format: a Dataset in memory, shuffled whole, or an IterableDataset, shuffled in a buffer.

A picture is a list of 784 bytes, seen as [1, 28, 28] when it has arrived: their Array3D reads several times slower. The
iterable one gives int64, since only a Dataset can be asked for another type.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from benchmarks.peers.measuring import measure, over_and_over, parser, training_side

PIXELS = 28 * 28
SHARDS = 60
SHUFFLED_TOGETHER = 1000


def pictures(images: torch.Tensor) -> torch.Tensor:
    """Lists [B, 784] as they were sent."""
    return images.view(-1, 1, 28, 28).to(torch.uint8)


def in_memory(dataset: Any, batch_size: int, workers: int) -> Iterator[Any]:
    """Its own batches where nobody works beside it, else a DataLoader's."""
    dataset = dataset.with_format("torch", dtype=torch.uint8)
    if workers:
        loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, persistent_workers=True)
        yield from over_and_over(loader)
    while True:
        yield from dataset.shuffle(keep_in_memory=True).iter(batch_size)


def iterable(dataset: Any, batch_size: int, workers: int) -> Iterator[Any]:
    """Batches made by the dataset, which a DataLoader only passes on."""
    stream = dataset.to_iterable_dataset(num_shards=SHARDS).shuffle(buffer_size=SHUFFLED_TOGETHER).with_format("torch")
    loader = DataLoader(stream.batch(batch_size), batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return over_and_over(loader)


def main() -> None:
    """Measure it."""
    made = parser()
    made.add_argument("--form", choices=["in_memory", "iterable"], required=True)
    arguments = made.parse_args()
    images, labels = training_side(arguments.data)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), PIXELS)
    dataset = Dataset(pa.table({"image": lists, "label": pa.array(labels)}))
    form = in_memory if arguments.form == "in_memory" else iterable
    batches = form(dataset, arguments.batch_size, arguments.workers)
    measure(arguments, batches, version=version("datasets"), keys=("image", "label"), restore=pictures)


if __name__ == "__main__":
    main()
