"""Messages to bytes and back. Nothing is believed before it has been checked.

Frame 0 is a msgpack map with `v` (the major version), `type` and the message's fields; a chunk's columns, or what a
writer pushes, follow as raw frames. Keys that are not known are passed over, so that a minor version may add some.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

import msgpack

from protocol.chunk import Buffer
from protocol.dealing import MAX_PARTITIONS, Positions
from protocol.errors import (
    MalformedMessage,
    OutOfRange,
    OversizedMessage,
    PeerError,
    UnknownMessage,
    VersionMismatch,
)
from protocol.messages import (
    Bye,
    ChunkMessage,
    ColumnsMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Done,
    Drop,
    Dropped,
    End,
    Greeting,
    GroupState,
    Hello,
    Message,
    Push,
    RecordsMessage,
    Refusal,
    Reply,
    Request,
    Status,
    Subscribe,
    Taken,
    Welcome,
)
from protocol.schema import MAX_CLASS_NAMES_BYTES, MAX_CLASSES, MAX_FIELDS, Schema
from protocol.stream import StreamInfo
from protocol.values import MAX_NUMBER, entries, flag, mapping, number, seconds, shown, text, unpacked

VERSION: Final = 1

#: A frame 0 from a reader, and one from a server (which may hold class names and many groups).
MAX_REQUEST_BYTES: Final = 1 << 18
MAX_REPLY_BYTES: Final = 1 << 22
#: A frame 0 from a writer, whose hello may hold the class names of a schema, and the arrays and maps in it: a schema
#: has two for each field.
MAX_PUSH_BYTES: Final = MAX_CLASS_NAMES_BYTES + MAX_REQUEST_BYTES
MAX_PUSH_CONTAINERS: Final = 4 * MAX_FIELDS
#: Entries of one container.
MAX_REQUEST_ENTRIES: Final = MAX_PARTITIONS
MAX_REPLY_ENTRIES: Final = MAX_CLASSES
MAX_MAP_ENTRIES: Final = 256
#: Groups in one description.
MAX_GROUPS: Final = 256

TYPES: Mapping[str, type[Message]] = {
    "describe": Describe,
    "subscribe": Subscribe,
    "credit": Credit,
    "commit": Commit,
    "drop": Drop,
    "bye": Bye,
    "description": Description,
    "welcome": Welcome,
    "chunk": ChunkMessage,
    "status": Status,
    "end": End,
    "committed": Committed,
    "dropped": Dropped,
    "refusal": Refusal,
    "hello": Hello,
    "records": RecordsMessage,
    "columns": ColumnsMessage,
    "done": Done,
    "greeting": Greeting,
    "taken": Taken,
}
#: Messages with further frames.
FRAMED: Final = (ChunkMessage, RecordsMessage, ColumnsMessage)
_NAMES = {cls: name for name, cls in TYPES.items()}


def encode(message: Message) -> list[Buffer]:
    """The frames of a message."""
    header = {"v": VERSION, "type": _NAMES[type(message)], **_write(message)}
    frames: list[Buffer] = [msgpack.packb(header)]
    if isinstance(message, FRAMED):
        frames.extend(message.frames)
    return frames


def decode_request(frames: Sequence[Buffer]) -> Request:
    """What a server received. Raises a `PeerError` that says what is wrong."""
    message = _decode(frames, MAX_REQUEST_BYTES, MAX_REQUEST_ENTRIES)
    if not isinstance(message, Request):
        raise UnknownMessage(f"{_NAMES[type(message)]!r} is nothing that a reader says")
    return message


def decode_push(frames: Sequence[Buffer]) -> Push:
    """What an inlet received; a hello may hold as many class names as a reply. Raises a `PeerError`."""
    message = _decode(frames, MAX_PUSH_BYTES, MAX_REPLY_ENTRIES, MAX_PUSH_CONTAINERS)
    if not isinstance(message, Push):
        raise UnknownMessage(f"{_NAMES[type(message)]!r} is nothing that a writer says")
    return message


def decode_reply(frames: Sequence[Buffer]) -> Reply:
    """What a reader, or a writer, received. Raises a `PeerError` that says what is wrong."""
    message = _decode(frames, MAX_REPLY_BYTES, MAX_REPLY_ENTRIES)
    if not isinstance(message, Reply):
        raise UnknownMessage(f"{_NAMES[type(message)]!r} is nothing that a server says")
    return message


def _decode(frames: Sequence[Buffer], max_bytes: int, max_entries: int, max_containers: int | None = None) -> Message:
    header = _header(frames, max_bytes, max_entries, max_containers)
    version = header.get("v")
    if type(version) is not int or version != VERSION:
        raise VersionMismatch(f"this side speaks version {VERSION} of the protocol, the other side {shown(version)}")
    name = header.get("type")
    if not isinstance(name, str) or name not in TYPES:
        raise UnknownMessage(f"no message is of type {shown(name)}")
    cls = TYPES[name]
    if cls not in FRAMED and len(frames) > 1:
        raise MalformedMessage(f"{name!r} has one frame, not {len(frames)}")
    values = _read(cls, header)
    if cls in FRAMED:
        values["frames"] = tuple(frames[1:])
    return cls(**values)


def _header(frames: Sequence[Buffer], max_bytes: int, max_entries: int, max_containers: int | None) -> dict[str, Any]:
    if not frames:
        raise MalformedMessage("a message without frames")
    size = memoryview(frames[0]).nbytes
    if size > max_bytes:
        raise OversizedMessage(f"a header of {size} bytes, over the {max_bytes} allowed")
    try:
        header = unpacked(
            frames[0],
            max_containers=max_containers,
            max_array_len=max_entries,
            max_map_len=MAX_MAP_ENTRIES,
            max_bin_len=0,
        )
    except MalformedMessage as error:
        raise MalformedMessage(f"frame 0 {error}") from error
    if not isinstance(header, dict):
        raise MalformedMessage("frame 0 is not a map")
    return header


# --- fields, by their annotations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A field of a message on the wire: its name, how it is read, and what it is where it is left out."""

    name: str
    read: Callable[[Any], Any]
    default: Any


