"""What a kafka:// URL may say, and what is said of one that is wrong."""

import sys

import pytest

from protocol.class_path import class_paths
from protocol.errors import UsageError
from protocol.kafka.url import KafkaTopic, fields_of, kafka_topic
from protocol.open_reader import check_url, open_reader
from protocol.schema import Field, Schema


def test_a_url_says_brokers_topic_and_what_a_message_is() -> None:
    url = "kafka://a:9092,b.c:9093/clicks.v1?format=raw&schema=image:uint8[1,28,28],label:int64&records_per_message=8"
    assert kafka_topic(url) == KafkaTopic(
        brokers="a:9092,b.c:9093",
        topic="clicks.v1",
        format="raw",
        schema=Schema((Field("image", "uint8", (1, 28, 28)), Field("label", "int64", ())), label="label"),
        records_per_message=8,
    )
    check_url(url)


def test_headers_are_further_fields_of_a_declared_schema() -> None:
    topic = kafka_topic("kafka://[::1]:9092/t?format=json&schema=x:float32[any]&headers=source:text,at:int64")
    assert topic.headers == (Field("source", "uint8", (None,)), Field("at", "int64", ()))
    assert topic.schema == Schema((Field("x", "float32", (None,)), *topic.headers))


def test_raw_bytes_that_nobody_describes_are_one_field() -> None:
    assert kafka_topic("kafka://a:1/t?format=raw").schema == Schema((Field("value", "uint8", (None,)),))


def test_arguments_of_a_decoder_go_by_its_name() -> None:
    topic = kafka_topic("kafka://a:1/t?decoder=my.Avro&decoder.schema_file=a.avsc")
    assert (topic.decoder, topic.decoder_arguments, topic.schema) == ("my.Avro", {"schema_file": "a.avsc"}, None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://", "names no brokers"),
        ("kafka://a/t", "names no brokers: use kafka://HOST:PORT"),
        ("kafka://a:1", "needs the name of a topic"),
        ("kafka://a:1/t t", "needs the name of a topic"),
        ("kafka://a:1/t?fromat=json", "has no option 'fromat': it has format, schema"),
        ("kafka://a:1/t?sasl.password=hush", "goes into a file"),
        ("kafka://a:1/t?format=xml", "it is one of msgpack, json, raw; for anything else there is decoder"),
        ("kafka://a:1/t?format=json&format=raw", "said twice"),
        ("kafka://a:1/t?format=", "is empty"),
        ("kafka://a:1/t?schema=x", "give fields as NAME:DTYPE"),
        ("kafka://a:1/t?schema=x:float33", "dtype 'float33' is not one of"),
        ("kafka://a:1/t?schema=x:int64[two]", "schema="),
        ("kafka://a:1/t?schema=x:int64,x:int64", "two fields have the same name"),
        ("kafka://a:1/t?schema=x:int64&label=y", "label field 'y'"),
        ("kafka://a:1/t?headers=x:int64[3]", "one number, written as text"),
        ("kafka://a:1/t?records_per_message=0", "give 1 to 4096"),
        ("kafka://a:1/t?format=raw&schema=x:int64,y:text", "one ragged field alone"),
        ("kafka://a:1/t?decoder=a.B&format=json", "leave format= out"),
        ("kafka://a:1/t?decoder.x=1", "give decoder=package.Class as well"),
    ],
)
def test_a_url_that_is_wrong_is_one_line_with_its_mend(url: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_url(url)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://me:hush@a:1/t",
        "kafka://me:hush/x@a:1/t",
        "kafka://me:x/hush@a:1/t?format=raw",
        "kafka://a:1/t?sasl.password=hush",
        "kafka://a:1/t?p=hush",
    ],
)
def test_what_may_be_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_url(url)
    assert "hush" not in str(refused.value)


def test_spaces_between_sizes_are_no_mistake() -> None:
    assert fields_of("schema", "a:int8[2, 3],b:bool") == (Field("a", "int8", (2, 3)), Field("b", "bool", ()))


def test_a_package_that_is_missing_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(UsageError, match=r"needs confluent-kafka: pip install 'headrace\[kafka\]'"):
        open_reader("kafka://127.0.0.1:9092/t")


def test_a_class_that_a_settings_file_names_in_a_url_is_said_as_any_other() -> None:
    settings = {"stream": "kafka://a:1/t?decoder=my.Avro&decoder.x=1", "model": {"class_path": "my.Model"}}
    assert list(class_paths(settings)) == ["my.Avro", "my.Model"]
