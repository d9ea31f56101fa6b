"""Decoders that are ready-made: pictures from their files' bytes, and sequences made as long as each other."""

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np

from protocol.chunk import Columns, ragged, value_of
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from trainer.collation import check_fill, padded
from trainer.columns import read_picture


@dataclass(frozen=True)
class Pictures:
    """JPEG, PNG or other files that Pillow reads, as pictures of one size; as `predict` reads them.

    The ragged uint8 field becomes uint8 [channels, height, width]; pictures of another size are resized (bicubic,
    antialiased), not cropped.
    """

    height: int
    """Pixels of each picture, from top to bottom."""
    width: int
    """Pixels of each picture, from side to side."""
    channels: int = 3
    """1: grey, 3: colour."""
    field: str = "image"
    """The field that holds the files."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or self.height < 1 or self.width < 1:
            raise UsageError("pictures have 1 or 3 channels, and are at least 1 high and wide")

    @property
    def picture(self) -> Field:
        """What the field becomes."""
        return Field(self.field, "uint8", (self.channels, self.height, self.width))

    def schema(self, schema: Schema) -> Schema:
        """Raises `UsageError` where the field holds no bytes."""
        _ragged(schema, self.field, "uint8", "Pictures")
        return with_field(schema, self.picture)

    def __call__(self, columns: Columns) -> Columns:
        files, picture = ragged(columns[self.field]), self.picture
        pixels = np.empty((len(files), *picture.item_shape), np.uint8)
        for row in range(len(files)):
            pixels[row] = read_picture(BytesIO(value_of(files, row)), picture, resize=True)
        return {**columns, self.field: pixels}


@dataclass(frozen=True)
class Cut:
    """Sequences of any length made `length` long: longer ones end there, shorter ones are filled up with `fill`.

    A further field `NAME_length`, int64, says how many elements are the record's own.
    """

    field: str
    """A ragged field, such as text or tokens."""
    length: int
    """How many elements each record gets."""
    fill: float = 0
    """What stands where a record has no more."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError("a sequence is cut to at least 1 element")

    def schema(self, schema: Schema) -> Schema:
        """Raises `UsageError` where the field is not ragged, or holds no such number as `fill`."""
        was = _ragged(schema, self.field, None, "Cut")
        check_fill(self.fill, was.numpy_dtype)
        cut = with_field(schema, Field(self.field, was.dtype, (self.length, *was.item_shape)))
        return replace(cut, fields=(*cut.fields, Field(f"{self.field}_length", "int64")))

    def __call__(self, columns: Columns) -> Columns:
        column = ragged(columns[self.field])
        own = np.minimum(column.lengths, self.length).astype(np.int64)
        return {**columns, self.field: padded(column, self.length, self.fill), f"{self.field}_length": own}


def with_field(schema: Schema, field: Field) -> Schema:
    """The schema with a field in the place of the one of its name."""
    return replace(schema, fields=tuple(field if each.name == field.name else each for each in schema.fields))


def _ragged(schema: Schema, name: str, dtype: str | None, decoder: str) -> Field:
    found = next((field for field in schema.fields if field.name == name), None)
    if found is None or not found.ragged or (dtype is not None and found.dtype != dtype):
        there = ", ".join(f"{each.name} {each.dtype} {list(each.shape)}" for each in schema.fields)
        wanted = f"a field {name!r} of any length{f' and of {dtype}' if dtype else ''}"
        raise UsageError(f"--decode {decoder} needs {wanted}, and a record is {there}: name another (field)")
    return found
