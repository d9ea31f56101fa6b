"""Records in msgpack that are laid out alike, side by side: each field is a slice of their bytes.

Who writes a topic writes its records one like the other: the same names in the same order, numbers of the same width.
So of many records of one length all bytes but those of the values are the same, and numpy compares and parts them all
at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from protocol.chunk import Column
from protocol.conform import FieldCheck
from protocol.errors import DataFault, MalformedMessage
from protocol.schema import MAX_FIELDS
from protocol.values import unpacked

#: The numbers whose first byte says what they are (msgpack's specification, "Formats").
WIDE: Final[Mapping[int, np.dtype[Any]]] = {
    0xCA: np.dtype(">f4"),
    0xCB: np.dtype(">f8"),
    0xCC: np.dtype("u1"),
    0xCD: np.dtype(">u2"),
    0xCE: np.dtype(">u4"),
    0xCF: np.dtype(">u8"),
    0xD0: np.dtype("i1"),
    0xD1: np.dtype(">i2"),
    0xD2: np.dtype(">i4"),
    0xD3: np.dtype(">i8"),
}
#: Those that are their first byte: the bits that say so, which of a byte they are, and the dtype.
SMALL: Final = ((0x00, 0x80, np.dtype("u1")), (0xE0, 0xE0, np.dtype("i1")), (0xC2, 0xFE, np.dtype("?")))
#: The first byte of longer lists, and the bytes that come before their first item.
LIST_HEADERS: Final = {0xDC: 3, 0xDD: 5}

LISTS: Final = frozenset(bytes((first,)) for first in (*range(0x90, 0xA0), *LIST_HEADERS))
#: So many records at least are looked at together, in so many layouts of one length.
LEAST: Final = 16
MOST_LAYOUTS: Final = 4

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a field lies in a record: `count` items of `stride` bytes from byte `start` on, each ending in its number.

    Of each item's first byte the bits in `kind_mask` say what it is. `plain` numbers have no width of their own.
    """

    check: FieldCheck
    start: int
    count: int
    stride: int
    dtype: np.dtype[Any]
    kind_mask: int
    plain: bool

    def items(self, rows: Rows) -> Rows:
        """Those of records [n, record bytes]: [n, count, stride]."""
        return rows[:, self.start : self.start + self.count * self.stride].reshape(len(rows), self.count, self.stride)

    def numbers(self, rows: Rows) -> Rows:
        """What of the items differs from record to record, [n, count, bytes of a number]."""
        return self.items(rows)[:, :, self.stride - self.dtype.itemsize :]

    def column(self, rows: Rows) -> npt.NDArray[Any]:
        """The field of records [n, record bytes]. Raises `DataFault`."""
        field, numbers = self.check.field, self.numbers(rows)
        if self.dtype == np.bool_:
            if self.plain:
                numbers = numbers & np.uint8(1)
            elif numbers.max(initial=0) > 1:
                raise DataFault(f"field {field.name!r}: a bool is 0 or 1")
        values = np.ascontiguousarray(numbers).reshape(-1).view(self.dtype).reshape(len(rows), *field.item_shape)
        return self.check.numbers(values) if self.plain else np.asarray(self.check.column(values))


