import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from producer.computed_log import ComputedLog, split_log
from producer.inlet import InletSettings
from producer.source import ColumnSource
from producer.writers import MAX_WRITERS
from protocol import change, chunk, codec, dealing, records, schema, server_socket, stream, values
from protocol.change import Change
from protocol.chunk import Ragged
from protocol.codec import TYPES, VERSION, decode_push, decode_reply, decode_request, encode
from protocol.dealing import Dealing, Positions
from protocol.errors import PeerError
from protocol.messages import GroupState, Push, Request
from protocol.schema import DTYPES, Field, Schema
from protocol.stream import StreamInfo
from tests.protocol.client_from_spec import Client
from tests.protocol.golden_messages import EXPIRED, FILE, MESSAGES, read_golden
from tests.protocol.serving import serving

SPEC = (Path(codec.__file__).parent / "SPEC.md").read_text()
GOLDEN = read_golden(FILE.read_text())
KINDS: dict[Any, str] = {
    int: "number",
    int | None: "number or nil",
    str: "text",
    str | None: "text or nil",
    bool: "flag",
    float: "seconds",
    Positions: "positions",
    Positions | None: "positions or nil",
    StreamInfo: "info",
    tuple[GroupState, ...]: "groups",
    Schema | None: "schema or nil",
}

#: What bears these readers is a number to Python.
MOMENTS: dict[Any, str] = {values.moment_ns: "moment", values.moment_or_none: "moment or nil"}

