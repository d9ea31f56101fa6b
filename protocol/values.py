"""Values as msgpack gives them, checked before anything is made of them.

What is of another kind raises `MalformedMessage`, a number or length outside its range `OutOfRange`. Texts of errors
show at most a piece of the value: it came from a stranger and may be as long as a frame.
"""

import reprlib
from collections.abc import Callable
from typing import Any, Final

import msgpack

from protocol.errors import MalformedMessage, OutOfRange

MAX_NUMBER: Final = (1 << 63) - 1
MAX_TEXT_LENGTH: Final = 4096


def unpacked(raw: bytes | memoryview, *, max_containers: int | None = None, **limits: int) -> Any:
    """The one value that these bytes are, of at most so many arrays and maps.

    `limits` are msgpack's own (`max_array_len` and so on).
    """
    hooks = {} if max_containers is None else dict.fromkeys(("list_hook", "object_hook"), _counted(max_containers))
    try:
        # unpackb makes room for as many entries as a container announces, at up to a thousand levels: 32 MiB and
        # milliseconds for a few kilobytes. Passing over the bytes first makes nothing and shows whether they are there.
        whole = msgpack.Unpacker(read_size=1, max_buffer_size=max(1, memoryview(raw).nbytes))
        whole.feed(raw)
        whole.skip()
        return msgpack.unpackb(raw, max_ext_len=0, **hooks, **limits)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise MalformedMessage(f"is not msgpack: {error}") from error


def _counted(most: int) -> Callable[[Any], Any]:
    """Passes containers on, as they are made; an empty one takes 64 times the memory of its byte."""
    left = iter(range(most))

    def container(value: Any) -> Any:
        if next(left, None) is None:
            raise ValueError(f"it has more than {most} arrays and maps")
        return value

    return container


def shown(value: Any) -> str:
    """A value for a text that people read; long ones are cut."""
    return reprlib.repr(value)


def integer(value: Any) -> int:
    """An integer of either sign."""
    if type(value) is not int:  # a bool is an int to Python
        raise MalformedMessage(f"{shown(value)} is not an integer")
    return value


def number(value: Any) -> int:
    """An integer from 0 to 2^63 - 1."""
    if not 0 <= integer(value) <= MAX_NUMBER:
        raise OutOfRange(f"{value} is not between 0 and 2^63 - 1")
    return int(value)


def moment_ns(value: Any) -> int:
    """An event time: a signed integer of 64 bits, for there were records before 1970."""
    if not -MAX_NUMBER <= integer(value) <= MAX_NUMBER:
        raise OutOfRange(f"{value} nanoseconds do not fit into 64 bits")
    return int(value)


def moment_or_none(value: Any) -> int | None:
    """An event time, where there is one."""
    return None if value is None else moment_ns(value)


def text(value: Any, most: int = MAX_TEXT_LENGTH) -> str:
    """A text of at most `most` characters."""
    if not isinstance(value, str):
        raise MalformedMessage(f"{shown(value)} is not a text")
    if len(value) > most:
        raise OutOfRange(f"a text of {len(value)} characters, over {most}")
    return value


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise MalformedMessage(f"{shown(value)} is neither true nor false")
    return value


def seconds(value: Any) -> float:
    """A duration: 0 or more, and finite."""
    if type(value) not in (int, float):
        raise MalformedMessage(f"{shown(value)} is not a duration in seconds")
    if not 0 <= value < float("inf"):
        raise OutOfRange(f"{value} is no duration in seconds")
    return float(value)


def entries(value: Any, most: int) -> list[Any]:
    """A list of at most `most` entries."""
    if not isinstance(value, list):
        raise MalformedMessage(f"{shown(value)} is not a list")
    if len(value) > most:
        raise OutOfRange(f"a list of {len(value)} entries, over {most}")
    return value


def mapping(value: Any) -> dict[Any, Any]:
    """A map."""
    if not isinstance(value, dict):
        raise MalformedMessage(f"{shown(value)} is not a map")
    return value
