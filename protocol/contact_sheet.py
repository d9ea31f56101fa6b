"""A contact sheet: pictures side by side, each with its label below, as one picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import UsageError
from protocol.lettering import INK, LINE_HEIGHT, PAPER, fitted, font_for, pillow
from protocol.schema import Field, Schema

Sheet = npt.NDArray[np.uint8]

SMALLEST_SIDE = 84  # pixels of a picture's wider side: small pictures are enlarged to it, so that a label fits below
LARGEST_SIDE = 224
MARGIN = 6
SHEET_WIDTH = 1000


def picture_field(schema: Schema) -> Field | None:
    """The first field that holds pictures: uint8 [1 or 3, height, width]."""
    for field in schema.fields:
        if field.dtype == "uint8" and len(field.shape) == 3 and field.shape[0] in (1, 3):
            return field
    return None


def class_labels(schema: Schema, labels: Sequence[int]) -> list[str]:
    """The names of the classes on one line each, the number where one has no name."""
    names = schema.class_names
    return [" ".join(names[label].split()) if 0 <= label < len(names) else str(label) for label in labels]


def pictures_in(
    schema: Schema, columns: Mapping[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.uint8], list[str] | None]:
    """The pictures of records in columns and, where the schema has classes, their labels.

    Raises `UsageError` where the schema has no pictures.
    """
    field = picture_field(schema)
    if field is None:
        described = ", ".join(f"{each.name} {each.dtype} {list(each.shape)}" for each in schema.fields)
        raise UsageError(f"no pictures to show: a picture is uint8 [1 or 3, height, width], the fields are {described}")
    label = None if schema.label is None else schema[schema.label]
    if label is None or label.shape or "int" not in label.dtype:
        return columns[field.name], None
    return columns[field.name], class_labels(schema, columns[label.name].tolist())


def sheet_of(schema: Schema, columns: Mapping[str, npt.NDArray[Any]], sheet_width: int = SHEET_WIDTH) -> Sheet:
    """The contact sheet of records in columns; raises `UsageError` where the schema has no pictures."""
    return contact_sheet(*pictures_in(schema, columns), sheet_width)


def contact_sheet(
    pictures: npt.NDArray[np.uint8], labels: Sequence[str] | None = None, sheet_width: int = SHEET_WIDTH
) -> Sheet:
    """One picture [height, width, 3] of `pictures` [n, 1 or 3, h, w] with `labels` [n] of one or more lines below them.

    As many stand side by side as fit into `sheet_width` pixels, at least one.

    Raises `ValueError` for another dtype, shape or number of labels, `UsageError` where Pillow is missing.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not pictures.size:
        raise ValueError(f"pictures are uint8 [n, 1 or 3, h, w], not {pictures.dtype} {list(pictures.shape)}")
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(f"{len(labels)} labels for {len(pictures)} pictures")
    image, draw, _ = pillow()
    lines = [label.split("\n") for label in labels or ()]
    font = font_for("".join(labels or ()))
    height, width = _shown_size(*pictures.shape[2:])
    step_y, step_x = height + MARGIN + LINE_HEIGHT * max(map(len, lines), default=0), width + MARGIN
    across = min(len(pictures), max(1, (sheet_width - MARGIN) // step_x))
    down = ceil(len(pictures) / across)
    sheet = image.new("RGB", (MARGIN + across * step_x, MARGIN + down * step_y), PAPER)
    pen = draw.Draw(sheet)
    for index, picture in enumerate(pictures):
        x, y = MARGIN + index % across * step_x, MARGIN + index // across * step_y
        sheet.paste(resized(picture, height, width), (x, y))
        for number, line in enumerate(lines[index] if lines else ()):
            middle = x + width / 2, y + height + LINE_HEIGHT * (number + 0.5)
            pen.text(middle, fitted(line, width, font), fill=INK, font=font, anchor="mm")
    return np.asarray(sheet)


def to_png(sheet: Sheet) -> bytes:
    """The sheet as the bytes of a PNG file."""
    image, _, _ = pillow()
    file = BytesIO()
    image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


def save_png(sheet: Sheet, path: Path) -> None:
    """Write the sheet to `path`; raises `UsageError` where that cannot be written."""
    data = to_png(sheet)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another file") from error


def _shown_size(height: int, width: int) -> tuple[int, int]:
    """Pixels as shown: small pictures by a whole factor, so that their pixels stay square; large ones made smaller."""
    side = max(height, width)
    if side > LARGEST_SIDE:
        return max(1, height * LARGEST_SIDE // side), max(1, width * LARGEST_SIDE // side)
    factor = ceil(SMALLEST_SIDE / side)
    return height * factor, width * factor


def resized(picture: npt.NDArray[np.uint8], height: int, width: int) -> Any:
    """A picture [1 or 3, h, w] as Pillow's, of this size."""
    image, _, _ = pillow()
    pixels = np.ascontiguousarray(np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0))
    smaller = height < picture.shape[1]
    resampling = image.Resampling.BOX if smaller else image.Resampling.NEAREST
    return image.fromarray(pixels).resize((width, height), resampling)
