from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chunk import Buffer
from protocol.codec import (
    MAX_MAP_ENTRIES,
    MAX_PUSH_BYTES,
    MAX_PUSH_CONTAINERS,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    MAX_REQUEST_ENTRIES,
    TYPES,
    VERSION,
    decode_push,
    decode_reply,
    decode_request,
    encode,
)
from protocol.dealing import MAX_PARTITIONS, Dealing
from protocol.errors import MalformedMessage, OutOfRange, OversizedMessage, PeerError, UnknownMessage, VersionMismatch
from protocol.messages import (
    Bye,
    ChunkMessage,
    Commit,
    Credit,
    Description,
    Drop,
    Hello,
    Message,
    Push,
    Reply,
    Request,
    Status,
    Subscribe,
)
from protocol.schema import MAX_CLASSES, MAX_DIMENSIONS, MAX_FIELDS, Field, Schema
from protocol.stream import StreamInfo
from protocol.values import MAX_NUMBER, MAX_TEXT_LENGTH
from tests.allocations import at_most
from tests.protocol.drawn_messages import PUSHES, REPLIES, REQUESTS, pushes, replies, requests

Decode = Callable[[Sequence[Buffer]], Message]
DECODERS: tuple[tuple[Any, Decode], ...] = ((REQUESTS, decode_request), (PUSHES, decode_push), (REPLIES, decode_reply))
MIB = 1 << 20

messages = requests | pushes | replies
#: What frame 0 may hold in any version 1, and whatever msgpack can say, in keys too.
plain = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=10)
leaves = (
    plain
    | st.binary(max_size=10)
    | st.just(msgpack.Timestamp(1, 2))
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner),
    max_leaves=10,
)


def header(**changed: Any) -> dict[str, Any]:
    """A credit that holds, but for what is changed."""
    good = {"v": VERSION, "type": "credit", "session": 1, "until": [[0, 5]], "trained": [[0, 2]], "durable": False}
    return {name: value for name, value in {**good, **changed}.items() if value is not ...}


def request_of(**changed: Any) -> Request:
    return decode_request([msgpack.packb(header(**changed))])


def _description() -> Description:
    schema = Schema((Field("id", "int64"),))
    info = StreamInfo(incarnation="i", schema=schema, dealing=Dealing(1, 1))
    return Description(
        request=1, info=info, log_start={0: 0}, log_end={0: 1}, ended=False, uptime_s=1.0, refused=0, groups=()
    )


# --- what is said comes back --------------------------------------------------------------------------------------


STATUS = Status(session=1, next={0: 4}, log_end={0: 8}, save_soon=False, source_s=1.5)
CHUNK = ChunkMessage(session=1, partition=2, offset=3, count=4, first_time_ns=5, last_time_ns=6, source_s=1.5)


def test_every_message_is_drawn() -> None:
    assert set(REQUESTS) == set(get_args(Request))
    assert set(REPLIES) == set(get_args(Reply))
    assert set(PUSHES) == set(get_args(Push))
    assert set(TYPES.values()) == set(REQUESTS) | set(PUSHES) | set(REPLIES)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40)
def test_a_request_arrives_as_it_was_said(kind: type[Request], data: st.DataObject) -> None:
    request = data.draw(REQUESTS[kind])
    assert decode_request(encode(request)) == request


@pytest.mark.parametrize("kind", PUSHES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40)
def test_what_a_writer_pushes_arrives_as_it_was_said(kind: type[Push], data: st.DataObject) -> None:
    push = data.draw(PUSHES[kind])
    assert decode_push(encode(push)) == push


@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40)
def test_a_reply_arrives_as_it_was_said(kind: type[Reply], data: st.DataObject) -> None:
    reply = data.draw(REPLIES[kind])
    assert decode_reply(encode(reply)) == reply


@given(messages, st.dictionaries(st.text(min_size=12, max_size=15), plain | st.lists(plain), max_size=3))
@settings(max_examples=50)
def test_keys_of_a_later_minor_version_are_passed_over(message: Message, unknown: dict[str, int]) -> None:
    first, *columns = encode(message)
    frames = [msgpack.packb({**unknown, **msgpack.unpackb(first)}), *columns]
    decode: Decode = next(decode for kinds, decode in DECODERS if type(message) in kinds)
    assert decode(frames) == message


# --- what is wrong is refused by name -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, None, "1", 1.0, True, ..., [1]])
def test_another_version_is_refused_and_both_are_named(version: Any) -> None:
    with pytest.raises(VersionMismatch, match=r"version 1 .* the other side (0|2|None|'1'|1\.0|True|\[1\])"):
        request_of(v=version)


@pytest.mark.parametrize("name", ["", "Credit", "fetch", None, 5, ["credit"], {}, "x" * 5000, ...])
def test_a_type_that_nobody_knows_is_refused(name: Any) -> None:
    with pytest.raises(UnknownMessage) as error:
        request_of(type=name)
    assert len(str(error.value)) < 100


