"""Messages of a Kafka topic as columns: what a value is, in each of the formats and by a class of the user's.

Most messages are alike, so they are taken together; where one is not, each is looked at, and only that one is refused.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from protocol.chunk import LENGTH_DTYPE, Column, Ragged, concatenate
from protocol.command_line import located
from protocol.conform import FieldCheck, RecordCheck
from protocol.errors import DataFault, HeadraceError, PeerError, UsageError
from protocol.inference import infer_schema
from protocol.kafka_url import KafkaTopic
from protocol.records import record_from
from protocol.schema import MAX_FIELDS, Field, Schema
from protocol.values import unpacked

if TYPE_CHECKING:
    from confluent_kafka import Message

NUMBERS: Final = frozenset((bool, int, float))


class Messages:
    """Columns of the schema out of messages; `columns` of many at once, `records` of one that may be bad."""

    def __init__(self, topic: KafkaTopic, values: "Values", schema: Schema) -> None:
        self.schema, self.together = schema, values.together
        self._values, self._most, self._headers = values, topic.records_per_message, topic.headers
        self._check = RecordCheck(schema)
        self._header_checks = [check for check in self._check.fields if check.field in topic.headers]
        self._value_checks = [check for check in self._check.fields if check.field not in topic.headers]

    def columns(self, messages: Sequence["Message"], values: Sequence[bytes]) -> tuple[dict[str, Column], list[int]]:
        """The columns of the records of all these messages, whose values these are, and how many each of them has.

        Raises `DataFault`.
        """
        columns, counts = self._values.columns(messages, values, self._value_checks)
        if max(counts) > self._most:
            raise _too_many(max(counts), self._most)
        if self._header_checks:
            repeats = np.asarray(counts)
            told = [self._header(message) for message in messages]
            for check in self._header_checks:
                column = check.column([each[check.name] for each in told])
                rows = np.repeat(np.arange(len(messages)), repeats)
                columns[check.name] = column.take(rows) if isinstance(column, Ragged) else column[rows]
        return {field.name: columns[field.name] for field in self.schema.fields}, counts

    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        """The records of one message as they came, headers among their fields. Raises `DataFault`."""
        records = self._values.records(message)
        if len(records) > self._most:
            raise _too_many(len(records), self._most)
        headers = self._header(message)
        return [{**record, **headers} for record in records] if headers else records

    def one(self, record: Mapping[str, Any]) -> dict[str, Column]:
        """The columns of one record. Raises `DataFault`."""
        values = self._check.record(record)
        return {
            check.name: check.column(
                [value] if check.field.ragged else np.asarray(value, check.field.numpy_dtype)[None]
            )
            for check, value in zip(self._check.fields, values, strict=True)
        }

    def _header(self, message: "Message") -> dict[str, Any]:
        return header_values(message, self._headers)


def header_values(message: "Message", headers: Sequence[Field]) -> dict[str, Any]:
    """The headers that are fields: text as it is, a number out of its text. Raises `DataFault`."""
    if not headers:
        return {}
    found = dict(message.headers() or ())
    told: dict[str, Any] = {}
    for field in headers:
        value = found.get(field.name)
        if value is None:
            raise DataFault(f"there is no header {field.name!r}")
        text = value if isinstance(value, bytes) else str(value).encode()
        try:
            told[field.name] = text if field.ragged else _number(field, text.decode())
        except (ValueError, UnicodeDecodeError) as error:
            raise DataFault(f"the header {field.name!r} is no {field.dtype}: {error}") from error
    return told


def _number(field: Field, text: str) -> complex:
    kind = field.numpy_dtype.kind
    return int(text) if kind in "iub" else float(text) if kind == "f" else complex(text)


def _too_many(count: int, most: int) -> DataFault:
    return DataFault(f"a message of {count} records, where records_per_message={most} is the most")


# --- what a value is ---------------------------------------------------------------------------------------------


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
    ) -> tuple[dict[str, Column], list[int]]:
        """Those of many side by side, and how many each message has. Raises `DataFault`."""
        del values  # of use where they need not be looked at one by one
        found = [self.records(message) for message in messages]
        records = [record for each in found for record in each]
        names = {check.name for check in checks}
        if any(record.keys() != names for record in records):
            raise DataFault("records of other fields")
        return {check.name: column_of(check, [each[check.name] for each in records]) for check in checks}, [
            len(each) for each in found
        ]


class Maps(Values):
    """A map of fields, or a list of such maps, in msgpack or JSON; an array is as in protocol/records.py."""

    def __init__(self, kind: str) -> None:
        self._read: Callable[[bytes], Any] = json.loads if kind == "json" else _unpacked
        self._kind = kind

    def records(self, message: "Message") -> list[Mapping[str, Any]]:
        try:
            value = self._read(message.value() or b"")
        except (ValueError, RecursionError, PeerError) as error:
            raise DataFault(f"the value is no {self._kind}: {error}") from error
        records = value if isinstance(value, list) else [value]
        if not set(map(type, records)) <= {dict}:
            raise DataFault(f"the value is no map of fields in {self._kind}, nor a list of such maps")
        return records


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
    ) -> tuple[dict[str, Column], list[int]]:
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


def _typed(field: Field, data: bytes) -> npt.NDArray[Any]:
    if field.dtype == "bool" and data and max(data) > 1:
        raise DataFault(f"field {field.name!r}: a bool is 0 or 1")
    return np.frombuffer(data, field.numpy_dtype).reshape(-1, *field.item_shape)


def _row(column: Column, row: int) -> Any:
    return column[row : row + 1].values if isinstance(column, Ragged) else column[row]


def column_of(check: FieldCheck, values: list[Any]) -> Column:
    """A column out of the values of a map, quickly where they are alike. Raises `DataFault`."""
    field, kinds = check.field, set(map(type, values))
    if kinds == {dict} and not field.ragged:
        return check.column(_typed(field, b"".join(_data(field, value) for value in values)))
    if not values:
        return check.column(concatenate(field, []))
    if not kinds <= NUMBERS:
        try:
            values = [
                record_from({field.name: value})[field.name] if type(value) in (list, dict) else value
                for value in values
            ]
        except PeerError as error:
            raise DataFault(f"field {field.name!r}: {error}") from error
    if not field.ragged and any(isinstance(value, np.ndarray | np.generic) for value in values):
        return check.column(np.stack([check.value(value) for value in values]).astype(field.numpy_dtype, copy=False))
    return check.column(values)


def _data(field: Field, value: Mapping[str, Any]) -> bytes:
    """The bytes of an array that is said in full, exactly of this field; else the slow way says why not."""
    data = value.get("data")
    if value.get("dtype") != field.dtype or value.get("shape") != list(field.shape) or not isinstance(data, bytes):
        raise DataFault(f"field {field.name!r}: an array of another dtype or shape than {field.dtype} {field.shape}")
    if len(data) != field.item_bytes:
        raise DataFault(f"field {field.name!r}: {len(data)} bytes where {field.item_bytes} are due")
    return data


# --- which of them it is -----------------------------------------------------------------------------------------


def open_messages(topic: KafkaTopic, first: Iterator["Message"]) -> Messages:
    """How messages of the topic are read; `first` gives one, which is asked for only if the schema is not declared.

    Raises `UsageError` where the first message shows none.
    """
    if topic.decoder:
        decoder = _decoder(topic)
        return Messages(topic, Decoded(decoder, topic.decoder), _with_headers(topic, decoder.schema))
    if topic.format == "raw":
        assert topic.schema is not None, "raw bytes always have a schema"
        own = [each for each in topic.schema.fields if each not in topic.headers]
        return Messages(topic, Raw(own), topic.schema)
    values = Maps(topic.format)
    return Messages(topic, values, topic.schema or _shown(topic, values, next(first)))


def _shown(topic: KafkaTopic, values: Values, message: "Message") -> Schema:
    place = f"the first message (partition {message.partition()}, offset {message.offset()}) of {topic.address}"
    try:
        records = values.records(message)
        if not records:
            raise UsageError(f"{place} holds no record to tell the fields by: declare them (schema=)")
        return infer_schema({**record_from(records[0]), **header_values(message, topic.headers)})
    except (DataFault, PeerError, UsageError) as error:
        raise UsageError(
            f"{place} shows no schema: {error}; declare it (schema=), or say what it is (format=)"
        ) from error


def _with_headers(topic: KafkaTopic, schema: Schema) -> Schema:
    return Schema((*schema.fields, *topic.headers), schema.label, schema.class_names, schema.label_range)


def _decoder(topic: KafkaTopic) -> Any:
    from protocol.class_path import import_class

    kind = import_class(topic.decoder, "decoder=")
    try:
        made = kind(**topic.decoder_arguments)
    except Exception as error:  # whatever somebody's class does while it is made
        raise UsageError(f"decoder= {topic.decoder!r} cannot be made: {located(error)}") from error
    if not isinstance(getattr(made, "schema", None), Schema) or not callable(getattr(made, "records", None)):
        raise UsageError(f"decoder= {topic.decoder!r} needs a `schema` and a method `records(value, key, headers)`")
    return made
