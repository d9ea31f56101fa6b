"""WebDataset, as its training example reads: shards and samples shuffled, batched in the dataset, a WebLoader around.

With workers the loader shuffles and batches once more, since each worker reads shards of its own. Pictures lie in the
shards as .npy: nothing is faster to decode, and no PNG is measured.
"""

from pathlib import Path

import webdataset as wds

from benchmarks.peers.measuring import measure, over_and_over, parser, training_side

RECORDS = 20_000  # of the training side: writing all of it takes longer than measuring
SHARD_RECORDS = 1000
SHUFFLED_TOGETHER = 1000


def prepare(data: Path, folder: Path) -> str:
    """Write shards; their pattern."""
    images, labels = (column[:RECORDS] for column in training_side(data))
    with wds.ShardWriter(str(folder / "train-%06d.tar"), maxcount=SHARD_RECORDS, verbose=0) as shards:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            shards.write({"__key__": f"{i:06d}", "npy": image, "cls": int(label)})
    return str(folder / f"train-{{000000..{len(images) // SHARD_RECORDS - 1:06d}}}.tar")


def main() -> None:
    """Measure it."""
    arguments = parser().parse_args()
    dataset = (
        wds.WebDataset(prepare(arguments.data, arguments.scratch), shardshuffle=100)
        .shuffle(SHUFFLED_TOGETHER)
        .decode()
        .to_tuple("npy", "cls")
        .batched(arguments.batch_size)
    )
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=arguments.workers)
    if arguments.workers:
        loader = loader.unbatched().shuffle(SHUFFLED_TOGETHER).batched(arguments.batch_size)
    measure(arguments, over_and_over(loader), version=wds.__version__)


if __name__ == "__main__":
    main()
