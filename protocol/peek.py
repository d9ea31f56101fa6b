"""The next records of a stream for people: read without joining a group, shown as a table."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from protocol.beginning import EARLIEST, Beginning
from protocol.chunk import Chunk, concatenate, value_of
from protocol.errors import RecordsLost, UsageError
from protocol.messages import STREAM, Description
from protocol.reader import Reader
from protocol.schema import Field, Schema
from protocol.show import columns
from protocol.subscription import Subscription
from protocol.wording import class_name, plain, shape, text_of

TEXT_LIMIT = 200
#: A log that forgets while it is asked for its start is asked again.
TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records: `count` of a split (the stream itself: "") from `beginning` on."""

    count: int
    split: str = STREAM
    beginning: Beginning = EARLIEST
    timeout_s: float = 5.0


def next_records(reader: Reader, wanted: Wanted) -> tuple[Description, list[Chunk]]:
    """What the stream is, and at most `count` records of it in stream order; fewer where it ends or is silent."""
    for _ in range(TRIES):
        said = describe(reader, wanted)
        try:
            return said, list(_read(reader, wanted, said))
        except RecordsLost:
            continue
    raise UsageError("the log forgets its oldest records faster than they can be read: use --start latest")


def describe(reader: Reader, wanted: Wanted) -> Description:
    """What the stream or split is; raises `UsageError` where there is no such split."""
    said = reader.describe(time_ns=wanted.beginning.time_ns, timeout_s=wanted.timeout_s)
    if wanted.split == STREAM:
        return said
    if wanted.split not in said.info.splits:
        names = ", ".join(map(plain, said.info.splits)) or "none, so leave --split out"
        raise UsageError(f"the stream has no split {wanted.split!r}: there is {names}")
    return reader.describe(wanted.split, time_ns=wanted.beginning.time_ns, timeout_s=wanted.timeout_s)


def _read(reader: Reader, wanted: Wanted, said: Description) -> Iterator[Chunk]:
    start = wanted.beginning.positions(said)
    asked = Subscription(split=wanted.split, positions=start, incarnation=said.info.incarnation)
    missing, heard_s = wanted.count, time.monotonic()
    for events in reader.read(asked, idle_s=min(1.0, wanted.timeout_s)):
        for event in events:
            if isinstance(event, Chunk) and missing > 0:
                yield event.part(0, min(missing, event.count))
                missing, heard_s = missing - event.count, time.monotonic()
        if missing <= 0 or time.monotonic() - heard_s >= wanted.timeout_s:
            return


def pictures_of(schema: Schema, chunks: Sequence[Chunk]) -> Mapping[str, npt.NDArray[Any]]:
    """The columns of all fields that are not ragged, [records, *shape]."""
    fixed = (field for field in schema.fields if not field.ragged)
    return {
        field.name: np.asarray(concatenate(field, [chunk.columns[field.name] for chunk in chunks])) for field in fixed
    }


def table(schema: Schema, chunks: Sequence[Chunk]) -> Table:
    """One row a record: numbers as they are, arrays by their least, mean and greatest value, text as text."""
    shown = columns(numbers=("partition", "offset"))
    for each in schema.fields:
        numbers = not each.shape and not (each.name == schema.label and schema.class_names)
        shown.add_column(f"{plain(each.name)}\n{shape(each)}", justify="right" if numbers else "left")
    for chunk in chunks:
        for row in range(chunk.count):
            cells = [_cell(schema, each, chunk, row) for each in schema.fields]
            shown.add_row(str(chunk.partition), f"{chunk.offset + row:,}", *cells)
    return shown


def _cell(schema: Schema, field: Field, chunk: Chunk, row: int) -> str:
    value = value_of(chunk.columns[field.name], row)
    if field.ragged:
        return _array_or_text(value)
    if field.shape:
        return _summary(value)
    if field.name == schema.label and value.dtype.kind in "iu":
        return class_name(schema, int(value))
    return str(value.item())


def _array_or_text(values: npt.NDArray[Any]) -> str:
    text = text_of(values)
    if text is None:
        return f"{list(values.shape)} {_summary(values)}"
    shown = plain(text)
    return shown if len(shown) <= TEXT_LIMIT else shown[: TEXT_LIMIT - 1] + "…"


def _summary(values: npt.NDArray[Any]) -> str:
    if not values.size:
        return "empty"
    if values.dtype.kind == "c":
        return f"mean {values.mean():.4g}"
    return f"{values.min():.4g} … {values.max():.4g}, mean {values.mean(dtype=np.float64):.4g}"