class Layout:
    """That of `record`, with its fields at these places."""

    def __init__(self, record: bytes, places: Sequence[Place]) -> None:
        self._places = places
        mask = np.full((1, len(record)), 0xFF, np.uint8)
        for place in places:
            place.numbers(mask)[...] = 0
            place.items(mask)[:, :, 0] |= np.uint8(place.kind_mask)
        self._where = np.flatnonzero(mask)
        self._mask = mask[0, self._where]
        self._due = np.frombuffer(record, np.uint8)[self._where] & self._mask

    def alike(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of these records, [n, bytes of `record`], are laid out so."""
        same: npt.NDArray[np.bool_] = ((rows[:, self._where] & self._mask) == self._due).all(axis=1)
        return same

    def columns(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """The fields of records that are. Raises `DataFault`."""
        return {place.check.name: place.column(rows) for place in self._places}


def parted(values: Sequence[bytes], most: int) -> tuple[Sequence[bytes], list[int]]:
    """The records of values that are each one, or a list of at most so many; and how many each is.

    Raises `DataFault`, for a list that announces more before it is looked at.
    """
    if LISTS.isdisjoint({value[:1] for value in values}):
        return values, [1] * len(values)
    of_each = [list(_parts(value, most)) if _is_list(value) else [value] for value in values]
    return [record for each in of_each for record in each], [len(each) for each in of_each]


def _is_list(value: bytes) -> bool:
    return value[:1] in LISTS


def _parts(value: bytes, most: int) -> Iterator[bytes]:
    unpacker = msgpack.Unpacker(max_buffer_size=len(value))
    unpacker.feed(value)
    try:
        count, start = unpacker.read_array_header(), unpacker.tell()
        if count > most:
            raise DataFault(f"a message of {count} records, where {most} are the most")
        for _ in range(count):
            unpacker.skip()
            stop = unpacker.tell()
            yield _map(value[start:stop])
            start = stop
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise DataFault(f"the value is no msgpack: {error or 'it is cut short'}") from error
    if start != len(value):
        raise DataFault(f"the value is no msgpack: {len(value) - start} bytes follow")


def _map(record: bytes) -> bytes:
    if _is_list(record):
        raise DataFault("the value is a list of lists in msgpack, where one of maps is due")
    return record


def alike(
    records: Sequence[bytes], checks: Sequence[FieldCheck], otherwise: Callable[[Sequence[bytes]], Mapping[str, Column]]
) -> Mapping[str, Column]:
    """The columns of records, each a map in msgpack; those of which few are alike are left to `otherwise`.

    Raises `DataFault`.
    """
    if any(check.field.ragged for check in checks):
        return otherwise(records)
    left = np.ones(len(records), np.bool_)
    found: list[tuple[npt.NDArray[np.intp], Mapping[str, Column]]] = []
    for where, columns in _laid_out(records, checks):
        found.append((where, columns))
        left[where] = False
    if not found:
        return otherwise(records)
    if left.any():
        where = np.flatnonzero(left)
        found.append((where, otherwise([records[number] for number in where.tolist()])))
    if len(found) == 1:
        return found[0][1]
    together = {c.name: np.empty((len(records), *c.field.item_shape), c.field.numpy_dtype) for c in checks}
    for where, columns in found:
        for name, column in columns.items():
            together[name][where] = column
    return together


def _laid_out(
    records: Sequence[bytes], checks: Sequence[FieldCheck]
) -> Iterator[tuple[npt.NDArray[np.intp], Mapping[str, Column]]]:
    """Which records are laid out like each other, and their columns."""
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
        if count < LEAST:
            continue
        where = np.flatnonzero(lengths == length)
        rows = np.frombuffer(b"".join([records[number] for number in where.tolist()]), np.uint8).reshape(count, length)
        for _ in range(MOST_LAYOUTS):
            if len(where) < LEAST or (layout := layout_of(rows[0].tobytes(), checks)) is None:
                break
            same = layout.alike(rows)
            yield where[same], layout.columns(rows if same.all() else rows[same])
            where, rows = where[~same], rows[~same]


def layout_of(record: bytes, checks: Sequence[FieldCheck]) -> Layout | None:
    """That of a map with exactly these fields, none ragged; None where it is none, or holds what is no number."""
    try:
        told = unpacked(record, max_map_len=MAX_FIELDS)
    except MalformedMessage:
        return None
    of = {check.name: check for check in checks}
    if not isinstance(told, dict) or told.keys() != of.keys():
        return None
    entries = list(_entries(record, 0))
    places = [_place(of[name], value, record, start, stop) for name, value, start, stop in entries]
    if len(entries) != len(of):  # a name that comes twice
        return None
    known = [place for place in places if place is not None]
    return Layout(record, known) if len(known) == len(places) else None


def _entries(record: bytes, start: int) -> Iterator[tuple[str, Any, int, int]]:
    """Of the map that begins at `start`: each name and value, and where the value begins and ends."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(record))
    unpacker.feed(record[start:])
    for _ in range(unpacker.read_map_header()):
        name, first = unpacker.unpack(), unpacker.tell()
        yield name, unpacker.unpack(), start + first, start + unpacker.tell()


def _place(check: FieldCheck, value: Any, record: bytes, start: int, stop: int) -> Place | None:
    if isinstance(value, dict):
        return _array(check, value, record, start)
    count, at = 1, start
    if isinstance(value, list):
        count, at = len(value), start + LIST_HEADERS.get(record[start], 1)
    if check.field.shape != ((count,) if isinstance(value, list) else ()):
        return None
    found = _kind(record[at])
    if found is None:
        return None
    kind_mask, stride, dtype = found
    firsts = {each & kind_mask for each in record[at:stop:stride]}
    if count * stride != stop - at or len(firsts) > 1:
        return None
    return Place(check=check, start=at, count=count, stride=stride, dtype=dtype, kind_mask=kind_mask, plain=True)


def _kind(first: int) -> tuple[int, int, np.dtype[Any]] | None:
    """Of a number's first byte: the bits that say what it is, its size in bytes, and its dtype."""
    if (wide := WIDE.get(first)) is not None:
        return 0xFF, 1 + wide.itemsize, wide
    return next(((mask, 1, dtype) for due, mask, dtype in SMALL if first & mask == due), None)


def _array(check: FieldCheck, value: Mapping[Any, Any], record: bytes, start: int) -> Place | None:
    """An array that is said in full, exactly of this field."""
    field, data = check.field, value.get("data")
    if value.get("dtype") != field.dtype or value.get("shape") != list(field.shape) or not isinstance(data, bytes):
        return None
    if len(data) != field.item_bytes:
        return None
    stops = [stop for name, _, _, stop in _entries(record, start) if name == "data"]
    if len(stops) > 1:  # a name that comes twice
        return None
    dtype, size = field.numpy_dtype, len(data)
    count = size // dtype.itemsize
    return Place(
        check=check, start=stops[0] - size, count=count, stride=dtype.itemsize, dtype=dtype, kind_mask=0, plain=False
    )