@given(requests, pushes, replies)
@settings(max_examples=30)
def test_no_side_takes_what_only_another_may_say(request: Request, push: Push, reply: Reply) -> None:
    with pytest.raises(UnknownMessage, match="nothing that a server says"):
        decode_reply(encode(request))
    for other in (request, reply):
        with pytest.raises(UnknownMessage, match="nothing that a writer says"):
            decode_push(encode(other))
    with pytest.raises((UnknownMessage, OversizedMessage), match=r"nothing that a reader says|over the"):
        decode_request(encode(push))
    with pytest.raises((UnknownMessage, OversizedMessage)):
        decode_request(encode(reply))


@pytest.mark.parametrize("message", [STATUS, CHUNK], ids=["status", "chunk"])
def test_a_server_of_an_earlier_minor_version_does_not_say_what_it_waits_for(message: Status | ChunkMessage) -> None:
    header = msgpack.unpackb(bytes(encode(message)[0]))
    assert header.pop("source_s") == 1.5
    assert decode_reply([msgpack.packb(header)]) == replace(message, source_s=0.0)


def test_a_server_of_an_earlier_minor_version_does_not_say_what_it_rejected() -> None:
    header = msgpack.unpackb(bytes(encode(replace(_description(), rejected=3))[0]))
    assert header.pop("rejected") == 3
    assert decode_reply([msgpack.packb(header)]) == replace(_description(), rejected=0)


@pytest.mark.parametrize("name", ["session", "until", "trained", "durable"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(MalformedMessage, match=f"'{name}' is missing"):
        request_of(**{name: ...})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("session", "1", MalformedMessage),
        ("session", 1.0, MalformedMessage),
        ("session", True, MalformedMessage),
        ("session", None, MalformedMessage),
        ("session", -1, OutOfRange),
        ("session", MAX_NUMBER + 1, OutOfRange),
        ("durable", 1, MalformedMessage),
        ("until", {}, MalformedMessage),
        ("until", [5], MalformedMessage),
        ("until", [[0, 5, 6]], MalformedMessage),
        ("until", [[0, "5"]], MalformedMessage),
        ("until", [[0, 5], [0, 6]], MalformedMessage),
        ("until", [[0, -5]], OutOfRange),
        ("until", [[-1, 5]], OutOfRange),
        ("until", [[MAX_PARTITIONS, 5]], OutOfRange),
    ],
)
def test_a_value_of_another_kind_or_range_is_refused_and_its_field_named(
    name: str, value: Any, kind: type[PeerError]
) -> None:
    with pytest.raises(kind, match=f"^'{name}': "):
        request_of(**{name: value})


def test_texts_have_an_end() -> None:
    drop = {"v": VERSION, "type": "drop", "request": 1}
    longest = "x" * MAX_TEXT_LENGTH
    assert decode_request([msgpack.packb({**drop, "group": longest})]) == Drop(request=1, group=longest)
    with pytest.raises(OutOfRange, match="4097 characters"):
        decode_request([msgpack.packb({**drop, "group": "x" * (MAX_TEXT_LENGTH + 1)})])
    with pytest.raises(MalformedMessage):
        decode_request([msgpack.packb({**drop, "group": b"bytes"})])


@pytest.mark.parametrize("duration", [-1.0, float("inf"), float("nan"), "1", None, True])
def test_a_duration_is_finite_and_not_negative(duration: Any) -> None:
    wire = msgpack.unpackb(encode(_description())[0])
    with pytest.raises((MalformedMessage, OutOfRange), match="uptime_s"):
        decode_reply([msgpack.packb({**wire, "uptime_s": duration})])


@pytest.mark.parametrize("groups", [None, {}, [1], [{}], [{"name": "x"}]])
def test_groups_that_are_none_are_refused(groups: Any) -> None:
    wire = msgpack.unpackb(encode(_description())[0])
    with pytest.raises(MalformedMessage, match="groups"):
        decode_reply([msgpack.packb({**wire, "groups": groups})])


def test_only_what_has_columns_or_records_has_more_frames_than_one() -> None:
    with pytest.raises(MalformedMessage, match="one frame, not 1000"):
        decode_request([*encode(Bye(session=1)), *[b""] * 999])
    with pytest.raises(MalformedMessage, match="without frames"):
        decode_request([])


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x80\x80", b"\x90", b"\x05", b"\xa1x", b"\x81\xa1v", b"\x81\xa1\xff\1"]
)
def test_what_is_no_msgpack_map_is_malformed(frame: bytes) -> None:
    with pytest.raises((MalformedMessage, VersionMismatch)):
        decode_request([frame])


# --- nothing that comes over the wire does harm -------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_arbitrary_bytes_raise_nothing_but_a_peer_error(frames: list[bytes]) -> None:
    for _, decode in DECODERS:
        with suppress(PeerError):
            decode(frames)


@given(messages, st.data())
@settings(max_examples=100)
def test_a_message_with_a_few_other_bytes_raises_nothing_but_a_peer_error(
    message: Message, data: st.DataObject
) -> None:
    first, *columns = encode(message)
    raw = bytearray(first)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    for _, decode in DECODERS:
        with suppress(PeerError):
            decode([bytes(raw), *columns])


