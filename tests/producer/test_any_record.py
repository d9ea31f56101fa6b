"""Whatever a source may give, a reader receives bit for bit: each dtype, 0 to 4 dimensions, ragged or not."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.append_log import AppendLog, LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.computed_log import ComputedLog
from producer.dataset_source import source_from
from producer.feed import Feed
from protocol.chunk import Chunk
from protocol.dealing import Dealing
from protocol.log import Log
from protocol.messages import STREAM
from protocol.open_reader import open_reader
from protocol.schema import DTYPES, Field, Schema
from protocol.subscription import Subscription
from tests.protocol.drawn_columns import names, rows, values
from tests.protocol.serving import one_by_one, serving

Records = list[dict[str, Any]]


class Live:
    def __init__(self, records: Records, schema: Schema) -> None:
        self.given, self.schema = records, schema

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.given)


class Replaying:
    def __init__(self, records: Records, schema: Schema) -> None:
        self.given, self.schema = records, schema

    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        return iter(self.given[resume_at:])


class Stored:
    def __init__(self, records: Records, schema: Schema) -> None:
        self.given, self.schema = records, schema

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.given[index]


dtypes = st.sampled_from(sorted(DTYPES))


#: Bytes are a kind of their own.
of_bytes = st.builds(Field, names, st.just("uint8"), st.just((None,)))


@st.composite
def fields(draw: st.DrawFn) -> Field:
    shape: tuple[int | None, ...] = tuple(draw(st.lists(st.integers(1, 3), max_size=4)))
    ragged: bool = draw(st.booleans())
    if shape and ragged:
        shape = (None, *shape[1:])
    return Field(draw(names), draw(dtypes), shape)


schemas = st.builds(
    Schema, st.lists(fields() | of_bytes, min_size=1, max_size=5, unique_by=lambda field: field.name).map(tuple)
)


@st.composite
def records(draw: st.DrawFn, schema: Schema) -> Records:
    drawn = []
    for _ in range(draw(st.integers(1, 7))):
        record = {}
        for field in schema.fields:
            items = draw(st.integers(0, 5)) if field.ragged else 1
            value = values(field, items, draw(st.integers(0, 99)))
            is_bytes = field.shape == (None,) and field.dtype == "uint8"
            record[field.name] = value.tobytes() if is_bytes else value if field.ragged else value[0]
        drawn.append(record)
    return drawn


def log_of(source: Any, folder: str) -> Log:
    if isinstance(source, Stored):
        return ComputedLog(source_from(source), Dealing(1, 4), passes=1, shuffle=False)
    feed = Feed(source, 1, LogSettings(path=folder, linger=0), BadRecords(BadRecordSettings()))
    feed.start()
    return feed.log


def received(log: Log) -> dict[str, list[bytes]]:
    """Each field's values, a record after the other, as they came over a socket."""
    got: dict[str, list[bytes]] = {field.name: [] for field in log.info.schema.fields}
    with serving(log) as server, open_reader(server.address) as reader:
        if isinstance(log, AppendLog):
            log.on_append = server.wake
        for event in one_by_one(reader.read(Subscription(split=STREAM, positions={0: 0}))):
            if isinstance(event, Chunk):
                for name, column in event.columns.items():
                    got[name] += rows(column)
    return got


@settings(max_examples=25)
@given(st.data(), st.sampled_from([Live, Replaying, Stored]), st.sampled_from(["", "log"]))
def test_every_bit_of_every_record_arrives(data: st.DataObject, kind: Any, path: str) -> None:
    schema = data.draw(schemas)
    given_records = data.draw(records(schema))
    with tempfile.TemporaryDirectory() as folder:
        log = log_of(kind(given_records, schema), str(Path(folder) / path) if path else "")
        try:
            got = received(log)
        finally:
            log.close()
    for field in schema.fields:
        values_given = [record[field.name] for record in given_records]
        assert got[field.name] == [each if isinstance(each, bytes) else each.tobytes() for each in values_given]