def _write(message: Message | GroupState) -> dict[str, Any]:
    return {each.name: _to_wire(getattr(message, each.name)) for each in _ENTRIES[type(message)]}


def _to_wire(value: Any) -> Any:
    if type(value) in (int, str, float, bool, type(None)):
        return value
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, StreamInfo | Schema):
        return value.to_wire()
    assert isinstance(value, tuple)
    return [_write(group) for group in value]


def _read(cls: type[Any], wire: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in _ENTRIES[cls]:
        if each.name in wire:
            try:
                values[each.name] = each.read(wire[each.name])
            except PeerError as error:
                raise type(error)(f"{each.name!r}: {error}") from error
        elif each.default is MISSING:
            raise MalformedMessage(f"{each.name!r} is missing")
    return values


def _positions(value: Any) -> Positions:
    positions = _plain_positions(value)
    if positions is not None:
        return positions
    positions = {}
    for pair in entries(value, MAX_PARTITIONS):
        if not isinstance(pair, list) or len(pair) != 2:
            raise MalformedMessage(f"{shown(pair)} is not [partition, offset]")
        partition, offset = number(pair[0]), number(pair[1])
        if partition >= MAX_PARTITIONS:
            raise OutOfRange(f"partition {partition}, over {MAX_PARTITIONS - 1}")
        if partition in positions:
            raise MalformedMessage(f"partition {partition} stands twice")
        positions[partition] = offset
    return positions


def _plain_positions(value: Any) -> Positions | None:
    """Positions checked as a whole; None where each pair must be looked at to say what is wrong."""
    if type(value) is not list or len(value) > MAX_PARTITIONS:
        return None
    try:
        positions: Positions = dict(value)
    except (TypeError, ValueError):
        return None
    plain = all(type(each) is int for pair in positions.items() for each in pair)
    if not plain or len(positions) != len(value):
        return None
    if positions and not (min(positions) >= 0 <= min(positions.values()) and max(positions) < MAX_PARTITIONS):
        return None
    return positions if max(positions.values(), default=0) <= MAX_NUMBER else None


def _groups(value: Any) -> tuple[GroupState, ...]:
    return tuple(GroupState(**_read(GroupState, mapping(each))) for each in entries(value, MAX_GROUPS))


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READERS: Mapping[Any, Callable[[Any], Any]] = {
    int: number,
    int | None: _or_none(number),
    str: text,
    str | None: _or_none(text),
    bool: flag,
    float: seconds,
    Positions: _positions,
    Positions | None: _or_none(_positions),
    StreamInfo: StreamInfo.from_wire,
    Schema | None: _or_none(Schema.from_wire),
    tuple[GroupState, ...]: _groups,
}

#: The fields of each kind of message, worked out once: every chunk has a header.
_ENTRIES: Mapping[type[Any], tuple[_Entry, ...]] = {
    cls: tuple(
        _Entry(each.name, each.metadata.get("read") or _READERS[each.type], each.default)
        for each in fields(cls)
        if each.metadata.get("wire", True)
    )
    for cls in (*TYPES.values(), GroupState)
}
