"""What a kafka:// URL says: which brokers, which topic, and what its messages are.

    kafka://HOST:PORT[,HOST:PORT]/TOPIC?format=raw&schema=image:uint8[1,28,28],label:int64&settings=kafka.yaml

Nothing of it is secret: what librdkafka must know to be let in comes from a file or the environment (clients).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qsl

from protocol.dealing import MAX_STRIPE
from protocol.errors import UsageError
from protocol.inference import LABEL_FIELD, is_integer
from protocol.schema import Field, Schema
from protocol.values import shown

KAFKA: Final = "kafka://"
FORM: Final = "kafka://HOST:PORT[,HOST:PORT]/TOPIC"
BROKER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
FIELD: Final = re.compile(r"([^:,\[\]]+):(\w+)(?:\[([\w, ]*)\])?(?:,|$)")
#: An argument of the decoder's class is `decoder.NAME`.
DECODER_ARGUMENT: Final = "decoder."
#: Dtypes that people may say in place of a ragged uint8.
BYTES: Final = ("text", "bytes")

Format = Literal["msgpack", "json", "raw"]
#: `auto`: lost in a topic that Kafka compacts, or where its settings cannot be seen, else absent.
Gaps = Literal["auto", "lost", "absent"]
Until = Literal["stopped", "end"]


@dataclass(frozen=True, kw_only=True)
class KafkaTopic:
    """One topic and how it is read.

    `schema` is None where the first message or the decoder's class shows it; `label` is the field with the class, None
    where that is called so; `headers` are further fields, each the message's header of its name; with a `decoder` the
    `format` says nothing. A message has at most `records_per_message` records: the record with index i of the message
    at Kafka's offset k has the offset k · `records_per_message` + i. `until` "end": as far as the topic reached when
    reading began. `groups` are those of whom `describe` tells what they have committed.
    """

    brokers: str
    topic: str
    format: Format = "msgpack"
    schema: Schema | None = None
    label: str | None = None
    headers: tuple[Field, ...] = ()
    decoder: str = ""
    decoder_arguments: Mapping[str, str] = field(default_factory=dict)
    records_per_message: int = 1
    gaps: Gaps = "auto"
    until: Until = "stopped"
    settings: str = ""
    groups: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Brokers and topic, for people."""
        return f"{KAFKA}{self.brokers}/{self.topic}"


def kafka_topic(url: str) -> KafkaTopic:
    """What the URL says. Raises `UsageError`, with the mend and without repeating what may be a password."""
    place, _, query = url.removeprefix(KAFKA).partition("?")
    brokers, _, topic = place.partition("/")
    if "@" in place:
        mend = "say them in a file (?settings=kafka.yaml) or as HEADRACE_KAFKA_SASL_USERNAME and …_SASL_PASSWORD"
        raise UsageError(f"kafka:// takes neither user nor password, which would be seen in logs: {mend}")
    if not all(map(BROKER.fullmatch, brokers.split(","))):
        raise UsageError(f"{KAFKA}{brokers} names no brokers: use {FORM}, for example kafka://127.0.0.1:9092/clicks")
    if not TOPIC.fullmatch(topic):
        raise UsageError(f"{KAFKA}{brokers}/ needs the name of a topic, not {topic!r}: use {FORM}")
    options, arguments = _options(query)
    found: dict[str, Any] = {name: OPTIONS[name](name, value) for name, value in options.items() if name in OPTIONS}
    fields = found.pop("schema", ())
    told = KafkaTopic(brokers=brokers, topic=topic, decoder_arguments=arguments, **found)
    return KafkaTopic(**{**vars(told), "schema": _schema(told, fields)})


