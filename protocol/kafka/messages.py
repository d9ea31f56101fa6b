"""Messages of a Kafka topic as columns: values and headers, held against the schema."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from protocol.chunk import Column, Ragged
from protocol.class_path import import_class
from protocol.command_line import located
from protocol.conform import RecordCheck
from protocol.errors import DataFault, PeerError, UsageError
from protocol.inference import infer_schema
from protocol.kafka.formats import Decoded, Maps, Packed, Raw, Values, json_reader, meant
from protocol.kafka.url import KafkaTopic, message_schema
from protocol.records import record_from
from protocol.schema import Field, Schema

if TYPE_CHECKING:
    from confluent_kafka import Message

#: What a header may say of a field that is true or false.
TRUTH: Final = {"true": True, "false": False, "1": True, "0": False}


class Messages:
    """Columns of the schema out of messages; `columns` of many at once, `records` of one that may be bad."""

    def __init__(self, topic: KafkaTopic, values: Values, schema: Schema) -> None:
        self.schema, self.together = schema, values.together
        self._values, self._most, self._headers = values, topic.records_per_message, topic.headers
        self._check = RecordCheck(schema)
        self._header_checks = [check for check in self._check.fields if check.field in topic.headers]
        self._value_checks = [check for check in self._check.fields if check.field not in topic.headers]

    def columns(self, messages: Sequence["Message"], values: Sequence[bytes]) -> tuple[dict[str, Column], list[int]]:
        """The columns of the records of all these messages, whose values these are, and how many each of them has.

        Raises `DataFault`.
        """
        found, counts = self._values.columns(messages, values, self._value_checks)
        if max(counts) > self._most:
            raise _too_many(max(counts), self._most)
        columns = dict(found)
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
        if not all(isinstance(name, str) for name in record):
            raise DataFault("a field has a name that is no text")
        values = self._check.record({name: meant(name, value) for name, value in record.items()})
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
    if kind == "b":
        if text.lower() not in TRUTH:
            raise ValueError(f"it is one of {', '.join(TRUTH)}")
        return TRUTH[text.lower()]
    return int(text) if kind in "iu" else float(text) if kind == "f" else complex(text)


def _too_many(count: int, most: int) -> DataFault:
    return DataFault(f"a message of {count} records, where records_per_message={most} is the most")


# --- which of them it is -----------------------------------------------------------------------------------------


def open_messages(topic: KafkaTopic, first: Iterator["Message"]) -> Messages:
    """How messages of the topic are read; `first` gives one, which is asked for only if the schema is not declared.

    Raises `UsageError` where the first message shows none.
    """
    if topic.decoder:
        decoder = _decoder(topic)
        said: Schema = decoder.schema
        try:
            schema = message_schema(
                topic, said.fields, label=said.label, class_names=said.class_names, label_range=said.label_range
            )
        except ValueError as error:
            raise UsageError(f"decoder= {topic.decoder!r}: {error}") from error
        return Messages(topic, Decoded(decoder, topic.decoder), schema)
    if topic.format == "raw":
        assert topic.schema is not None, "raw bytes always have a schema"
        own = [each for each in topic.schema.fields if each not in topic.headers]
        return Messages(topic, Raw(own), topic.schema)
    values = Packed(topic.records_per_message) if topic.format == "msgpack" else Maps("json", json_reader())
    return Messages(topic, values, topic.schema or _shown(topic, values, next(first)))


def _shown(topic: KafkaTopic, values: Values, message: "Message") -> Schema:
    place = f"the first message (partition {message.partition()}, offset {message.offset()}) of {topic.address}"
    try:
        records = values.records(message)
        if not records:
            raise UsageError(f"{place} holds no record to tell the fields by: declare them (schema=)")
        shown = infer_schema({**record_from(records[0]), **header_values(message, topic.headers)})
        headers = {each.name for each in topic.headers}  # their dtypes are declared
        return message_schema(topic, tuple(each for each in shown.fields if each.name not in headers))
    except (DataFault, PeerError, UsageError, ValueError) as error:
        raise UsageError(
            f"{place} shows no schema: {error}; declare it (schema=), or say what it is (format=)"
        ) from error


def _decoder(topic: KafkaTopic) -> Any:
    kind = import_class(topic.decoder, "decoder=")
    try:
        made = kind(**topic.decoder_arguments)
    except Exception as error:  # whatever somebody's class does while it is made
        raise UsageError(f"decoder= {topic.decoder!r} cannot be made: {located(error)}") from error
    if not isinstance(getattr(made, "schema", None), Schema) or not callable(getattr(made, "records", None)):
        raise UsageError(f"decoder= {topic.decoder!r} needs a `schema` and a method `records(value, key, headers)`")
    return made
