"""Records as columns: what somebody gives to a model, in the dtype and shape that the model's stream had."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from protocol.errors import UsageError
from protocol.schema import Field

Column = npt.NDArray[Any] | torch.Tensor

#: Pillow's modes whose values become grey or RGB by a known rule; transparency or 16 bits would be lost in silence.
MODES = ("1", "L", "P", "RGB")


def column_of(given: Any, field: Field) -> Column:
    """`given` as [n, *shape], not copied where it is an array or tensor already.

    It may be that, or one record of the field's shape; the path of a picture; a picture of Pillow's; or a list of any
    of these. Raises `UsageError` where it does not fit the field.
    """
    if isinstance(given, str | Path):
        return read_picture(Path(given), field)[None]
    if type(given).__module__.startswith("PIL."):
        return picture_of(given, field, "the picture")[None]
    if isinstance(given, Sequence):
        columns = [column_of(each, field) for each in given]
        if not columns:
            raise UsageError("there are no records in the list: give at least one")
        return torch.cat([_tensor(each) for each in columns])
    values: Column = given if isinstance(given, torch.Tensor) else np.asarray(given)
    dtype, shape = str(values.dtype).removeprefix("torch."), tuple(values.shape)
    if dtype == field.dtype and shape == field.shape:
        return values[None]
    if dtype == field.dtype and shape[:1] and shape[1:] == field.shape:
        return values
    raise UsageError(f"{dtype} {list(shape)} is no {described(field)}: give one record of that, or several as [n, …]")


def tensor_of(given: Any, field: Field) -> torch.Tensor:
    """The same as a tensor; an array is copied."""
    return _tensor(column_of(given, field))


def read_picture(file: Path | BytesIO, field: Field, *, resize: bool = False) -> npt.NDArray[np.uint8]:
    """The picture in a file, uint8 of the field's shape. Raises `UsageError` where it is unreadable or does not fit."""
    from PIL import Image, UnidentifiedImageError

    name = str(file) if isinstance(file, Path) else "it"
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture_of(picture, field, name, resize=resize)
    except UsageError:
        raise
    except UnidentifiedImageError as error:
        raise UsageError(f"{name} is no picture that Pillow knows: give a JPEG or PNG file") from error
    except Exception as error:  # of a damaged file Pillow raises whatever its decoder meets
        raise UsageError(f"{name} cannot be read as a picture ({error}): give a JPEG or PNG file") from error


def picture_of(picture: Any, field: Field, name: str, *, resize: bool = False) -> npt.NDArray[np.uint8]:
    """A picture of Pillow's as uint8 [1 or 3, height, width]: in grey or in colour, as the field has it."""
    check_pictures(field)
    channels, height, width = field.item_shape
    if picture.mode not in MODES or "transparency" in picture.info:
        raise UsageError(f"{name} is of Pillow's mode {picture.mode}: save it in grey or RGB, without transparency")
    picture = picture.convert("RGB" if channels == 3 else "L")
    if picture.size != (width, height):
        if not resize:
            raise UsageError(
                f"{name} has {picture.width} × {picture.height} pixels, the model takes {width} × {height}: "
                "give pictures of that size (or --resize true to `predict`)"
            )
        picture = picture.resize((width, height))
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def check_pictures(field: Field) -> None:
    """Raise `UsageError` where the field holds no pictures."""
    if not (field.dtype == "uint8" and len(field.shape) == 3 and field.shape[0] in (1, 3)):
        raise UsageError(f"the model takes {described(field)}, which is no picture: give an .npy file or a stream")


def described(field: Field) -> str:
    """Name, dtype and shape, for people."""
    return f"{field.name} {field.dtype}" + (f" {list(field.shape)}" if field.shape else "")


def _tensor(column: Column) -> torch.Tensor:
    return column if isinstance(column, torch.Tensor) else torch.tensor(column)