def _options(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """The options by name, and the arguments of the decoder."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in OPTIONS and not name.startswith(DECODER_ARGUMENT):
            mend = "a setting of librdkafka goes into a file (?settings=kafka.yaml)" if "." in name else "quote the URL"
            raise UsageError(f"kafka:// has no option {name!r}: it has {', '.join(OPTIONS)}; {mend}")
        if name in options or not value:
            raise UsageError(f"{name}= is {'said twice' if value else 'empty'} in the kafka:// URL: say it once")
        options[name] = value
    arguments = {n.removeprefix(DECODER_ARGUMENT): v for n, v in options.items() if n.startswith(DECODER_ARGUMENT)}
    if "decoder" in options and (twice := next((name for name in ("format", "schema") if name in options), None)):
        raise UsageError(f"decoder= says what a message is, and {twice}= as well: leave {twice}= out")
    if arguments and "decoder" not in options:
        raise UsageError("decoder.NAME= is an argument of a decoder: give decoder=package.Class as well")
    return options, arguments


def _schema(told: KafkaTopic, fields: tuple[Field, ...]) -> Schema | None:
    """The declared schema, headers among its fields; None where the first message or the decoder's class shows it."""
    if told.decoder:
        return None
    if not fields and told.format == "raw":
        fields = (Field("value", "uint8", (None,)),)
    if not fields:
        return None
    if told.format == "raw":
        _check_raw(told, fields)
    try:
        return message_schema(told, fields)
    except ValueError as error:
        raise UsageError(f"schema= of the kafka:// URL: {error}") from error


def message_schema(
    topic: KafkaTopic,
    fields: tuple[Field, ...],
    *,
    label: str | None = None,
    class_names: tuple[str, ...] = (),
    label_range: tuple[int, int] | None = None,
) -> Schema:
    """The fields of a value, and the headers behind them; the URL's label goes over theirs. Raises `ValueError`."""
    every = (*fields, *topic.headers)
    if topic.label not in (None, label):
        label, class_names, label_range = topic.label, (), None
    if label is None and any(each.name == LABEL_FIELD and is_integer(each) for each in every):
        label = LABEL_FIELD
    return Schema(every, label, class_names, label_range)


def _check_raw(told: KafkaTopic, fields: tuple[Field, ...]) -> None:
    if not any(each.ragged for each in fields):
        return
    if len(fields) > 1 or told.records_per_message > 1:
        raise UsageError("format=raw has fields of fixed sizes, or one ragged field alone, one record a message")


# --- what an option may be ---------------------------------------------------------------------------------------


def fields_of(option: str, text: str) -> tuple[Field, ...]:
    """The fields of `image:uint8[1,28,28],label:int64,words:text`. Raises `UsageError`."""
    matches = list(FIELD.finditer(text))
    if "".join(match[0] for match in matches) != text:
        raise UsageError(f"{option}={shown(text)}: give fields as NAME:DTYPE[SIZES], such as image:uint8[1,28,28]")
    try:
        return tuple(_field(*match.groups()) for match in matches)
    except ValueError as error:
        raise UsageError(f"{option}=: {error}") from error


def _field(name: str, dtype: str, sizes: str | None) -> Field:
    if dtype in BYTES and sizes is None:
        return Field(name, "uint8", (None,))
    return Field(
        name, dtype, tuple(None if size == "any" else int(size) for size in re.split(", *", sizes or "") if size)
    )


def _headers(option: str, text: str) -> tuple[Field, ...]:
    fields = fields_of(option, text)
    if bad := next((each for each in fields if each.shape not in ((), (None,))), None):
        raise UsageError(f"{option}=: {bad.name} is one number, written as text, or text itself: say {bad.name}:int64")
    return fields


def _count(option: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_STRIPE:
        raise UsageError(f"{option}={shown(text)}: give 1 to {MAX_STRIPE}")
    return int(text)


def _one_of(*choices: str) -> Any:
    def choose(option: str, text: str) -> str:
        if text not in choices:
            mend = "; for anything else there is decoder=package.Class" if option == "format" else ""
            raise UsageError(f"{option}={shown(text)}: it is one of {', '.join(choices)}{mend}")
        return text

    return choose


def _as_it_is(option: str, text: str) -> str:
    del option
    return text


OPTIONS: Final[Mapping[str, Any]] = {
    "format": _one_of(*get_args(Format)),
    "schema": fields_of,
    "label": _as_it_is,
    "headers": _headers,
    "decoder": _as_it_is,
    "records_per_message": _count,
    "gaps": _one_of(*get_args(Gaps)),
    "until": _one_of(*get_args(Until)),
    "settings": _as_it_is,
    "groups": lambda _, text: tuple(text.split(",")),
}
