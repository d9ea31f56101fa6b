"""FashionMNIST made into streams for other tasks than telling ten classes apart.

python -m producer --source examples.garments.Pairs --passes 2 --rate 0
"""

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.fashion_mnist import CLASS_NAMES, FashionMNIST
from producer.source import Indices, Source, content_digest
from protocol.chunk import Column
from protocol.schema import Field, Schema

Array = npt.NDArray[Any]
FARTHEST = 6  # pixels


class Derived(Source):
    """Records computed from those of FashionMNIST and their index alone, so that they can be replayed."""

    target: Field

    def __init__(self, root: str = "data") -> None:
        self._source: Source = FashionMNIST(root)
        self.name = f"{type(self).__name__} of garments"
        self.schema = Schema((Field("id", "int64"), Field("image", "uint8", (1, 28, 28)), self.target))

    def __len__(self) -> int:
        return len(self._source)

    def take(self, indices: Indices) -> dict[str, Column]:
        image, target = self.derive(indices)
        return {"id": indices.copy(), "image": image, self.target.name: target}

    def fingerprint(self) -> str:
        return content_digest(type(self).__name__, self._source.fingerprint())

    def splits(self) -> Mapping[str, Source]:
        return {name: self._of(split) for name, split in self._source.splits().items()}

    @abstractmethod
    def derive(self, indices: Indices) -> tuple[Array, Array]:
        """Pictures [count, 1, 28, 28] in uint8 and the targets of these records."""

    def garments(self, indices: Indices) -> tuple[Array, Array]:
        """Pictures [count, 1, 28, 28] in uint8 and, as one-hot rows [count, 10] of float32, their classes."""
        columns = self._source.take(indices)
        return np.asarray(columns["image"]), np.eye(len(CLASS_NAMES), dtype=np.float32)[np.asarray(columns["label"])]

    def others(self, indices: Indices) -> Indices:
        """For each record another one, always the same."""
        order: Indices = np.random.RandomState(0).permutation(len(self))
        return order[indices]

    def _of(self, source: Source) -> "Derived":
        made = copy(self)
        made._source = source  # noqa: SLF001  (it is one of ours)
        return made


class Shifted(Derived):
    """A garment moved down and right by up to 6 pixels either way; the target is how far."""

    target = Field("shift", "float32", (2,))

    def derive(self, indices: Indices) -> tuple[Array, Array]:
        shift = np.random.RandomState(0).randint(-FARTHEST, FARTHEST + 1, (len(self), 2))[indices]
        room = np.pad(self.garments(indices)[0][:, 0], ((0, 0), (FARTHEST, FARTHEST), (FARTHEST, FARTHEST)))
        rows, columns = (np.arange(28) + FARTHEST - shift[:, axis, None] for axis in (0, 1))
        moved = room[np.arange(len(indices))[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved[:, None], shift.astype(np.float32)


class Pairs(Derived):
    """Two garments, one over the other; the target has a 1 for each class that is there."""

    target = Field("labels", "uint8", (10,))

    def derive(self, indices: Indices) -> tuple[Array, Array]:
        (image, label), (other, second) = self.garments(indices), self.garments(self.others(indices))
        return np.maximum(image, other), np.maximum(label, second).astype(np.uint8)


class Mixed(Derived):
    """Two garments mixed (mixup: Zhang et al., arXiv 1710.09412); the target is how much of each class there is."""

    target = Field("probabilities", "float32", (10,))

    def derive(self, indices: Indices) -> tuple[Array, Array]:
        (image, label), (other, second) = self.garments(indices), self.garments(self.others(indices))
        share = np.random.RandomState(1).uniform(size=len(self)).astype(np.float32)[indices, None]
        mixed = image * share[..., None, None] + other * (1 - share[..., None, None])
        return mixed.round().astype(np.uint8), label * share + second * (1 - share)