@given(messages, anything, st.data())
@settings(max_examples=100)
def test_a_message_with_another_value_somewhere_raises_nothing_but_a_peer_error(
    message: Message, value: Any, data: st.DataObject
) -> None:
    first, *columns = encode(message)
    wire = msgpack.unpackb(first)
    inside: Any = wire
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inside[key], list | dict) or data.draw(st.booleans()):
            inside[key] = value
            break
        inside = inside[key]
    frame = msgpack.packb(wire)
    for _, decode in DECODERS:
        with suppress(PeerError):
            decode([frame, *columns])


@pytest.mark.parametrize(
    ("decode", "most"),
    [(decode_request, MAX_REQUEST_BYTES), (decode_push, MAX_PUSH_BYTES), (decode_reply, MAX_REPLY_BYTES)],
)
def test_a_frame_over_its_limit_is_not_even_parsed(decode: Decode, most: int) -> None:
    frame = b"\x81\xa1v\xdb" + most.to_bytes(4, "big") + bytes(most)
    with at_most(1 << 17), pytest.raises(OversizedMessage, match=f"{len(frame)} bytes, over the {most}"):
        decode([frame])


GREEDY = {
    "a long list": b"\xdd\xff\xff\xff\xff",
    "a large map": b"\xdf\xff\xff\xff\xff",
    "a long text": b"\xdb\xff\xff\xff\xff",
    "many bytes": b"\xc6\xff\xff\xff\xff",
    "an extension": b"\xc9\xff\xff\xff\xff\x01",
    "lists in lists": b"\xdc\x10\x00" * 2000,
    "maps in maps": b"\xde\x01\x00\xa0" * 2000,
    "empty lists": b"\xdc\x0f\x00" + b"\x90" * 0xF00,
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_small_frame_that_promises_much_gets_little(name: str) -> None:
    frame = (b"\x81\xa1v" + GREEDY[name]).ljust(MAX_REQUEST_BYTES, b"\xc0")
    with at_most(4 * MIB), pytest.raises(PeerError):
        decode_request([frame])


def test_a_hello_may_hold_the_largest_schema_and_no_more_containers_than_that_needs() -> None:
    names = tuple(f"{n:030}é" for n in range(MAX_CLASSES))
    fields = tuple(Field(f"{n:02}" + 126 * "𝄞", "uint8", (1,) * MAX_DIMENSIONS) for n in range(MAX_FIELDS))
    largest = Schema(fields, label=fields[0].name, class_names=names, label_range=(0, MAX_CLASSES - 1))
    hello = Hello(session=1, writer="a", schema=largest)
    (frame,) = encode(hello)
    assert decode_push([frame]) == hello
    nested = b"\x81\xa1v\xdc\x7f\xff" + (b"\xdc\x00\x1f" + b"\x90" * 31) * 0x7FFF  # a million of them
    with (
        at_most(4 * MIB),
        pytest.raises(MalformedMessage, match=f"more than {MAX_PUSH_CONTAINERS} arrays and maps"),
    ):
        decode_push([nested])


@pytest.mark.parametrize("much", [[None] * (MAX_REQUEST_ENTRIES + 1), dict.fromkeys(range(MAX_MAP_ENTRIES + 1)), b"x"])
def test_no_list_or_map_is_longer_than_any_message_needs_even_where_nobody_reads_it(much: Any) -> None:
    with pytest.raises(MalformedMessage, match=r"exceeds max_(array|map|bin)_len"):
        request_of(unknown=much)


def test_what_is_wrong_is_said_briefly_however_long_it_was() -> None:
    for wrong in (
        {"session": "x" * 100_000},
        {"until": ["y" * 100_000]},
        {"v": "z" * 100_000},
        {"type": "t" * 100_000},
    ):
        with pytest.raises(PeerError) as error:
            request_of(**wrong)
        assert len(str(error.value)) < 200


# --- what is large and honest passes ------------------------------------------------------------------------------


def test_a_reader_of_every_partition_fits_into_a_request() -> None:
    everywhere = dict.fromkeys(range(MAX_PARTITIONS), MAX_NUMBER)
    subscribe = Subscribe(
        session=MAX_NUMBER,
        split="s" * 128,
        group="g" * 128,
        durable=True,
        incarnation="i" * 128,
        positions=everywhere,
        trained=everywhere,
        committed=everywhere,
    )
    assert decode_request(encode(subscribe)) == subscribe
    credit = Credit(session=1, until=everywhere, trained=everywhere, durable=True)
    assert decode_request(encode(credit)) == credit
    commit = Commit(request=1, group="g", incarnation="i", positions=everywhere)
    assert decode_request(encode(commit)) == commit


def test_a_chunk_carries_its_frames_untouched() -> None:
    frames = (memoryview(b"abc"), b"", memoryview(bytearray(5)))
    chunk = ChunkMessage(session=1, partition=2, offset=3, count=4, first_time_ns=-5, last_time_ns=6, frames=frames)
    encoded = encode(chunk)
    assert encoded[1] is frames[0]
    decoded = decode_reply(encoded)
    assert isinstance(decoded, ChunkMessage)
    assert decoded.frames == frames
