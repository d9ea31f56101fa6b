"""Decoding: chunks become what they mean where they arrive; a record that cannot be decoded takes no other with it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from producer.memory_log import MemoryLog
from protocol.chunk import Chunk, Column, Columns, Ragged
from protocol.dealing import Dealing, Positions
from protocol.errors import DataFault, UsageError
from protocol.messages import Description
from protocol.reader import OnWait, Reader
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.subscription import Event, Heard, Progress, Subscribed, Subscription, Undecodable
from tests.trainer.streams import ids, serving
from trainer.collation import padded
from trainer.decoders import Cut, Pictures
from trainer.decoding import DecodedReader, Decoder, Decoding, identity
from trainer.loader import StreamLoader

TEXT = Schema((Field("id", "int64"), Field("text", "uint8", (None,)), Field("label", "int64")), label="label")


def chunk_of(*texts: bytes) -> Chunk:
    lengths = np.array([*map(len, texts)], np.uint32)
    values = np.frombuffer(b"".join(texts), np.uint8)
    count = np.arange(len(texts))
    return Chunk(2, 10, {"id": count, "text": Ragged(lengths, values), "label": count}, 0, 0)


def jpeg(shade: int, size: tuple[int, int] = (8, 6)) -> bytes:
    file = BytesIO()
    Image.new("L", size, shade).save(file, "JPEG")
    return file.getvalue()


def lengths_alone(columns: Columns) -> Columns:
    """A decoder that is a function and says nothing of its schema."""
    text = columns["text"]
    assert isinstance(text, Ragged)
    if (text.values == ord("!")).any():
        raise ValueError("it shouts")
    return {"id": columns["id"], "count": text.lengths.astype(np.float32), "label": columns["label"]}


# --- what records are afterwards ---------------------------------------------------------------------------------


def test_a_function_shows_what_it_makes_of_records() -> None:
    schema = Decoding([lengths_alone]).schema(TEXT)
    assert schema.fields == (Field("id", "int64"), Field("count", "float32"), Field("label", "int64"))
    assert schema.label == "label"


def test_a_class_says_what_it_makes_of_records() -> None:
    schema = Decoding([Cut("text", 5)]).schema(TEXT)
    assert schema["text"] == Field("text", "uint8", (5,))
    assert schema["text_length"] == Field("text_length", "int64")
    pictures = Decoding([Pictures(4, 3, field="text")]).schema(TEXT)
    assert pictures["text"] == Field("text", "uint8", (3, 4, 3))


def test_decoders_follow_one_another() -> None:
    def shorter(columns: Columns) -> Columns:
        return {"half": np.asarray(columns["text"])[:, ::2]}

    decoding = Decoding([Cut("text", 6), shorter])
    schema = decoding.schema(TEXT)
    assert schema.fields == (Field("half", "uint8", (3,)),)
    (decoded,) = decoding.parts(chunk_of(b"abcdef", b"ab"), schema)
    assert isinstance(decoded, Chunk)
    assert np.asarray(decoded.columns["half"]).tolist() == [[97, 99, 101], [97, 0, 0]]


@pytest.mark.parametrize(
    ("decoder", "why"),
    [
        (lambda columns: columns["nothing"], r"--decode <lambda>: .* class with a method schema"),
        (Cut("label", 5), r"--decode Cut needs a field 'label' of any length, and a record is id int64"),
        (Cut("words", 5), r"--decode Cut needs a field 'words'"),
        (Pictures(4, 4), r"--decode Pictures needs a field 'image' of any length and of uint8"),
    ],
)
def test_a_decoder_that_is_not_for_these_records_is_refused(decoder: Decoder, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Decoding([decoder]).schema(TEXT)


@dataclass(frozen=True, slots=True)
class Times:
    """A decoder without a `__dict__`."""

    factor: int

    def __call__(self, columns: Columns) -> Columns:
        return {**columns, "id": np.asarray(columns["id"]) * self.factor}


class Table:
    """A decoder with more numbers than numpy prints."""

    def __init__(self, last: int) -> None:
        self.table = np.append(np.zeros(100_000), last)

    def __call__(self, columns: Columns) -> Columns:
        return columns


def times(columns: Columns, factor: int) -> Columns:
    return {**columns, "id": np.asarray(columns["id"]) * factor}


def test_ways_of_decoding_are_told_apart_by_all_that_they_were_made_with() -> None:
    def ways() -> list[list[Decoder]]:
        cuts: list[list[Decoder]] = [[], [Cut("text", 5)], [Cut("text", 6)], [Cut("text", 5), Cut("text", 5)]]
        partials: list[list[Decoder]] = [[partial(times, factor=2)], [partial(times, factor=3)]]
        return [*cuts, [lengths_alone], [Times(2)], [Times(3)], *partials, [Table(1)], [Table(2)]]

    identities = [identity(way) for way in ways()]
    assert len({*identities}) == len(identities)
    assert [identity(way) for way in ways()] == identities


def test_a_class_that_does_not_go_with_a_stream_is_one_line() -> None:
    schema = Schema((*TEXT.fields, Field("text_length", "int64")))
    with pytest.raises(UsageError, match=r"--decode trainer.decoders.Cut does not go with these records: two fields"):
        Decoding([Cut("text", 5)]).schema(schema)
    with pytest.raises(UsageError, match="fill -1 is no uint8"):
        Decoding([Cut("text", 5, fill=-1)]).schema(TEXT)


# --- ready-made ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_decoded_and_made_of_one_size(channels: int) -> None:
    decoder = Pictures(6, 8, channels, field="text")
    pixels = np.asarray(decoder(chunk_of(jpeg(40), jpeg(200, (16, 12))).columns)["text"])
    assert pixels.shape == (2, channels, 6, 8)
    assert (abs(pixels[0].astype(int) - 40) < 4).all()
    assert (abs(pixels[1].astype(int) - 200) < 4).all()


@given(st.lists(st.lists(st.integers(0, 255), max_size=9), max_size=6), st.integers(1, 9))
def test_what_is_cut_is_as_python_would_have_it(texts: list[list[int]], length: int) -> None:
    column = Ragged(np.array([*map(len, texts)], np.uint32), np.array([*chain(*texts)], np.uint8))
    assert padded(column, length, 7).tolist() == [(text + [7] * length)[:length] for text in texts]


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="1 or 3 channels, and are at least 1 high"):
        Pictures(0, 4)
    with pytest.raises(UsageError, match="1 or 3 channels"):
        Pictures(4, 4, 2)
    with pytest.raises(UsageError, match="at least 1 element"):
        Cut("text", 0)


# --- what cannot be decoded --------------------------------------------------------------------------------------


def test_only_the_record_that_cannot_be_decoded_is_left_out() -> None:
    schema = Decoding([lengths_alone]).schema(TEXT)
    parts = list(Decoding([lengths_alone]).parts(chunk_of(b"a", b"bc", b"no!", b"d"), schema))
    assert [type(part) for part in parts] == [Chunk, Undecodable, Chunk]
    bad = parts[1]
    assert isinstance(bad, Undecodable)
    assert (bad.chunk.partition, bad.chunk.offset, bad.chunk.count) == (2, 12, 1)
    assert bad.record["text"].tobytes() == b"no!"
    assert "partition 2, offset 12 cannot be decoded: ValueError: it shouts" in bad.reason


@pytest.mark.parametrize(
    ("given_back", "why"),
    [
        ({}, "no 'count'"),
        ({"count": np.zeros((1, 2), np.float32)}, r"field 'count': it gave \(2,\) where \(\) was announced"),
        ({"count": np.zeros(1, np.float64)}, "it gave float64 where float32 was announced"),
        ({"count": np.zeros(3, np.float32)}, "it gave 3 records of 1"),
    ],
)
def test_a_decoder_is_held_to_what_it_announced(given_back: dict[str, Column], why: str) -> None:
    decoding = Decoding([lambda _columns: given_back])
    (bad,) = decoding.parts(chunk_of(b"a"), Schema((Field("count", "float32"),)))
    assert isinstance(bad, Undecodable)
    with pytest.raises(DataFault, match=why):
        raise DataFault(bad.reason)


class Given(Reader):
    """A reader that gives what it was given; `stays` counts the signs of life."""

    def __init__(self, *events: Event) -> None:
        self.events, self.stays = events, 0

    def describe(
        self,
        split: str = "",
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        raise NotImplementedError

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        yield list(self.events)

    def stay(self) -> None:
        self.stays += 1

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        raise NotImplementedError

    def drop(self, group: str, *, timeout_s: float) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to close."""