# --- golden bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_bytes_that_it_always_had(name: str) -> None:
    assert [bytes(frame) for frame in encode(MESSAGES[name])] == GOLDEN[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_bytes_mean_what_they_always_meant(name: str) -> None:
    message = MESSAGES[name]
    if isinstance(message, Request | Push):
        decode = decode_request if isinstance(message, Request) else decode_push
        assert decode(GOLDEN[name]) == message
    else:
        assert decode_reply(GOLDEN[name]) == message


def test_a_refusal_of_a_server_that_knew_no_log_start_is_understood() -> None:
    (frame,) = encode(EXPIRED)
    header = msgpack.unpackb(frame)
    del header["log_start"]
    assert decode_reply([msgpack.packb(header)]) == replace(EXPIRED, log_start=None)


def test_every_type_of_message_has_golden_bytes() -> None:
    assert set(GOLDEN) == set(MESSAGES)
    assert {type(message) for message in MESSAGES.values()} == set(TYPES.values())


# --- the page says what the code does -----------------------------------------------------------------------------


def test_the_specification_shows_the_golden_bytes() -> None:
    shown = re.findall(r"```hex (.+)\n((?:[0-9a-f-]+\n)+)```", SPEC)
    assert {name: read_golden(f"# {name}\n{lines}")[name] for name, lines in shown} == GOLDEN


def tables(text: str) -> Iterator[dict[str, str]]:
    """The tables of a part of the page: first column → second."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()]
        yield {row[0].strip("` "): row[1].strip("` ") for row in rows[2:]}


def section(title: str) -> str:
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#|\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def described(kind: type[Any]) -> dict[str, str]:
    """The fields of a message as the page should have them."""
    rows = {}
    for each in fields(kind):
        if each.metadata.get("wire", True):
            word = MOMENTS.get(each.metadata.get("read")) or KINDS[each.type]
            rows[each.name] = word if each.default is MISSING else f"{word}, optional"
    return rows


def test_the_specification_has_every_message() -> None:
    assert re.findall(r"^### ([a-z]+)$", SPEC, re.MULTILINE) == list(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_the_specification_has_every_field_of_every_message(name: str) -> None:
    assert next(tables(section(name))) == described(TYPES[name])


def test_the_specification_has_every_field_of_a_group() -> None:
    assert list(tables(section("description")))[1] == described(GroupState)


def test_the_specification_has_the_keys_of_info_and_schema() -> None:
    info, inside, told = tables(section("4. info"))
    drift, one = Change(what="x", at=0), Schema((Field("x", "int8"),))
    wire = StreamInfo(incarnation="", schema=one, dealing=Dealing(1, 1), changes=(drift,)).to_wire()
    arriving = StreamInfo(incarnation="", schema=one, dealing=Dealing(1, 1), order="arrival").to_wire()
    assert list(info) == [*wire, *(arriving.keys() - wire.keys())]
    assert list(inside) == list(wire["schema"])
    assert list(told) == list(drift.to_wire())


def test_the_specification_has_every_dtype() -> None:
    named = re.findall(r"`((?:bool|u?int|float|complex)\d*)`", section("4. info"))
    assert list(dict.fromkeys(named)) == list(DTYPES)


def test_the_specification_has_every_code_of_a_refusal() -> None:
    codes = list(tables(section("refusal")))[1]
    of_states = {"no_session", "replaced", "expired", "beyond_end", "gap"}
    assert set(codes) == of_states | {each.code for each in PeerError.__subclasses__()}


def test_the_specification_says_which_messages_have_further_frames() -> None:
    (row,) = re.findall(r"^\| 1 … \| (.*) \|$", SPEC, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {name for name, cls in TYPES.items() if cls in codec.FRAMED}


def test_the_specification_has_the_version_and_the_limits() -> None:
    assert f"protocol, version {VERSION}\n" in SPEC
    (limits,) = tables(section("9. Limits"))
    assert [int(limit.split()[0]) for limit in limits.values()] == [
        codec.MAX_REQUEST_BYTES,
        codec.MAX_REPLY_BYTES,
        server_socket.MAX_REQUEST_FRAME_BYTES,
        chunk.MAX_CHUNK_BYTES,
        codec.MAX_REQUEST_ENTRIES,
        codec.MAX_REPLY_ENTRIES,
        codec.MAX_MAP_ENTRIES,
        1024,
    ]
    *_, pushed = tables(section("taken"))
    assert [int(limit.split()[0]) for limit in pushed.values()] == [
        codec.MAX_PUSH_BYTES,
        codec.MAX_PUSH_CONTAINERS,
        codec.MAX_REPLY_ENTRIES,
        records.MAX_RECORDS_BYTES,
        server_socket.MAX_PUSH_FRAME_BYTES,
        chunk.MAX_CHUNK_BYTES,
        InletSettings().max_writers,
    ]
    for limit in (
        f"at most {values.MAX_TEXT_LENGTH} characters",
        f"partition 0 to {dealing.MAX_PARTITIONS - 1}",
        f"P, 1 to {dealing.MAX_PARTITIONS}",
        f"m, 1 to {dealing.MAX_STRIPE}",
        f"at most {stream.MAX_SPLITS};",
        f"at most {change.MAX_CHANGES}; below",
        f"1 to {schema.MAX_FIELDS}, names of 1 to {schema.MAX_NAME_LENGTH} characters",
        f"at most {schema.MAX_CLASSES}, of at most {schema.MAX_NAME_LENGTH} characters",
        f"at most {schema.MAX_DIMENSIONS} dimensions",
        f"At most {codec.MAX_GROUPS} groups",
        f"of 1 to {schema.MAX_NAME_LENGTH} bytes of UTF-8",
        f"The log remembers {MAX_WRITERS} writers",
    ):
        assert limit in SPEC, limit


# --- a client that was written from the page ----------------------------------------------------------------------

SHOES = Schema(
    (
        Field("id", "int64"),
        Field("flags", "bool", (2,)),
        Field("weight", "float32"),
        Field("words", "int16", (None,)),
        Field("boxes", "float64", (None, 2)),
    )
)


def shoes(count: int) -> ColumnSource:
    numbers = np.arange(count)
    lengths = (numbers % 3).astype("<u4")
    total = int(lengths.sum())
    return ColumnSource(
        "shoes",
        SHOES,
        {
            "id": numbers,
            "flags": np.stack([numbers % 2 == 0, numbers % 3 == 0], axis=1),
            "weight": (numbers / 4).astype("<f4"),
            "words": Ragged(lengths, np.arange(total, dtype="<i2")),
            "boxes": Ragged(lengths, np.arange(2.0 * total).reshape(total, 2)),
        },
    )


def expected(count: int) -> list[dict[str, Any]]:
    rows, at = [], 0
    for number in range(count):
        words = list(range(at, at + number % 3))
        at += number % 3
        boxes = [value for word in words for value in (2.0 * word, 2.0 * word + 1)]
        flags = [number % 2 == 0, number % 3 == 0]
        rows.append({"id": [number], "flags": flags, "weight": [number / 4], "words": words, "boxes": boxes})
    return rows


@pytest.fixture
def client() -> Iterator[tuple[Client, ComputedLog]]:
    log = ComputedLog(shoes(200), Dealing(3, 8), passes=1, shuffle=False)
    with serving(log, splits={"test": split_log(shoes(20), stripe=8)}) as server:
        client = Client(server.address)
        yield client, log
        client.close()


def test_a_client_written_from_the_specification_reads_the_stream(client: tuple[Client, ComputedLog]) -> None:
    reading, log = client
    found = list(reading.read("", {0: 0, 1: 0, 2: 0}))
    assert [row for _, _, row in found] == expected(200)
    assert [log.info.dealing.record(partition, offset) for partition, offset, _ in found] == list(range(200))


def test_a_client_written_from_the_specification_asks_fetches_and_commits(client: tuple[Client, ComputedLog]) -> None:
    asking, _ = client
    description = asking.describe("test")
    assert description["log_end"] == [[0, 20]]
    assert [row for _, _, row in asking.read("test", {0: 0})] == expected(20)
    incarnation = asking.describe("")["info"]["incarnation"]
    assert asking.commit("run", incarnation, {0: 8})["type"] == "committed"
    assert asking.describe("")["groups"][0]["committed"] == [[0, 8]]
    assert asking.commit("run", incarnation, {0: 8000})["code"] == "range"


def test_the_client_imports_nothing_of_headrace() -> None:
    text = (Path(__file__).parent / "client_from_spec.py").read_text()
    assert not re.search(r"^\s*(from|import) (protocol|producer|trainer|tests)", text, re.MULTILINE)
