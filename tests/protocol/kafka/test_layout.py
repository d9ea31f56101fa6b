"""What a message becomes does not hang on those beside it, however many are taken together."""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chunk import Chunk
from protocol.conform import RecordCheck
from protocol.errors import DataFault
from protocol.kafka.events import KafkaEvents
from protocol.kafka.layout import LEAST, layout_of, parted
from protocol.kafka.messages import open_messages
from protocol.kafka.url import kafka_topic
from protocol.schema import Field, Schema
from protocol.subscription import Undecodable

if TYPE_CHECKING:
    from confluent_kafka import Message

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

NUMBERS: Final = (0, 1, -1, 127, 128, -32, -33, 255, 256, 70_000, -70_000, 1 << 40, (1 << 53) + 1, 1 << 63, -(1 << 63))
ODD: Final = (True, False, 0.5, -0.0, 1e30, float("inf"), float("nan"), 3.0, "text", b"\1", None, [1], {"a": 1})
KINDS: Final = ("bool", "uint8", "int8", "int16", "int64", "uint64", "float16", "float32", "float64")
FIELDS: Final = (("a", ()), ("b", (2,)), ("c", (20,)), ("d", (2, 3)))


def value(field: Field, drawn: random.Random) -> Any:
    """What a writer may say of a field: mostly what fits."""
    way = drawn.random()
    if way < 0.01:
        return drawn.choice(ODD)
    if len(field.shape) != 1 and (field.shape or way < 0.3):
        return {"dtype": field.dtype, "shape": list(field.shape), "data": array(field, drawn).tobytes()}
    number = _number(field, drawn)
    if not field.shape:
        return number
    return [number] * field.item_shape[0] if way < 0.7 else [_number(field, drawn) for _ in range(field.item_shape[0])]


def array(field: Field, drawn: random.Random) -> Any:
    most = 256 if field.dtype != "bool" else 2 if drawn.random() < 0.95 else 3
    items = [drawn.randrange(most) for _ in range(field.item_bytes)]
    return np.array(items, np.uint8).view(field.numpy_dtype)


def _number(field: Field, drawn: random.Random) -> bool | int | float:
    kind = field.numpy_dtype.kind
    if kind == "b":
        return drawn.random() < 0.5
    if kind == "f" and drawn.random() < 0.9:
        return drawn.choice((0.5, -1.25, 3.0, float("nan")))
    if kind == "f":
        return drawn.choice(NUMBERS)
    limits = np.iinfo(field.numpy_dtype)
    return drawn.choice([each for each in NUMBERS if limits.min <= each <= limits.max])


def messages(fields: Sequence[Field], drawn: random.Random, most: int) -> list["Message"]:
    """Values of few layouts, so that many are alike, and of one record or several."""
    made: list[bytes] = []
    for _ in range(drawn.randint(1, 3)):
        few = drawn.sample(fields, len(fields)), drawn.random() < 0.5
        for _ in range(drawn.choice((1, LEAST, LEAST + 4))):
            records = [{each.name: value(each, drawn) for each in few[0]} for _ in range(drawn.randint(1, most))]
            told = records[0] if len(records) == 1 else records
            made.append(msgpack.packb(told, use_single_float=few[1]))
    if drawn.random() < 0.2:
        made[drawn.randrange(len(made))] = drawn.choice((b"", b"\xc1", made[0] + b"\0", made[0][:-1], b"\x91\x91\x80"))
    drawn.shuffle(made)
    return [
        kafka.Message(topic="t", partition=0, offset=offset, value=each, timestamp=(1, 5), headers=None)
        for offset, each in enumerate(made)
    ]


