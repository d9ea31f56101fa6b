"""What a change does to the records that it falls on: to their pictures, to their labels, or which of them come.

An effect is a frozen dataclass of what its schedule says; it raises `UsageError` for what cannot be meant. Its result
depends on the record, its number in the stream and the seed alone, in whole numbers where pixels are drawn, so it is
the same on every machine.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from producer.source import Indices
from protocol.contact_sheet import picture_field
from protocol.draws import drawn_bits
from protocol.errors import UsageError
from protocol.inference import is_integer
from protocol.schema import Schema

Pixels = npt.NDArray[np.uint8]


class Effect(ABC):
    """Something that may change; `name` is how a schedule calls it."""

    name: ClassVar[str]

    @abstractmethod
    def field(self, schema: Schema) -> str:
        """The field that it is about. Raises `UsageError` where these records have none such."""


class OnRecords(Effect):
    """Records come as another value of one field."""

    @abstractmethod
    def changed(self, values: npt.NDArray[Any], numbers: Indices, seed: int, schema: Schema) -> npt.NDArray[Any]:
        """What becomes of `values` [n, *shape], those of the records with these numbers [n]; as new memory."""


class OnChoice(Effect):
    """Some records of the source do not come: which of them depends on their class, as the source has it."""

    backwards: ClassVar[bool] = False
    """Whether records are left out before it comes, and not after."""

    @abstractmethod
    def shares(self, schema: Schema) -> dict[int, float]:
        """The share of each class's records that come, by class; all of those that are not named."""

    def field(self, schema: Schema) -> str:
        self.shares(schema)
        return _label(schema)


# --- pictures ----------------------------------------------------------------------------------------------------


class OnPictures(OnRecords):
    """Pictures are others: the first field of uint8 [1 or 3, height, width]."""

    def field(self, schema: Schema) -> str:
        field = picture_field(schema)
        if field is None:
            raise UsageError("the records have no pictures (uint8 [1 or 3, height, width]): leave this change out")
        return field.name


class OnPicturesAlike(OnPictures):
    """All pictures are changed alike: nothing is drawn."""

    def changed(self, values: npt.NDArray[Any], numbers: Indices, seed: int, schema: Schema) -> npt.NDArray[Any]:
        del numbers, seed, schema
        return self.pictures(values)

    @abstractmethod
    def pictures(self, pictures: Pixels) -> Pixels:
        """What becomes of pictures [n, channels, height, width]."""


@dataclass(frozen=True, kw_only=True)
class Invert(OnPicturesAlike):
    """Light is dark and dark is light."""

    name = "invert"

    def pictures(self, pictures: Pixels) -> Pixels:
        return ~pictures


@dataclass(frozen=True, kw_only=True)
class Darken(OnPicturesAlike):
    """Each pixel has only this share of its light, from 0 (black) to 1."""

    name = "darken"
    light: float

    def __post_init__(self) -> None:
        _check_number("light", self.light, 0, 1)

    def pictures(self, pictures: Pixels) -> Pixels:
        darker: Pixels = np.rint(np.arange(256) * self.light).astype(np.uint8)[pictures]
        return darker


@dataclass(frozen=True, kw_only=True)
class Rotate(OnPicturesAlike):
    """Pictures are turned against the clock about their middle; each pixel takes the nearest one, or black."""

    name = "rotate"
    degrees: float

    def __post_init__(self) -> None:
        _check_number("degrees", self.degrees, -360, 360)

    def pictures(self, pictures: Pixels) -> Pixels:
        from_pixel, inside = _rotation(*pictures.shape[2:], self.degrees)
        flat = pictures.reshape(*pictures.shape[:2], -1)
        turned: Pixels = flat.take(from_pixel, axis=2) * inside
        return turned.reshape(pictures.shape)


