"""What messages are as columns: which fields there are, and which of them is the class."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from protocol.errors import DataFault, UsageError
from protocol.kafka.messages import header_values, open_messages
from protocol.kafka.url import fields_of, kafka_topic
from protocol.schema import Field, Schema

if TYPE_CHECKING:
    from confluent_kafka import Message

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")


def message(value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> "Message":
    made: Message = kafka.Message(
        topic="t", partition=0, offset=0, value=value, timestamp=(1, 5), headers=list(headers) or None
    )
    return made


def schema_of(options: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> Schema:
    """The schema of a topic whose first message this is."""
    return open_messages(kafka_topic(f"kafka://a:1/t?{options}"), iter([message(value, headers)])).schema


class Kinds:
    """A decoder whose schema names a class."""

    schema = Schema((Field("a", "int64"), Field("b", "int64")), "a", ("no", "yes"), (0, 1))

    def records(self, value: bytes, key: bytes | None, headers: Mapping[str, bytes]) -> Iterator[Mapping[str, Any]]:
        yield {"a": 0, "b": len(value)}


def test_the_class_is_the_field_that_the_url_names_however_the_fields_are_known() -> None:
    decoder = f"decoder={__name__}.Kinds"
    assert schema_of("format=json&label=kind", b'{"label": 1, "kind": 2}').label == "kind"
    assert schema_of("format=json", b'{"label": 1, "kind": 2}').label == "label"
    assert schema_of("format=json&schema=kind:int64&label=kind", b"").label == "kind"
    assert schema_of(decoder, b"") == Kinds.schema
    assert schema_of(f"{decoder}&label=b", b"") == Schema(Kinds.schema.fields, "b")
    for options in ("format=json&label=z", f"{decoder}&label=z"):
        with pytest.raises(UsageError, match="label field 'z' is not among the fields"):
            schema_of(options, b'{"x": 1}')


def test_headers_have_the_dtypes_that_are_declared() -> None:
    schema = schema_of("format=json&headers=at:int16,label:int8", b'{"x": 1.5}', [("at", b"12"), ("label", b"3")])
    assert schema == Schema((Field("x", "float64"), Field("at", "int16"), Field("label", "int8")), "label")
    assert schema_of("format=json&headers=at:int16", b'{"at": 1, "x": 1}', [("at", b"12")]).fields == (
        Field("x", "int64"),
        Field("at", "int16"),
    )


def test_a_header_that_is_true_or_false_is_a_word_or_a_figure() -> None:
    flag = fields_of("headers", "flag:bool")
    for text, told in ((b"true", True), (b"1", True), (b"False", False), (b"0", False)):
        assert header_values(message(b"", [("flag", text)]), flag) == {"flag": told}
    with pytest.raises(DataFault, match="'flag' is no bool: it is one of true, false, 1, 0"):
        header_values(message(b"", [("flag", b"2")]), flag)
    topic = kafka_topic("kafka://a:1/t?format=json&schema=x:int64&headers=flag:bool")
    columns, _ = open_messages(topic, iter(())).columns([message(b'{"x": 1}', [("flag", b"true")])], [b'{"x": 1}'])
    assert columns["flag"].tolist() == [True]  # type: ignore[union-attr]  # of fixed size


def test_json_without_its_reader_is_one_line_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)  # how Python marks what is not there
    with pytest.raises(UsageError, match=r"format=json needs orjson: pip install 'headrace\[kafka\]'"):
        schema_of("format=json", b'{"x": 1}')
    assert schema_of("format=msgpack", b"\x81\xa1x\x01").fields == (Field("x", "int64"),)


def test_json_may_be_as_python_writes_it() -> None:
    values = [b'{"x": NaN, "w": "a"}', b'{"x": -Infinity, "w": "\xc3\xbc"}', b'{"x": 1, "w": ""}']
    opened = open_messages(kafka_topic("kafka://a:1/t?format=json&schema=x:float64,w:text"), iter(()))
    columns, counts = opened.columns([message(value) for value in values], values)
    assert str(columns["x"].tolist()) == "[nan, -inf, 1.0]"  # type: ignore[union-attr]  # of fixed size
    assert columns["w"].values.tobytes().decode() == "aü"  # type: ignore[union-attr]  # ragged
    assert counts == [1, 1, 1]


@pytest.mark.parametrize("value", [b"", b"{", b'{"x": 1}{"x": 2}', b'{"x": 1', b"[[]]", b'"x"', b'{"x": tru}'])
def test_what_is_no_json_of_records_is_refused(value: bytes) -> None:
    opened = open_messages(kafka_topic("kafka://a:1/t?format=json&schema=x:int64"), iter(()))
    with pytest.raises(DataFault, match="the value is no"):
        opened.columns([message(value)], [value])
