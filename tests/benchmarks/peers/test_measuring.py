from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.peers.measuring import MismatchError, verify

Side = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
Batch = tuple[torch.Tensor, torch.Tensor]

CLASSES = 10


@pytest.fixture
def side(seed: int) -> Side:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (200, 1, 28, 28), np.uint8)
    return images, random.integers(0, CLASSES, 200, np.uint8)


@pytest.fixture
def batch(side: Side) -> Batch:
    images, labels = side
    return torch.from_numpy(images[50:60].copy()), torch.from_numpy(labels[50:60].astype(np.int64))


def test_a_batch_of_training_pictures_is_verified(side: Side, batch: Batch) -> None:
    verify(side, [batch, batch])


def test_a_picture_that_lies_there_twice_may_bear_either_label(side: Side, batch: Batch) -> None:
    images, labels = side
    twice = np.concatenate([images, images[50:51]]), np.append(labels, (labels[50] + 1) % CLASSES)
    verify(twice, [batch])
    batch[1][0] = twice[1][-1]
    verify(twice, [batch])


def test_a_wrong_label_is_found(side: Side, batch: Batch) -> None:
    batch[1][3] = (batch[1][3] + 1) % CLASSES
    with pytest.raises(MismatchError, match="image 3 of a batch bears label"):
        verify(side, [batch])


def test_a_wrong_image_is_found_in_the_last_batch_too(side: Side, batch: Batch) -> None:
    wrong = batch[0].clone()
    wrong[9, 0, 27, 27] ^= 1
    with pytest.raises(MismatchError, match="image 9 of a batch is none"):
        verify(side, [batch, (wrong, batch[1])])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda images, labels: (images.float(), labels), "torch.float32"),
        (lambda images, labels: (images[:, 0], labels), r"\[10, 28, 28\]"),
        (lambda images, labels: (images[:-1], labels), r"\[9, 1, 28, 28\]"),
        (lambda images, labels: (images, labels.double()), "torch.float64"),
        (lambda images, labels: (images[:0], labels[:0]), r"\[0, 1, 28, 28\]"),
        (lambda images, labels: (images.numpy(), labels), "not of tensors"),
    ],
    ids=["float", "without channel", "fewer images", "float labels", "empty", "arrays"],
)
def test_a_batch_of_another_form_is_refused(
    change: Callable[..., Batch], complaint: str, side: Side, batch: Batch
) -> None:
    with pytest.raises(MismatchError, match=complaint):
        verify(side, [change(*batch)])


def test_what_was_normalised_is_restored_before_it_is_compared(side: Side, batch: Batch) -> None:
    images, labels = batch
    verify(side, [(images / 255, labels)], restore=lambda scaled: (scaled * 255).round().to(torch.uint8))
    with pytest.raises(MismatchError, match="is none"):
        verify(side, [(images / 255, labels)], restore=lambda scaled: (scaled * 254).round().to(torch.uint8))
