"""What a message's value is: in each of the formats, and by a class of the user's.

Values that are alike are taken together; where that fails, each is looked at, and only what does not fit is refused.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from protocol.chunk import LENGTH_DTYPE, Column, Ragged, concatenate
from protocol.command_line import located
from protocol.conform import FieldCheck
from protocol.errors import DataFault, HeadraceError, PeerError, UsageError
from protocol.kafka.layout import alike, parted
from protocol.records import record_from
from protocol.schema import MAX_DIMENSIONS, MAX_FIELDS, Field
from protocol.values import unpacked

if TYPE_CHECKING:
    from confluent_kafka import Message

NUMBERS: Final = frozenset((bool, int, float))
TEXTS: Final = frozenset((str, bytes))


class Values(ABC):
    """One way in which a message holds records."""

    #: So many messages are made columns at once: where many of Python's objects outlive two collections, all objects of
    #: the program are looked at, which takes longer than the decoding.
    together = 256

    @abstractmethod
    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        """The records of one message, not yet held against a schema. Raises `DataFault`."""

    def columns(
        self, messages: Sequence["Message"], values: Sequence[bytes], checks: Sequence[FieldCheck]
    ) -> tuple[Mapping[str, Column], list[int]]:
        """Those of many side by side, and how many each message has. Raises `DataFault`."""
        del values  # of use where they need not be looked at one by one
        found = [self.records(message) for message in messages]
        return side_by_side([record for each in found for record in each], checks), [len(each) for each in found]


class Maps(Values):
    """A map of fields, or a list of such maps, which `read` makes Python's; an array is as in protocol/records.py."""

    def __init__(self, kind: str, read: Callable[[bytes], Any]) -> None:
        self._kind, self._read = kind, read

    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        return self.maps(message.value() or b"")

    def columns(
        self, messages: Sequence["Message"], values: Sequence[bytes], checks: Sequence[FieldCheck]
    ) -> tuple[Mapping[str, Column], list[int]]:
        del messages
        found = list(map(self.maps, values))
        return side_by_side([record for each in found for record in each], checks), list(map(len, found))

    def maps(self, value: bytes) -> list[Mapping[str, Any]]:
        """The records of a value. Raises `DataFault`."""
        try:
            told = self._read(value)
        except (ValueError, RecursionError, PeerError) as error:
            raise DataFault(f"the value is no {self._kind}: {error}") from error
        if type(told) is dict:
            return [told]
        if not isinstance(told, list) or not set(map(type, told)) <= {dict}:
            raise DataFault(f"the value is no map of fields in {self._kind}, nor a list of such maps")
        return told


class Packed(Maps):
    """Maps in msgpack, of which those that are laid out alike are not taken apart one by one."""

    together = 1024

    def __init__(self, most: int) -> None:
        """`most` records are in a message."""
        super().__init__("msgpack", _unpacked)
        self._most = most

    def columns(
        self, messages: Sequence["Message"], values: Sequence[bytes], checks: Sequence[FieldCheck]
    ) -> tuple[Mapping[str, Column], list[int]]:
        del messages
        records, counts = parted(values, self._most)
        return alike(records, checks, lambda left: self._one_by_one(left, checks)), counts

    def _one_by_one(self, records: Sequence[bytes], checks: Sequence[FieldCheck]) -> dict[str, Column]:
        size = super().together
        lots = [
            side_by_side([each for record in records[start : start + size] for each in self.maps(record)], checks)
            for start in range(0, len(records), size)
        ]
        return {check.name: concatenate(check.field, [lot[check.name] for lot in lots]) for check in checks}


