"""Messages to bytes and back. Nothing is believed before it has been checked.

Frame 0 is a msgpack map with `v` (the major version), `type` and the message's fields; a chunk's columns follow as
raw frames. Keys that are not known are passed over, so that a minor version may add some.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Final

import msgpack

from protocol.chunk import Buffer
from protocol.dealing import MAX_PARTITIONS, Positions
from protocol.errors import MalformedMessage, OutOfRange, OversizedMessage, UnknownMessage, VersionMismatch
from protocol.messages import (
    Bye,
    ChunkMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Drop,
    Dropped,
    End,
    GroupState,
    Message,
    Refusal,
    Reply,
    Request,
    Status,
    Subscribe,
    Welcome,
)
from protocol.stream import StreamInfo

VERSION: Final = 1

#: A frame 0 from a reader, and one from a server (which may hold class names and many groups).
MAX_REQUEST_BYTES: Final = 1 << 18
MAX_REPLY_BYTES: Final = 1 << 22
MAX_TEXT_LENGTH: Final = 4096
MAX_NUMBER: Final = (1 << 63) - 1

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
}
_NAMES = {cls: name for name, cls in TYPES.items()}


def encode(message: Message) -> list[Buffer]:
    """The frames of a message."""
    header = {"v": VERSION, "type": _NAMES[type(message)], **_write(message)}
    frames: list[Buffer] = [msgpack.packb(header)]
    if isinstance(message, ChunkMessage):
        frames.extend(message.frames)
    return frames


def decode_request(frames: Sequence[Buffer]) -> Request:
    """What a server received. Raises a `PeerError` that says what is wrong."""
    message = _decode(frames, MAX_REQUEST_BYTES)
    if not isinstance(message, Request):
        raise UnknownMessage(f"{_NAMES[type(message)]!r} is nothing that a reader says")
    return message


def decode_reply(frames: Sequence[Buffer]) -> Reply:
    """What a reader received. Raises a `PeerError` that says what is wrong."""
    message = _decode(frames, MAX_REPLY_BYTES)
    if not isinstance(message, Reply):
        raise UnknownMessage(f"{_NAMES[type(message)]!r} is nothing that a server says")
    return message


def _decode(frames: Sequence[Buffer], max_bytes: int) -> Message:
    header = _header(frames, max_bytes)
    version = header.get("v")
    if version != VERSION:
        raise VersionMismatch(f"this side speaks version {VERSION} of the protocol, the other side {version!r}")
    name = header.get("type")
    if not isinstance(name, str) or name not in TYPES:
        raise UnknownMessage(f"no message is of type {str(name)[:40]!r}")
    cls = TYPES[name]
    if cls is not ChunkMessage and len(frames) > 1:
        raise MalformedMessage(f"{name!r} has one frame, not {len(frames)}")
    values = _read(cls, header)
    if cls is ChunkMessage:
        values["frames"] = tuple(frames[1:])
    return cls(**values)


def _header(frames: Sequence[Buffer], max_bytes: int) -> dict[str, Any]:
    if not frames:
        raise MalformedMessage("a message without frames")
    size = memoryview(frames[0]).nbytes
    if size > max_bytes:
        raise OversizedMessage(f"a header of {size} bytes, over the {max_bytes} allowed")
    try:
        # The limits keep a few bytes from announcing a huge container; msgpack itself bounds lengths by the input.
        header = msgpack.unpackb(frames[0], max_ext_len=0, max_bin_len=0, strict_map_key=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise MalformedMessage(f"frame 0 is not msgpack: {error}") from error
    if not isinstance(header, dict):
        raise MalformedMessage("frame 0 is not a map")
    return header


# --- fields, by their annotations --------------------------------------------------------------------------------


def _write(message: Message | GroupState) -> dict[str, Any]:
    return {
        each.name: _to_wire(getattr(message, each.name)) for each in fields(message) if each.metadata.get("wire", True)
    }


def _to_wire(value: Any) -> Any:
    if isinstance(value, dict):
        return [[partition, offset] for partition, offset in value.items()]
    if isinstance(value, StreamInfo):
        return value.to_wire()
    if isinstance(value, tuple):
        return [_write(group) for group in value]
    return value


def _read(cls: type[Any], wire: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in fields(cls):
        if not each.metadata.get("wire", True):
            continue
        if each.name in wire:
            try:
                values[each.name] = _READERS[each.type](wire[each.name])
            except _Wrong as error:
                raise MalformedMessage(f"{each.name!r}: {error}") from error
            except _Outside as error:
                raise OutOfRange(f"{each.name!r}: {error}") from error
        elif each.default is MISSING:
            raise MalformedMessage(f"{each.name!r} is missing")
    return values


class _Wrong(Exception):
    """A value of another kind than the field's."""


class _Outside(Exception):
    """A number outside its range."""


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("not an integer")
    if not 0 <= value <= MAX_NUMBER:
        raise _Outside(f"{value} is not between 0 and 2^63 - 1")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("not a text")
    if len(value) > MAX_TEXT_LENGTH:
        raise _Outside(f"a text of {len(value)} characters, over {MAX_TEXT_LENGTH}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("neither true nor false")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise _Wrong("not a duration in seconds")
    return float(value)


def _positions(value: Any) -> Positions:
    if not isinstance(value, list):
        raise _Wrong("not a list of [partition, offset]")
    if len(value) > MAX_PARTITIONS:
        raise _Outside(f"{len(value)} partitions, over {MAX_PARTITIONS}")
    positions: Positions = {}
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _Wrong("not a list of [partition, offset]")
        partition, offset = _number(pair[0]), _number(pair[1])
        if partition >= MAX_PARTITIONS:
            raise _Outside(f"partition {partition}, over {MAX_PARTITIONS - 1}")
        if partition in positions:
            raise _Wrong(f"partition {partition} stands twice")
        positions[partition] = offset
    return positions


def _groups(value: Any) -> tuple[GroupState, ...]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _Wrong("not a list of groups")
    return tuple(GroupState(**_read(GroupState, each)) for each in value)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READERS: Mapping[Any, Callable[[Any], Any]] = {
    int: _number,
    int | None: _or_none(_number),
    str: _text,
    str | None: _or_none(_text),
    bool: _flag,
    float: _seconds,
    Positions: _positions,
    Positions | None: _or_none(_positions),
    StreamInfo: StreamInfo.from_wire,
    tuple[GroupState, ...]: _groups,
}
