"""What a change does to records."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.effects import Appear, Darken, Effect, Invert, Noise, OnRecords, Rotate, Swap, Thin
from protocol.errors import UsageError
from protocol.schema import Field, Schema

SCHEMA = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 4, 6)), Field("label", "int64")),
    label="label",
    class_names=("bag", "boot", "coat"),
    label_range=(0, 2),
)
NUMBERS = np.arange(50, dtype=np.int64)
PICTURES = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 5), np.uint8)


def changed(effect: OnRecords, values: Any = PICTURES, numbers: Any = NUMBERS, seed: int = 1) -> Any:
    before = values.copy()
    after = effect.changed(values, numbers, seed, SCHEMA)
    assert after.dtype == values.dtype
    assert after.shape == values.shape
    assert np.array_equal(values, before), "new memory"
    return after


def test_pictures_are_inverted_and_darkened() -> None:
    assert np.array_equal(changed(Invert()), 255 - PICTURES)
    assert np.array_equal(changed(Darken(light=0.5)), np.rint(PICTURES * 0.5))
    assert not changed(Darken(light=0)).any()


@pytest.mark.parametrize("turns", [-2, 0, 1, 2, 3, 4])
def test_pictures_are_turned_against_the_clock(turns: int) -> None:
    turned = np.rot90(PICTURES, turns, axes=(2, 3))
    assert np.array_equal(changed(Rotate(degrees=90 * turns)), turned)


def test_what_a_turned_picture_takes_from_outside_is_black() -> None:
    white = np.full((1, 1, 9, 9), 255, np.uint8)
    turned = changed(Rotate(degrees=45), white, NUMBERS[:1])[0, 0]
    assert turned[0, 0] == turned[8, 8] == 0
    assert turned[4, 4] == turned[0, 4] == 255
    wide = changed(Rotate(degrees=90), np.full((1, 1, 4, 8), 255, np.uint8), NUMBERS[:1])[0, 0]
    assert wide.tolist() == [[0, 0, 255, 255, 255, 255, 0, 0]] * 4


@given(st.integers(1, 255), st.integers(0, 2**64 - 1))
def test_noise_is_even_bounded_and_of_the_record_alone(levels: int, seed: int) -> None:
    grey = np.full((50, 1, 28, 28), 128, np.uint8)
    noise = changed(Noise(levels=levels), grey, seed=seed).astype(int) - 128
    assert abs(noise).max() <= levels
    if levels <= 100:  # none is cut off
        assert abs(noise.mean()) < levels * 0.05
        assert abs(noise.std() - levels / 3**0.5) < levels * 0.1 + 0.5
    again = changed(Noise(levels=levels), grey[7:9], NUMBERS[7:9], seed=seed)
    assert np.array_equal(again.astype(int) - 128, noise[7:9])
    assert not np.array_equal(noise[0], noise[1])


def test_two_classes_are_swapped_by_name_or_by_number() -> None:
    labels = np.array([0, 1, 2, 1])
    pairs: list[list[str | int]] = [["bag", "boot"], [1, 0], ["boot", 0]]
    for classes in pairs:
        assert changed(Swap(classes=classes), labels, NUMBERS[:4]).tolist() == [1, 0, 2, 0]


def test_shares_are_by_class() -> None:
    assert Thin(share={"coat": 0.25, 0: 0}).shares(SCHEMA) == {2: 0.25, 0: 0}
    assert Appear(classes=["boot"]).shares(SCHEMA) == {1: 0}


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (Swap(classes=["bag", "boots"]), "no class 'boots': give one of bag, boot, coat"),
        (Swap(classes=[0, 3]), "no class 3: give one of bag"),
        (Thin(share={"hat": 0.5}), "no class 'hat'"),
        (Appear(classes=[True]), "no class True"),
    ],
)
def test_a_class_that_there_is_not_is_refused(effect: Effect, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        effect.field(SCHEMA)


def test_records_without_pictures_or_without_classes_are_refused() -> None:
    plain = Schema((Field("x", "float32", (3,)), Field("y", "float32")), label="y")
    for effect in (Invert(), Noise(levels=3), Rotate(degrees=3), Darken(light=0.1)):
        with pytest.raises(UsageError, match=r"no pictures .uint8 .1 or 3, height, width..: leave this change out"):
            effect.field(plain)
    for other in (Swap(classes=[0, 1]), Thin(share={0: 0.5}), Appear(classes=[1])):
        with pytest.raises(UsageError, match="no label that is one integer: leave this change out"):
            other.field(plain)
    nameless = Schema((Field("label", "uint8"),), label="label")
    with pytest.raises(UsageError, match="its classes have no names: give a number from 0 to 255"):
        Swap(classes=["bag", 0]).field(nameless)


@pytest.mark.parametrize("label_range", [None, (0, 999)])
@pytest.mark.parametrize("number", [-1, 256])
def test_a_class_that_no_label_can_hold_is_refused(number: int, label_range: tuple[int, int] | None) -> None:
    bytes_only = Schema((Field("label", "uint8"),), label="label", label_range=label_range)
    for effect in (Swap(classes=[1, number]), Thin(share={number: 0.5}), Appear(classes=[number])):
        with pytest.raises(UsageError, match=f"the stream has no class {number}: .*: give a number from 0 to 255"):
            effect.field(bytes_only)
    assert Swap(classes=[0, 255]).field(bytes_only) == "label"