class Raw(Values):
    """The fields' bytes one after the other, little-endian, record after record; or one ragged field alone."""

    together = 4096

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._dtype = np.dtype([(each.name, each.numpy_dtype, each.item_shape) for each in fields if not each.ragged])
        self._size = fields[0].item_bytes if fields[0].ragged else self._dtype.itemsize

    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        value = message.value() or b""
        if len(value) % self._size or not (value or self._fields[0].ragged):
            raise DataFault(f"a value of {len(value)} bytes, where a record has {self._size}")
        columns = self._parted([value])
        count = len(next(iter(columns.values())))
        return [{name: _row(column, row) for name, column in columns.items()} for row in range(count)]

    def columns(
        self, messages: Sequence["Message"], values: Sequence[bytes], checks: Sequence[FieldCheck]
    ) -> tuple[Mapping[str, Column], list[int]]:
        del messages
        lengths = list(map(len, values))
        if any(length % self._size for length in set(lengths)) or (0 in lengths and not self._fields[0].ragged):
            raise DataFault("values of other lengths")
        columns = self._parted(values)
        checked = {check.name: check.column(columns[check.name]) for check in checks}
        return checked, [1] * len(values) if self._fields[0].ragged else [each // self._size for each in lengths]

    def _parted(self, values: Sequence[bytes]) -> dict[str, Column]:
        first, data = self._fields[0], b"".join(values)
        if first.ragged:
            lengths = np.fromiter((len(value) // self._size for value in values), LENGTH_DTYPE, len(values))
            return {first.name: Ragged(lengths, _typed(first, data))}
        if len(self._fields) == 1:
            return {first.name: _typed(first, data)}
        rows = np.frombuffer(data, self._dtype)
        for field in self._fields:
            if field.dtype == "bool" and (rows[field.name].view(np.uint8) > 1).any():
                raise DataFault(f"field {field.name!r}: a bool is 0 or 1")
        return {field.name: np.ascontiguousarray(rows[field.name]) for field in self._fields}


class Decoded(Values):
    """What a class of the user's makes of a message: `records(value, key, headers)`, of its `schema`."""

    def __init__(self, decoder: Any, path: str) -> None:
        self._decoder, self._path = decoder, path

    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        try:
            records = list(self._decoder.records(message.value(), message.key(), dict(message.headers() or ())))
        except Exception as error:  # whatever a decoder raises; the message is refused with it
            why = str(error) if isinstance(error, HeadraceError) else located(error)
            raise DataFault(f"{self._path}: {why}") from error
        if not all(isinstance(record, Mapping) for record in records):
            raise DataFault(f"{self._path} gives records that are no mappings of field names to values")
        return records


def _unpacked(value: bytes) -> Any:
    return unpacked(value, max_map_len=MAX_FIELDS)


def json_reader() -> Callable[[bytes], Any]:
    """orjson, which takes a sixth of json's time, and json for what only that takes: NaN, Infinity, UTF-16.

    Raises `UsageError` where it is not installed.
    """
    try:
        from orjson import JSONDecodeError, loads
    except ImportError as error:
        raise UsageError("format=json needs orjson: pip install 'headrace[kafka]'") from error

    def read(value: bytes) -> Any:
        try:
            return loads(value)
        except JSONDecodeError:
            return json.loads(value)

    return read


def _typed(field: Field, data: bytes) -> npt.NDArray[Any]:
    if field.dtype == "bool" and data and max(data) > 1:
        raise DataFault(f"field {field.name!r}: a bool is 0 or 1")
    return np.frombuffer(data, field.numpy_dtype).reshape(-1, *field.item_shape)


def _row(column: Column, row: int) -> Any:
    return column[row : row + 1].values if isinstance(column, Ragged) else column[row]


def side_by_side(records: Sequence[Mapping[str, Any]], checks: Sequence[FieldCheck]) -> dict[str, Column]:
    """Columns out of maps, if all have exactly these fields. Raises `DataFault`."""
    names = {check.name for check in checks}
    if any(record.keys() != names for record in records):
        raise DataFault("records of other fields")
    return {check.name: column_of(check, [each[check.name] for each in records]) for check in checks}


def column_of(check: FieldCheck, values: list[Any]) -> Column:
    """A column out of the values of a map, quickly where they are alike. Raises `DataFault`."""
    field, kinds = check.field, set(map(type, values))
    if not values:
        return check.column(concatenate(field, []))
    if kinds == {dict} and not field.ragged:
        return check.column(_typed(field, b"".join(_data(field, value) for value in values)))
    if not kinds.isdisjoint((str, bytes)):
        if not field.ragged:
            # numpy would give each row the room of the longest; which one it is shows where each is looked at alone.
            raise DataFault(f"field {field.name!r}: a text among numbers")
        if kinds <= TEXTS and field.dtype == "uint8":
            return check.column(_texts(field, values))
    if _only_numbers(values):
        return check.column(values)
    values = [meant(field.name, value) for value in values]
    if not field.ragged and any(isinstance(value, np.ndarray | np.generic) for value in values):
        return check.column(np.stack([np.asarray(check.value(value), field.numpy_dtype) for value in values]))
    return check.column(values)


def meant(name: str, value: Any) -> Any:
    """What a list or a map in a record says, as protocol/records.py has it; all else is itself. Raises `DataFault`."""
    if type(value) not in (list, dict):
        return value
    try:
        return record_from({name: value})[name]
    except PeerError as error:
        raise DataFault(f"field {name!r}: {error}") from error


def _only_numbers(values: list[Any]) -> bool:
    """Whether they are numbers, or lists of numbers that lie as deep in each other as a field has dimensions."""
    for depth in range(MAX_DIMENSIONS + 1):
        level: Iterable[Any] = values
        for _ in range(depth):
            level = chain.from_iterable(level)
        kinds = set(map(type, level))
        if kinds <= NUMBERS:
            return True
        if kinds != {list}:
            return False
    return False


def _texts(field: Field, values: list[Any]) -> Ragged:
    try:
        encoded = [value.encode() if type(value) is str else value for value in values]
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can say
        raise DataFault(f"field {field.name!r}: a text that is no UTF-8 ({error.reason})") from error
    lengths = np.fromiter(map(len, encoded), LENGTH_DTYPE, len(encoded))
    return Ragged(lengths, _typed(field, b"".join(encoded)))


def _data(field: Field, value: Mapping[str, Any]) -> bytes:
    """The bytes of an array that is said in full, exactly of this field; else the slow way says why not."""
    data = value.get("data")
    if value.get("dtype") != field.dtype or value.get("shape") != list(field.shape) or not isinstance(data, bytes):
        raise DataFault(f"field {field.name!r}: an array of another dtype or shape than {field.dtype} {field.shape}")
    if len(data) != field.item_bytes:
        raise DataFault(f"field {field.name!r}: {len(data)} bytes where {field.item_bytes} are due")
    return data
