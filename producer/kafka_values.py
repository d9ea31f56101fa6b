"""Records as the values of Kafka messages, so that `kafka://` reads them back as they are."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

import msgpack
import numpy as np

from protocol.chunk import Chunk, value_of
from protocol.errors import UsageError
from protocol.kafka.url import KafkaTopic, kafka_topic
from protocol.schema import Field, Schema

#: What a plain number of msgpack comes back as.
PLAIN: Final = ("int64", "float64", "bool")

#: What of a kafka:// URL says how a topic is written; all else says how one is read.
WRITTEN: Final = ("format", "records_per_message", "schema", "settings")

#: The values of the rows of a chunk, from the first on; each with the row after its last.
Values = Callable[[Chunk], Iterator[tuple[bytes, int]]]


def topic_to_write(url: str) -> KafkaTopic:
    """The topic of `--sink`, with a schema only where the URL says one.

    Raises `UsageError` for what is for readers alone.
    """
    topic = kafka_topic(url)
    names = [name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)]
    if other := next((name for name in names if name not in WRITTEN), None):
        raise UsageError(f"--sink has no use for {other}=, which is for readers: leave it out of {topic.address}?…")
    if topic.format == "json":
        raise UsageError(f"--sink writes format=msgpack or format=raw: give one of them in {topic.address}?…")
    return topic if "schema" in names else replace(topic, schema=None)


def values_for(topic: KafkaTopic, schema: Schema) -> Values:
    """How the topic is written. Raises `UsageError` for a way in which these records cannot be."""
    if topic.schema is not None and topic.schema.fields != schema.fields:
        raise UsageError(f"--sink: schema= says {topic.schema.fields_text}, and this stream has {schema.fields_text}")
    if topic.format == "msgpack":
        return lambda chunk: _packed(schema, chunk, topic.records_per_message)
    if schema.ragged:
        raise UsageError(f"--sink: format=raw has fields of fixed sizes, and this stream has {schema.fields_text}")
    return lambda chunk: _raw(schema, chunk, topic.records_per_message)


def _raw(schema: Schema, chunk: Chunk, most: int) -> Iterator[tuple[bytes, int]]:
    rows = np.empty(chunk.count, [(each.name, each.numpy_dtype, each.item_shape) for each in schema.fields])
    for field in schema.fields:
        rows[field.name] = chunk.columns[field.name]
    data, size = rows.tobytes(), rows.itemsize
    for start in range(0, chunk.count, most):
        stop = min(start + most, chunk.count)
        yield data[start * size : stop * size], stop


def _packed(schema: Schema, chunk: Chunk, most: int) -> Iterator[tuple[bytes, int]]:
    for start in range(0, chunk.count, most):
        stop = min(start + most, chunk.count)
        records = [
            {field.name: _value(field, value_of(chunk.columns[field.name], row)) for field in schema.fields}
            for row in range(start, stop)
        ]
        yield msgpack.packb(records if most > 1 else records[0]), stop


def _value(field: Field, value: Any) -> Any:
    if field.shape == (None,) and field.dtype == "uint8":
        return value.tobytes()
    if field.shape == () and field.dtype in PLAIN:
        return value.item()
    array = np.asarray(value, field.numpy_dtype)
    return {"dtype": field.dtype, "shape": list(array.shape), "data": array.tobytes()}
