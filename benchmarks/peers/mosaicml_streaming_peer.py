"""MosaicML Streaming, as its README reads: MDS shards, a shuffling StreamingDataset, an ordinary DataLoader.

The shards lie on this machine, so nothing is downloaded; the dataset is told the batch size, as its guide asks.
"""

from importlib.metadata import version
from pathlib import Path

from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from benchmarks.peers.measuring import measure, over_and_over, parser, training_side

COLUMNS = {"image": "ndarray:uint8:1,28,28", "label": "int"}


def prepare(data: Path, folder: Path) -> None:
    """Write the training side as MDS shards."""
    images, labels = training_side(data)
    with MDSWriter(out=str(folder), columns=COLUMNS) as shards:
        for image, label in zip(images, labels, strict=True):
            shards.write({"image": image, "label": int(label)})


def main() -> None:
    """Measure it."""
    arguments = parser().parse_args()
    folder = arguments.scratch / "mds"
    prepare(arguments.data, folder)
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=arguments.batch_size)
    loader = DataLoader(
        dataset,
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        persistent_workers=arguments.workers > 0,
    )
    measure(arguments, over_and_over(loader), version=version("mosaicml-streaming"), keys=("image", "label"))


if __name__ == "__main__":
    main()