def became(url: str, lots: Sequence[Sequence["Message"]], most: int) -> dict[int, Mapping[str, bytes] | None]:
    """Of each of our offsets: the bytes of each field, or None where the record does not fit."""
    events = KafkaEvents(
        {0: 0}, open_messages(kafka_topic(url), iter(())), per_message=most, most_rows=4096, gaps_lost=False
    )
    found: dict[int, Mapping[str, bytes] | None] = {}
    for lot in lots:
        for event in events.take(lot):
            if isinstance(event, Undecodable):
                found[event.chunk.offset] = None
            elif isinstance(event, Chunk):
                for row in range(event.count):
                    columns = {name: np.asarray(column)[row].tobytes() for name, column in event.columns.items()}
                    found[event.offset + row] = columns
    return found


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 32))
def test_a_message_becomes_the_same_alone_and_among_others(seed: int) -> None:
    drawn = random.Random(seed)
    fields = [Field(name, drawn.choice(KINDS), shape) for name, shape in drawn.sample(FIELDS, drawn.randint(1, 4))]
    most = drawn.choice((1, 3))
    schema = ",".join(f"{f.name}:{f.dtype}" + (f"[{','.join(map(str, f.shape))}]" if f.shape else "") for f in fields)
    url = f"kafka://a:1/t?schema={schema}&records_per_message={most}"
    made = messages(fields, drawn, most)
    assert became(url, [made], most) == became(url, [[each] for each in made], most)


def test_records_of_a_picture_and_numbers_are_laid_out_alike() -> None:
    schema = Schema((Field("image", "uint8", (1, 28, 28)), Field("label", "int64"), Field("x", "float32", (3,))))
    checks = RecordCheck(schema).fields

    def packed(seed: int, label: int) -> bytes:
        data = random.Random(seed).randbytes(784)
        image = {"dtype": "uint8", "shape": [1, 28, 28], "data": data}
        return bytes(msgpack.packb({"image": image, "label": label, "x": [seed / 2, 0.5, -1.0]}))

    layout = layout_of(packed(0, 3), checks)
    assert layout is not None
    records = [
        packed(1, 9),
        packed(2, 127),
        packed(3, -1),
    ]  # 127 is the last that is its own byte; -1 is of another kind
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(3, -1)
    assert layout.alike(rows).tolist() == [True, True, False]
    columns = layout.columns(rows[:2])
    assert columns["label"].tolist() == [9, 127]
    assert columns["x"].tolist() == [[0.5, 0.5, -1.0], [1.0, 0.5, -1.0]]
    assert columns["image"][1].tobytes() == random.Random(2).randbytes(784)


@pytest.mark.parametrize(
    "record",
    [
        b"\x82\xa1a\x01\xa1a\x02",  # a name twice
        b"\x81\xa1b\x01",  # another field
        b"\x81\xa1a\xa1x",  # a text
        b"\x81\xa1a\xc0",  # nothing
        b"\x01",
        b"\x81\xa1a",  # cut short
        msgpack.packb({"a": {"dtype": "int64", "shape": [], "data": bytes(8)}}).replace(b"\x83", b"\x84\xa4data\x05"),
    ],
)
def test_what_is_no_map_of_these_numbers_has_no_layout(record: bytes) -> None:
    assert layout_of(record, RecordCheck(Schema((Field("a", "int64"),))).fields) is None


def test_a_list_of_records_is_parted_without_being_taken_apart() -> None:
    one, two = msgpack.packb({"a": 1}), msgpack.packb([{"a": 2}, {"a": 3}])
    records, counts = parted([one, two, b"\x90"], 2)
    assert list(records) == [one, msgpack.packb({"a": 2}), msgpack.packb({"a": 3})]
    assert counts == [1, 2, 0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\x91\x80\0", "1 bytes follow"),
        (b"\x92\x80", "no msgpack"),
        (b"\x91\xc1", "no msgpack"),
        (b"\x91\x91\x81\xa1a\x01", "a list of lists"),
        (b"\xdd\xff\xff\xff\xff", "4294967295 records, where 2 are the most"),
    ],
)
def test_what_is_no_list_of_records_is_refused(value: bytes, why: str) -> None:
    with pytest.raises(DataFault, match=why):
        parted([value], 2)
