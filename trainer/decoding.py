"""Decoding: what a record's bytes mean is worked out where they arrive, in the workers, a chunk at a time.

A reader whose chunks are decoded is a reader like any other, so all that lies behind it (loader, held-out records,
prediction) sees decoded records and their schema alone.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import numpy as np
import torch

from protocol.chunk import LENGTH_DTYPE, Chunk, Column, Columns, Ragged, blank, concatenate, value_of
from protocol.command_line import located
from protocol.dealing import Positions
from protocol.errors import DataFault, HeadraceError, UsageError
from protocol.messages import STREAM, Description
from protocol.open_reader import open_reader
from protocol.reader import OnWait, Reader
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.subscription import Event, Progress, Subscribed, Subscription, Undecodable

#: From the columns of a chunk (arrays [count, *shape], or `Ragged`) to those of the same records, decoded; pure. With a
#: method `schema(schema)` it says what records are afterwards; else it is asked about no records, and shows it.
Decoder = Callable[[Columns], Columns]

#: About how long a piece of a chunk may take to decode, and how many rows the first one has.
PIECE_S: Final = 0.2
FIRST_ROWS: Final = 64


def open_decoded(url: str, decoders: Sequence[Decoder], *, keys: str | Path = "") -> Reader:
    """A reader for the URL (protocol/open_reader.py) whose chunks are decoded."""
    reader = open_reader(url, keys=keys)
    return DecodedReader(reader, Decoding(decoders)) if decoders else reader


class Decoding:
    """Decoders, one after the other."""

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = decoders

    def schema(self, schema: Schema) -> Schema:
        """What records of a schema are once they are decoded. Raises `UsageError` where they are not for these."""
        for decoder in self._decoders:
            try:
                schema = decoder.schema(schema) if hasattr(decoder, "schema") else shown_schema(decoder, schema)
            except ValueError as error:
                raise UsageError(f"--decode {_path(decoder)} does not go with these records: {error}") from error
        return schema

    def info(self, info: StreamInfo) -> StreamInfo:
        """A stream as its decoded records show it."""
        return replace(info, schema=self.schema(info.schema))

    def columns(self, columns: Columns, schema: Schema) -> dict[str, Column]:
        """Decoded columns, held against the decoded `schema`. Raises `DataFault`, and whatever a decoder raises."""
        count = len(next(iter(columns.values())))
        for decoder in self._decoders:
            columns = decoder(columns)
        if missing := [field.name for field in schema.fields if field.name not in columns]:
            raise DataFault(f"it gave {', '.join(columns) or 'nothing'} and no {missing[0]!r}")
        return {field.name: _checked(field, columns[field.name], count) for field in schema.fields}

    def parts(self, chunk: Chunk, schema: Schema) -> Iterator[Chunk | Undecodable]:
        """A chunk decoded; where that fails, its halves, so that one bad record takes no other with it."""
        try:
            columns = self.columns(chunk.columns, schema)
        except Exception as error:  # noqa: BLE001  (a decoder raises what its library raises; nothing is swallowed)
            if chunk.count == 1:
                yield undecodable(chunk, schema, error)
                return
        else:
            yield replace(chunk, columns=columns)
            return
        half = chunk.count // 2
        yield from self.parts(chunk.part(0, half), schema)
        yield from self.parts(chunk.part(half, chunk.count), schema)


def undecodable(chunk: Chunk, schema: Schema, error: Exception) -> Undecodable:
    """What is said of a single record that cannot be decoded; zeros keep its place."""
    why = str(error) if isinstance(error, HeadraceError) else located(error)
    return Undecodable(
        replace(chunk, columns=blank(schema)),
        {name: value_of(column, 0) for name, column in chunk.columns.items()},
        f"the record at partition {chunk.partition}, offset {chunk.offset} cannot be decoded: {why}",
    )


def shown_schema(decoder: Decoder, schema: Schema) -> Schema:
    """What a decoder that does not say it makes of records, as its answer about no records shows. Raises `UsageError`.

    The label stays the label, if its field does.
    """
    name = getattr(decoder, "__name__", type(decoder).__name__)
    none = {field.name: concatenate(field, []) for field in schema.fields}
    try:
        shown = tuple(_field(each, column) for each, column in decoder(none).items())
        label = schema.label if any(field.name == schema.label for field in shown) else None
        return replace(schema, fields=shown, label=label) if label else Schema(shown)
    except Exception as error:  # whatever a decoder raises that was not made for this
        mend = "let it take columns without records, or be a class with a method schema(schema) beside __call__"
        raise UsageError(f"--decode {name}: what it gives cannot be told ({located(error)}): {mend}") from error


def _field(name: str, column: Any) -> Field:
    if isinstance(column, Ragged):
        return Field(name, column.values.dtype.name, (None, *column.values.shape[1:]))
    array = np.asarray(column)
    return Field(name, array.dtype.name, array.shape[1:])


def _checked(field: Field, column: Any, count: int) -> Column:
    """A column as the schema says, its memory in one piece. Raises `DataFault`."""
    values = column.values if isinstance(column, Ragged) else np.asarray(column)
    if isinstance(column, Ragged) != field.ragged or values.shape[1:] != field.item_shape:
        raise DataFault(f"field {field.name!r}: it gave {values.shape[1:]} where {field.shape} was announced")
    if values.dtype != field.numpy_dtype:
        raise DataFault(f"field {field.name!r}: it gave {values.dtype} where {field.dtype} was announced")
    if len(column) != count:
        raise DataFault(f"field {field.name!r}: it gave {len(column)} records of {count}")
    values = np.ascontiguousarray(values)
    if not isinstance(column, Ragged):
        return values
    lengths = np.asarray(column.lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any() or lengths.sum() != len(values):
        raise DataFault(f"field {field.name!r}: it gave lengths that do not add up to its {len(values)} values")
    return Ragged(np.ascontiguousarray(lengths, LENGTH_DTYPE), values)


class DecodedReader(Reader):
    """`reader`, whose records are decoded as they come; one that cannot be is an event of its own, in its place.

    A chunk that takes long is decoded in pieces, which are handed over as they are ready, and signs of life are said in
    between: else the producer would take this reader for dead.
    """

    def __init__(self, reader: Reader, decoding: Decoding) -> None:
        self._reader, self._decoding = reader, decoding
        self._piece_rows = FIRST_ROWS

    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        said = self._reader.describe(split, time_ns=time_ns, timeout_s=timeout_s, on_wait=on_wait)
        return replace(said, info=self._decoding.info(said.info))

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        schema: Schema | None = None
        for events in self._reader.read(subscription, progress=progress, idle_s=idle_s):
            decoded: list[Event] = []
            for event in events:
                match event:
                    case Subscribed(info):
                        schema = self._decoding.schema(info.schema)
                        decoded.append(Subscribed(replace(info, schema=schema)))
                    case Chunk():
                        assert schema is not None, "a reader says what it reads before it gives any of it"
                        for piece in self._pieces(event):
                            began_s = time.monotonic()
                            decoded += self._decoding.parts(piece, schema)
                            if self._was_long(piece.count, time.monotonic() - began_s):
                                self._reader.stay()
                                yield decoded
                                decoded = []
                    case _:
                        decoded.append(event)
            yield decoded

    def _pieces(self, chunk: Chunk) -> Iterator[Chunk]:
        start = 0
        while start < chunk.count:
            stop = min(start + self._piece_rows, chunk.count)
            yield chunk if stop - start == chunk.count else chunk.part(start, stop)
            start = stop

    def _was_long(self, rows: int, took_s: float) -> bool:
        """Whether a piece took its time; the next ones have as many rows as take about that."""
        self._piece_rows = max(1, int(rows * PIECE_S / max(took_s, PIECE_S / FIRST_ROWS)))
        return took_s > PIECE_S / 2

    def stay(self) -> None:
        self._reader.stay()

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        self._reader.commit(group, incarnation, positions, timeout_s=timeout_s)

    def drop(self, group: str, *, timeout_s: float) -> bool:
        return self._reader.drop(group, timeout_s=timeout_s)

    def close(self) -> None:
        self._reader.close()


def identity(decoders: Sequence[Decoder]) -> str:
    """A digest that tells one way of decoding from another: classes, functions and what they were made with."""
    try:
        told = repr([_told(each) for each in decoders])
    except RecursionError:  # something that knows itself
        told = repr(decoders)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _told(value: Any) -> Any:
    """What a decoder is made of, in words that are the same in each process; of anything strange they may not be."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()
    if isinstance(value, partial):
        return "partial", _told(value.func), _told(value.args), _told(value.keywords)
    if isinstance(value, dict):
        return [(_told(name), _told(each)) for name, each in value.items()]
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, type | FunctionType):
        return _path(value)
    if is_dataclass(value):
        return _path(value), [(each.name, _told(getattr(value, each.name))) for each in fields(value)]
    return (_path(value), _told(vars(value))) if hasattr(value, "__dict__") else repr(value)


def _path(decoder: Any) -> str:
    kind = decoder if hasattr(decoder, "__qualname__") else type(decoder)
    return f"{kind.__module__}.{kind.__qualname__}"
