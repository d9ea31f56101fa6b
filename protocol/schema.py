"""What a record is: named fields with dtype and shape, and what its labels mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from protocol.errors import MalformedMessage
from protocol.values import entries, integer, text

#: The dtypes that travel, by their names on the wire; always little-endian.
DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}

MAX_FIELDS = 64
MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 128
MAX_CLASSES = 1 << 15
#: All class names together: a description must fit into one frame 0.
MAX_CLASS_NAMES_BYTES = 1 << 20
#: Of one record's fixed-size fields; also what one chunk may have (protocol/chunk.py).
MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True)
class Field:
    """One named column of a record.

    `shape` is that of one record's value, `()` for a number. A first dimension of `None` makes the field
    *ragged*: its length differs from record to record (text, tokens, JPEG bytes).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_LENGTH:
            raise ValueError(f"a field's name has 1 to {MAX_NAME_LENGTH} characters, not {len(self.name)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"field {self.name!r}: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if len(self.shape) > MAX_DIMENSIONS:
            raise ValueError(f"field {self.name!r}: more than {MAX_DIMENSIONS} dimensions")
        if any(size is None for size in self.shape[1:]):
            raise ValueError(f"field {self.name!r}: only the first dimension may be None")
        if any(size is not None and size < 1 for size in self.shape):
            raise ValueError(f"field {self.name!r}: a dimension is at least 1")
        if self.item_bytes > MAX_RECORD_BYTES:
            raise ValueError(f"field {self.name!r}: {self.item_bytes} bytes a record, over {MAX_RECORD_BYTES}")

    @cached_property
    def ragged(self) -> bool:
        """Whether the length differs from record to record."""
        return bool(self.shape) and self.shape[0] is None

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as it lies in memory and on the wire (little-endian)."""
        return DTYPES[self.dtype]

    @cached_property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one record's value; of one *element* of it where the field is ragged."""
        return tuple(size for size in self.shape if size is not None)

    @cached_property
    def item_bytes(self) -> int:
        """Bytes of one `item_shape`."""
        return self.numpy_dtype.itemsize * prod(self.item_shape)


@dataclass(frozen=True)
class Schema:
    """The fields of a record in the order in which their columns travel, and what the labels mean.

    `label` names the field that holds the class, if there is one; `class_names[i]` is the name of class i;
    `label_range` is (lowest, highest), both included.
    """

    fields: tuple[Field, ...]
    label: str | None = None
    class_names: tuple[str, ...] = ()
    label_range: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not 0 < len(names) <= MAX_FIELDS:
            raise ValueError(f"a record has 1 to {MAX_FIELDS} fields, not {len(names)}")
        if len(set(names)) != len(names):
            raise ValueError(f"two fields have the same name: {', '.join(names)}")
        if self.label is not None and self.label not in names:
            raise ValueError(f"the label field {self.label!r} is not among the fields {', '.join(names)}")
        if len(self.class_names) > MAX_CLASSES:
            raise ValueError(f"more than {MAX_CLASSES} class names")
        if max(map(len, self.class_names), default=0) > MAX_NAME_LENGTH:
            raise ValueError(f"a class name has at most {MAX_NAME_LENGTH} characters")
        if sum(len(name.encode()) for name in self.class_names) > MAX_CLASS_NAMES_BYTES:
            raise ValueError(f"the class names have more than {MAX_CLASS_NAMES_BYTES} bytes in all")
        if self.record_bytes > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {self.record_bytes} bytes, over {MAX_RECORD_BYTES}")
        if self.label_range is not None and self.label_range[0] > self.label_range[1]:
            raise ValueError(f"the label range {self.label_range} is empty")

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    @property
    def ragged(self) -> bool:
        """Whether any field is ragged."""
        return any(field.ragged for field in self.fields)

    @property
    def record_bytes(self) -> int:
        """Bytes of one record's fixed-size fields."""
        return sum(field.item_bytes for field in self.fields if not field.ragged)

    @property
    def fields_text(self) -> str:
        """The fields, for people."""
        return ", ".join(f"{each.name} {each.dtype}{list(each.shape) if each.shape else ''}" for each in self.fields)

    def to_wire(self) -> dict[str, Any]:
        """The schema as a msgpack map (protocol/SPEC.md)."""
        return {
            "fields": [[field.name, field.dtype, list(field.shape)] for field in self.fields],
            "label": self.label,
            "class_names": list(self.class_names),
            "label_range": None if self.label_range is None else list(self.label_range),
        }

    @classmethod
    def from_wire(cls, wire: Any) -> "Schema":
        """The reverse; raises `MalformedMessage`."""
        try:
            label_range = wire["label_range"]
            if label_range is not None:
                low, high = label_range
                label_range = (integer(low), integer(high))
            label = wire["label"]
            return cls(
                fields=tuple(
                    Field(text(name), text(dtype), tuple(None if n is None else integer(n) for n in shape))
                    for name, dtype, shape in entries(wire["fields"], MAX_FIELDS)
                ),
                label=None if label is None else text(label),
                class_names=tuple(text(name, MAX_NAME_LENGTH) for name in entries(wire["class_names"], MAX_CLASSES)),
                label_range=label_range,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedMessage(f"not a schema: {error}") from error
