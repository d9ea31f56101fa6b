"""Values as msgpack gives them, checked before anything is made of them.

What is of another kind raises `MalformedMessage`, a number or length outside its range `OutOfRange`. Texts of errors
show at most a piece of the value: it came from a stranger and may be as long as a frame.
"""

import reprlib
from typing import Any, Final

from protocol.errors import MalformedMessage, OutOfRange

MAX_NUMBER: Final = (1 << 63) - 1
MAX_TEXT_LENGTH: Final = 4096


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
    """An event time, or nothing."""
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