def test_a_chunk_that_takes_long_is_decoded_in_pieces_with_signs_of_life_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("trainer.decoding.time.monotonic", lambda: now_s[0])

    def slow(columns: Columns) -> Columns:
        now_s[0] += len(columns["id"]) / 128
        return {"id": columns["id"]}

    info = StreamInfo(incarnation="x", schema=TEXT, dealing=Dealing(3, 256))
    given = Given(Subscribed(info), chunk_of(*[b"a"] * 200), Heard({0: 7}, save_soon=False))
    lists = list(DecodedReader(given, Decoding([slow])).read(Subscription(split="", positions={})))
    chunks = [event for events in lists for event in events if isinstance(event, Chunk)]
    assert [chunk.count for chunk in chunks] == [64, *[25] * 5, 11]
    assert [chunk.offset for chunk in chunks] == [10, *range(74, 200, 25)]
    assert given.stays == len(lists) - 1 == 6
    assert isinstance(lists[-1][-1], Heard)


@pytest.mark.parametrize("lengths", [[1, 1], [3], [-1, 3], [0.5, 1.5]])
def test_lengths_that_are_not_those_of_the_values_are_the_decoders_fault(lengths: list[float]) -> None:
    given_back = {"text": Ragged(np.array(lengths), np.zeros(2 if lengths[0] != 1 else 3, np.uint8))}
    (bad,) = Decoding([lambda _columns: given_back]).parts(chunk_of(b"a"), Schema((Field("text", "uint8", (None,)),)))
    assert isinstance(bad, Undecodable)


