"""What some records are like together: each field's numbers, and how often each class comes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protocol.chunk import Chunk, Column, Ragged
from protocol.schema import Schema
from protocol.show import columns
from protocol.wording import class_name, plain

#: Classes that a histogram shows, the most frequent first.
MOST_CLASSES = 20
BAR_WIDTH = 32
EIGHTHS = " ▏▎▍▌▋▊▉"
INTEGERS = "iu"  # numpy's kinds


def summary(schema: Schema, chunks: Sequence[Chunk]) -> RenderableType:
    """A row for each field with numbers, and where the schema has a label, its histogram."""
    parts: list[RenderableType] = [_numbers(schema, chunks)]
    if (bars := _histogram(schema, chunks)) is not None:
        parts += ["", bars]
    return Group(*parts)


def _numbers(schema: Schema, chunks: Sequence[Chunk]) -> Table:
    """Least, mean and greatest value, share of NaN, and of ragged fields how long they are; over all elements."""
    rows = []
    for field in schema.fields:
        found = [chunk.columns[field.name] for chunk in chunks]
        rows.append((plain(field.name), *_figures(values_of(found)), _lengths(found)))
    heads = ("field", "least", "mean", "greatest", "NaN", "length")
    said = [at for at, cells in enumerate(zip(*rows, strict=True)) if any(cells) or at < heads.index("NaN")]
    table = columns(heads[0], numbers=[heads[at] for at in said[1:]])
    for row in rows:
        table.add_row(*(row[at] for at in said))
    return table


def values_of(found: Sequence[Column]) -> npt.NDArray[Any]:
    """All elements of a column's parts, [elements]."""
    return np.concatenate([(part.values if isinstance(part, Ragged) else part).reshape(-1) for part in found])


def _figures(values: npt.NDArray[Any]) -> tuple[str, str, str, str]:
    """Least, mean, greatest of what is a number, and the share of what is none."""
    none = np.isnan(values) if values.dtype.kind in "fc" else np.zeros(len(values), bool)
    kept = values[~none]
    share = f"{none.mean():.1%}" if none.any() else ""
    if not len(kept):
        return "", "", "", share
    if kept.dtype.kind == "c":
        return "", f"{kept.mean():.4g}", "", share
    with np.errstate(over="ignore", invalid="ignore"):  # infinities have no mean, and that is what is said
        return _shown(kept.min()), f"{kept.mean(dtype=np.float64):.4g}", _shown(kept.max()), share


def _shown(value: Any) -> str:
    return f"{value:,}" if value.dtype.kind in INTEGERS else f"{float(value):.4g}"


def _lengths(found: Sequence[Column]) -> str:
    lengths = [part.lengths for part in found if isinstance(part, Ragged)]
    if not lengths:
        return ""
    together = np.concatenate(lengths)
    return f"{together.min():,} … {together.max():,}"


def class_counts(schema: Schema, chunks: Sequence[Chunk]) -> Mapping[int, int]:
    """How many records have each label, where that is an integer; the most frequent first."""
    field = None if schema.label is None else schema[schema.label]
    if field is None or field.shape or field.numpy_dtype.kind not in INTEGERS:
        return {}
    labels, counts = np.unique(values_of([chunk.columns[field.name] for chunk in chunks]), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return dict(zip(labels[order].tolist(), counts[order].tolist(), strict=True))


def _histogram(schema: Schema, chunks: Sequence[Chunk]) -> Table | None:
    counts = class_counts(schema, chunks)
    if not counts:
        return None
    table = Table.grid("class", "bar", "count", padding=(0, 2))
    table.columns[2].justify = "right"
    for label, count in list(counts.items())[:MOST_CLASSES]:
        table.add_row(class_name(schema, label), Text(bar(count / max(counts.values())), style="cyan"), f"{count:,}")
    if len(counts) > MOST_CLASSES:
        table.add_row(f"and {len(counts) - MOST_CLASSES:,} more classes")
    return table


def bar(share: float) -> str:
    """A bar of so much of the full width, to an eighth of a character."""
    eighths = max(1, round(share * BAR_WIDTH * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
