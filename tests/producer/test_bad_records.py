"""The edge of a live stream: what does not fit is kept aside with its reason, and the stream goes on without it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.feed import Feed
from producer.publisher import Publisher
from protocol.chunk import MAX_CHUNK_BYTES, Ragged
from protocol.errors import DataFault, UsageError
from protocol.open_reader import open_reader
from protocol.quarantine import read_quarantine
from protocol.schema import Field, Schema
from tests.programs import wait_until

SCHEMA = Schema(
    (Field("x", "float32", (2,)), Field("label", "int64"), Field("text", "uint8", (None,))),
    label="label",
    label_range=(0, 9),
)
GOOD: dict[str, Any] = {"x": np.zeros(2, np.float32), "label": 3, "text": "abc"}
WITHOUT = {name: value for name, value in GOOD.items() if name != "label"}
BAD: list[tuple[Any, str]] = [
    (GOOD | {"x": np.zeros(2)}, r"field 'x': float64 \(2,\) where float32 \(2,\) is due"),
    (GOOD | {"x": np.zeros(3, np.float32)}, r"field 'x': float32 \(3,\)"),
    (GOOD | {"label": 12}, "label 12 is out of range, 0 to 9 is due"),
    (WITHOUT, "field 'label' is missing"),
    (GOOD | {"more": 1}, "field 'more' is not in the schema"),
    (GOOD | {"x": np.array([1, np.nan], np.float32)}, "field 'x': a NaN or an infinity"),
    (GOOD | {"x": [1.0, float("inf")]}, "field 'x': a NaN or an infinity"),
]


def keeping(folder: Path, **options: Any) -> BadRecordSettings:
    return BadRecordSettings(on_bad_record="quarantine", quarantine=str(folder / "bad.jsonl"), **options)


def reasons(folder: Path) -> list[str]:
    return [each["reason"] for each in read_quarantine(folder / "bad.jsonl")]


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:*", schema=SCHEMA, bad_records=keeping(tmp_path, reject_nan=True))
    yield publisher
    publisher.abandon()


def test_each_kind_of_bad_record_is_kept_with_its_reason_and_has_no_offset(
    publisher: Publisher, tmp_path: Path
) -> None:
    for record, _ in BAD:
        publisher.send(**GOOD)
        publisher.send(**record)
    for (_, expected), found in zip(BAD, reasons(tmp_path), strict=True):
        assert re.search(expected, found), found
    with open_reader(publisher.address) as reader:
        said = reader.describe(timeout_s=5)
    assert said.rejected == publisher.rejected == len(BAD)
    assert sum(said.log_end.values()) == len(BAD)


def test_of_many_records_at_once_only_the_bad_ones_are_kept_aside(publisher: Publisher, tmp_path: Path) -> None:
    x, labels = np.zeros((6, 2), np.float32), np.array([1, 2, -1, 4, 50, 6])
    x[0, 1] = np.nan
    text = Ragged(np.arange(6, dtype=np.uint32), np.zeros(15, np.uint8))
    publisher.send_columns(x=x, label=labels, text=text)
    assert [each["record"]["label"].item() for each in read_quarantine(tmp_path / "bad.jsonl")] == [1, -1, 50]
    assert publisher.rejected == 3
    assert publisher._log is not None
    assert publisher._log.records == 3
    with pytest.raises(DataFault, match="records where"):
        publisher.send_columns(x=x[1:], label=labels[:2], text=text)
    assert publisher.rejected == 3, "columns of other lengths are no records"


@pytest.mark.parametrize(("record", "reason"), BAD)
def test_without_a_quarantine_it_is_raised_and_the_stream_is_as_it_was(record: Any, reason: str) -> None:
    publisher = Publisher("tcp://127.0.0.1:*", schema=SCHEMA, bad_records=BadRecordSettings(reject_nan=True))
    with pytest.raises(DataFault, match=reason):
        publisher.send(**record)
    publisher.send(**GOOD)
    assert publisher.rejected == 0
    publisher.abandon()


def test_numbers_that_are_none_pass_unless_they_were_ruled_out() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", schema=SCHEMA)
    publisher.send(**BAD[-1][0])
    publisher.abandon()


def test_a_record_larger_than_can_be_sent_is_refused_before_anything_of_it_is_kept() -> None:
    schema = Schema((Field("a", "uint8", (None,)), Field("b", "uint8", (None,))))
    half = np.zeros(MAX_CHUNK_BYTES // 2, np.uint8)
    publisher = Publisher("tcp://127.0.0.1:*", schema=schema, partitions=1, max_bytes=3 * MAX_CHUNK_BYTES)
    with pytest.raises(DataFault, match=f"a record of {MAX_CHUNK_BYTES + 8} bytes, over the {MAX_CHUNK_BYTES}"):
        publisher.send(a=half, b=half)
    two = Ragged(np.array([0, len(half)], np.uint32), half)
    with pytest.raises(DataFault, match="a record of"):
        publisher.send_columns(a=two, b=two)
    publisher.send(a=half[:1], b=half[:1])
    publisher.abandon()


def test_a_live_source_goes_on_after_what_is_no_record_at_all(tmp_path: Path) -> None:
    records = [{"id": 1}, 5, None, {"id": "x"}, {"id": 2.5}, {}, {"id": 2}]
    bad_records = BadRecords(keeping(tmp_path))
    feed = Feed(records, 1, LogSettings(), bad_records)
    feed.start()
    wait_until(lambda: feed.log.ended, "the end of the source")
    assert feed.log.records == 2
    assert bad_records.rejected == 5
    assert [reason.split(":")[0] for reason in reasons(tmp_path)] == [
        "the source gave a int",
        "the source gave a NoneType",
        "field 'id'",
        "field 'id'",
        "field 'id' is missing",
    ]


def test_a_live_source_stops_at_its_first_bad_record_by_default() -> None:
    records: list[dict[str, Any]] = [{"id": 1}, {"id": 2.5}, {"id": 2}]
    feed = Feed(records, 1, LogSettings(), BadRecords(BadRecordSettings()))
    feed.start()
    wait_until(lambda: feed.error is not None, "the fault")
    assert isinstance(feed.error, DataFault)
    assert feed.log.records == 1
    assert not feed.log.ended


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="stop or quarantine, not 'ignore'"):
        BadRecordSettings(on_bad_record="ignore")  # type: ignore[arg-type]
