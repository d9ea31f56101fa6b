"""FashionMNIST as a source: 70,000 grey pictures of garments in ten classes, by Zalando Research.

`python -m producer.fashion_mnist ROOT` fetches the files.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from producer.fashion_mnist_files import CLASSES, PICTURE_SHAPE, Bytes, fetch, read_side
from producer.source import ColumnSource, Subset, drawn_splits
from protocol.errors import UsageError
from protocol.schema import Field, Schema

CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

SCHEMA = Schema(
    fields=(Field("id", "int64"), Field("image", "uint8", (1, *PICTURE_SHAPE)), Field("label", "int64")),
    label="label",
    class_names=CLASS_NAMES,
    label_range=(0, CLASSES - 1),
)


class FashionMNIST(Subset):
    """The training pictures without the `validation` ones, which `seed` picks at random among the 60,000.

    Its splits are `validation` (absent where none are held out) and `test`, the 10,000 test pictures. `id` is a
    picture's index among the 60,000, or among the 10,000.
    """

    def __init__(self, root: str = "data", validation: int | float = 5000, seed: int = 0) -> None:
        """Read the files.

        Args:
            root: the folder that holds them, as `python -m producer.fashion_mnist ROOT` fills it
            validation: how many of the training pictures are held out, a share of them where it is below 1
            seed: picks which

        Raises:
            UsageError: the files are missing or damaged, or nothing would be left to train on.

        """
        folder = Path(root)
        train = _columns("FashionMNIST", *read_side(folder, "train"))
        kept, splits = drawn_splits(train, {"validation": validation} if validation else {}, seed)
        splits["test"] = _columns("FashionMNIST test", *read_side(folder, "test"))
        super().__init__(train, kept, splits=splits)


def _columns(name: str, pictures: Bytes, labels: Bytes) -> ColumnSource:
    count = len(labels)
    return ColumnSource(
        name,
        SCHEMA,
        {
            "id": np.arange(count, dtype=np.int64),
            # A copy that numpy makes lies in huge pages: rows at random come a third quicker from there.
            "image": pictures.reshape(count, 1, *PICTURE_SHAPE).copy(),
            "label": labels.astype(np.int64),
        },
    )


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m producer.fashion_mnist",
        description="Fetch FashionMNIST into a folder: with torchvision's downloader where there is internet, else "
        "from Debian's package, without root. What is there already is kept.",
    )
    parser.add_argument("root", nargs="?", default="data", help="the folder to fill (default: data)")
    try:
        fetch(Path(parser.parse_args().root), lambda line: print(line, flush=True))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
