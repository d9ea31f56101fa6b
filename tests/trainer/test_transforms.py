"""Transforms that draw for each record of a batch do what torchvision's do, one record at a time."""

from collections import Counter

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional

from protocol.errors import UsageError
from trainer.transforms import RandomErase, RandomFlip, RandomShift

DTYPES = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
SHAPES = pytest.mark.parametrize("shape", [(1, 4, 6), (3, 5, 5), (6, 4), (2, 3, 4, 4)])


def drawn(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(1, 200, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@DTYPES
@SHAPES
def test_a_flip_mirrors_left_to_right(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    pictures = drawn(12, *shape, dtype=dtype)
    assert torch.equal(RandomFlip(p=1)(pictures), functional.horizontal_flip(pictures))
    assert torch.equal(RandomFlip(p=0)(pictures), pictures)


def test_as_many_are_mirrored_as_were_asked_for() -> None:
    torch.manual_seed(0)
    pictures = drawn(1, 1, 4, 4).expand(4000, 1, 4, 4)
    found = RandomFlip(p=0.25)(pictures)
    mirrored = [torch.equal(one, pictures[0].flip(-1)) for one in found]
    assert 900 < sum(mirrored) < 1100
    assert all(torch.equal(one, pictures[0]) for one, flipped in zip(found, mirrored, strict=True) if not flipped)


@DTYPES
@SHAPES
def test_a_shift_is_a_crop_of_the_padded_picture_at_any_place_alike(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    picture = drawn(*shape, dtype=dtype)
    found = RandomShift(pixels=1, fill=7)(picture.expand(1800, *shape))
    assert (found.shape, found.dtype) == ((1800, *shape), dtype)
    padded = nn.functional.pad(picture, [1] * 4, value=7)
    crops = {
        str(functional.crop(padded, down, right, *shape[-2:]).tolist()): (down, right)
        for down in range(3)
        for right in range(3)
    }
    places = Counter(crops[str(one.tolist())] for one in found)
    assert len(places) == 9
    assert all(150 < count < 250 for count in places.values())


def test_without_pixels_nothing_moves() -> None:
    pictures = drawn(5, 1, 4, 4)
    assert torch.equal(RandomShift(pixels=0)(pictures), pictures)


@DTYPES
@SHAPES
def test_erasing_covers_one_rectangle_of_a_picture(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pictures = drawn(200, *shape, dtype=dtype)
    found = RandomErase(p=1, least=0.3, most=0.5, fill=0)(pictures)
    assert (found.shape, found.dtype) == (pictures.shape, dtype)
    for before, after in zip(pictures, found, strict=True):
        covered = (after == 0).view(-1, *shape[-2:])
        assert (covered == covered[0]).all(), "all channels alike"
        down, right = covered[0].any(1), covered[0].any(0)
        assert torch.equal(covered[0], down[:, None] & right[None, :])
        assert torch.equal(after[after != 0], before[after != 0])


def test_as_many_are_erased_as_were_asked_for_by_as_much_and_anywhere() -> None:
    torch.manual_seed(0)
    found = RandomErase(p=0.25, least=0.1, most=0.3)(torch.ones(4000, 28, 28))
    shares = 1 - found.mean((1, 2))
    erased = shares > 0
    assert 900 < erased.sum() < 1100
    assert 0.08 < shares[erased].min() < shares[erased].max() < 0.33
    assert 0.19 < shares[erased].mean() < 0.21
    assert (1 - found).amax(0).min() == 1, "no place is never covered"
    assert torch.equal(RandomErase(p=0)(found), found)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(RandomFlip, {"p": 1.1}), (RandomShift, {"pixels": -1}), (RandomErase, {"p": 1.1}), (RandomErase, {"most": 0.0})],
)
def test_what_cannot_be_drawn_is_the_users_mistake(kind: type[nn.Module], arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"of a {kind.__name__}: give"):
        kind(**arguments)