def test_what_is_decoded_lies_in_one_piece_as_it_travels() -> None:
    def turned(columns: Columns) -> Columns:
        text = columns["text"]
        assert isinstance(text, Ragged)
        wide = np.asarray(columns["id"])[:, None] + np.arange(4)
        lengths: Any = text.lengths.astype(np.int64)
        return {"text": Ragged(lengths, text.values), "id": wide[:, ::-1]}

    schema = Decoding([turned]).schema(TEXT)
    (decoded,) = Decoding([turned]).parts(chunk_of(b"ab", b"c"), schema)
    assert isinstance(decoded, Chunk)
    ids, text = decoded.columns["id"], decoded.columns["text"]
    assert isinstance(ids, np.ndarray)
    assert isinstance(text, Ragged)
    assert ids.flags.c_contiguous
    assert ids.tolist() == [[3, 2, 1, 0], [4, 3, 2, 1]]
    assert text.lengths.dtype == np.dtype("<u4")


def test_one_bad_record_costs_a_few_calls() -> None:
    calls = [0]

    def counted(columns: Columns) -> Columns:
        calls[0] += 1
        return lengths_alone(columns)

    chunk = chunk_of(*[b"a"] * 700, b"no!", *[b"b"] * 323)
    parts = list(Decoding([counted]).parts(chunk, Decoding([lengths_alone]).schema(TEXT)))
    assert sum(isinstance(part, Undecodable) for part in parts) == 1
    assert calls[0] <= 21


# --- on a stream -------------------------------------------------------------------------------------------------


@pytest.fixture
def stream() -> Iterator[str]:
    """200 texts; the 77th cannot be decoded."""
    log = MemoryLog(TEXT, Dealing(3, 16))
    for record in range(200):
        text = b"no!" if record == 77 else b"x" * record
        log.append({"id": record, "text": np.frombuffer(text, np.uint8), "label": record % 5})
    log.end()
    with serving(log) as url:
        yield url


@pytest.mark.parametrize("workers", [0, 2])
def test_a_record_that_cannot_be_decoded_is_kept_aside_and_counted(stream: str, workers: int, tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"
    loader = StreamLoader(stream, batch_size=16, num_workers=workers, decode=[lengths_alone], quarantine=file)
    batches = []
    for batch in loader:
        loader.mark_trained(batch)
        batches.append(batch)
    assert ids(batches) == [record for record in range(200) if record != 77]
    counts = torch.cat([batch["count"] for batch in batches]).tolist()
    assert counts == [float(record) for record in range(200) if record != 77]
    assert loader.position.ledger.totals()["rejected"] == 1
    loader.check_ledger()
    (kept,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (kept["partition"], kept["offset"]) == Dealing(3, 16).locate(77)
    assert "it shouts" in kept["reason"]


def test_without_a_quarantine_it_ends_the_iteration_and_is_named(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=16, decode=[lengths_alone])
    with pytest.raises(DataFault, match=r"partition 1, offset 29 cannot be decoded: ValueError: it shouts"):
        list(loader)
