"""Words for people: names, shapes, durations and texts as they are shown. Needs no library for tables."""

from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.schema import Field, Schema


def plain(text: str) -> str:
    """Text that came over the wire, fit for a terminal: without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def shape(each: Field) -> str:
    """Dtype and shape of a field: `uint8 [1, 28, 28]`, `int64`, `uint8 [any]`."""
    sizes = ", ".join("any" if size is None else str(size) for size in each.shape)
    return f"{each.dtype} [{sizes}]" if each.shape else each.dtype


def class_name(schema: Schema, label: int) -> str:
    """A label with the name of its class, where it has one: `3 Dress`."""
    return f"{label} {plain(schema.class_names[label])}" if 0 <= label < len(schema.class_names) else str(label)


def text_of(values: npt.NDArray[Any]) -> str | None:
    """The text that a ragged field's elements are; None where they are no UTF-8."""
    if values.dtype != np.uint8 or values.ndim != 1:
        return None
    try:
        return values.tobytes().decode()
    except UnicodeDecodeError:
        return None


def clock(seconds: float) -> str:
    """A duration as on a clock: `0:07`, `12:34`, `3:00:00`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:,}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