@dataclass(frozen=True, kw_only=True)
class Noise(OnPictures):
    """Each pixel is up to so many of its 255 levels lighter or darker, every difference as likely."""

    name = "noise"
    levels: int

    def __post_init__(self) -> None:
        _check_number("levels", self.levels, 1, 255)
        if not isinstance(self.levels, int):
            raise UsageError(f"levels {self.levels!r}: give a whole number from 1 to 255")

    def changed(self, values: npt.NDArray[Any], numbers: Indices, seed: int, schema: Schema) -> npt.NDArray[Any]:
        del schema
        pixels = math.prod(values.shape[1:])
        words = -(-pixels // 8)  # eight pixels to a draw
        bits = drawn_bits(seed, (numbers[:, None] * words + np.arange(words)).reshape(-1))
        drawn = bits.astype("<u8").view(np.uint8).reshape(len(numbers), -1)[:, :pixels].reshape(values.shape)
        noise = (drawn.astype(np.int32) * (2 * self.levels + 1) >> 8) - self.levels
        noisy: Pixels = np.clip(values + noise, 0, 255).astype(np.uint8)
        return noisy


@cache
def _rotation(height: int, width: int, degrees: float) -> tuple[Indices, Pixels]:
    """Which pixel each one [height × width] takes, and 0 for those that would take one from outside, else 1."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    down, right = np.indices((height, width)).reshape(2, -1) - np.array([[height - 1], [width - 1]]) / 2
    # Rounded first, so that a half is a half on every machine.
    from_down = np.floor(np.round(cosine * down + sine * right, 6) + (height - 1) / 2 + 0.5).astype(np.int64)
    from_right = np.floor(np.round(cosine * right - sine * down, 6) + (width - 1) / 2 + 0.5).astype(np.int64)
    inside = (from_down >= 0) & (from_down < height) & (from_right >= 0) & (from_right < width)
    return np.where(inside, from_down * width + from_right, 0), inside.astype(np.uint8)


# --- labels and classes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Swap(OnRecords):
    """Of two classes each is labelled as the other."""

    name = "swap"
    classes: Sequence[str | int]

    def __post_init__(self) -> None:
        if not isinstance(self.classes, list) or len(self.classes) != 2 or self.classes[0] == self.classes[1]:
            raise UsageError(f"classes {self.classes!r}: give two, such as [Sneaker, Sandal] or [7, 5]")

    def field(self, schema: Schema) -> str:
        label = _label(schema)
        for each in self.classes:
            _class(schema, each)
        return label

    def changed(self, values: npt.NDArray[Any], numbers: Indices, seed: int, schema: Schema) -> npt.NDArray[Any]:
        del numbers, seed
        one, other = (_class(schema, each) for each in self.classes)
        changed = values.copy()
        changed[values == one], changed[values == other] = other, one
        return changed


@dataclass(frozen=True, kw_only=True)
class Thin(OnChoice):
    """Of these classes only a share of the records comes, so that the others make up more of the stream."""

    name = "thin"
    share: Mapping[str | int, float]

    def __post_init__(self) -> None:
        if not isinstance(self.share, dict) or not self.share:
            raise UsageError(
                f"share {self.share!r}: give classes with their shares, such as {{Sneaker: 0.1, Bag: 0.5}}"
            )
        for each, share in self.share.items():
            _check_number(f"share of {each}", share, 0, 1)

    def shares(self, schema: Schema) -> dict[int, float]:
        return {_class(schema, each): share for each, share in self.share.items()}


@dataclass(frozen=True, kw_only=True)
class Appear(OnChoice):
    """No record of these classes comes before."""

    name = "appear"
    backwards = True
    classes: Sequence[str | int]

    def __post_init__(self) -> None:
        if not isinstance(self.classes, list) or not self.classes:
            raise UsageError(f"classes {self.classes!r}: give a list, such as [Sneaker] or [7]")

    def shares(self, schema: Schema) -> dict[int, float]:
        return {_class(schema, each): 0.0 for each in self.classes}


#: All effects, by the names that schedules use.
EFFECTS: Mapping[str, type[Effect]] = {each.name: each for each in (Rotate, Noise, Darken, Invert, Swap, Thin, Appear)}


def _label(schema: Schema) -> str:
    if schema.label is None or not is_integer(schema[schema.label]):
        raise UsageError("the records have no label that is one integer: leave this change out")
    return schema.label


def _class(schema: Schema, given: object) -> int:
    """The label of a class that is given by its name or its number. Raises `UsageError`."""
    names = schema.class_names
    label = np.iinfo(schema[_label(schema)].numpy_dtype)
    low, high = schema.label_range or (label.min, label.max)
    low, high = max(low, label.min), min(high, label.max)
    numbers = f"its classes have no names: give a number from {low} to {high}"
    known = f"give one of {', '.join(names)}" if names else numbers
    if isinstance(given, str):
        if given not in names:
            raise UsageError(f"the stream has no class {given!r}: {known}")
        return names.index(given)
    if type(given) is not int or not low <= given <= high:
        raise UsageError(f"the stream has no class {given!r}: {known}")
    return given


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{name} {value!r}: give a number from {low} to {high}")
