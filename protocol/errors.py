"""Everything that headrace raises on purpose.

HeadraceError
├── UsageError            the user's mistake; said in one line with the mend, exit status 2
├── PeerError             the other side of the wire broke the protocol; never takes a server down
│   ├── MalformedMessage      bytes that are not the message that they claim to be
│   ├── OversizedMessage      more bytes, frames or entries than the protocol allows
│   ├── UnknownMessage        a type, split or session that this side does not know
│   ├── OutOfRange            a number outside what it may be
│   ├── AccessDenied          a key that the other side does not accept, or a right that it does not give
│   ├── Unfit                 a schema, or a record, that is not the stream's
│   ├── NoRoom                a record that the log refuses for want of room
│   └── VersionMismatch       a peer of another major version
├── StreamError           what the stream cannot give; exit status 1
│   ├── RecordsLost           positions that retention or a dead log has passed
│   ├── BeyondLogEnd          positions that the log has not reached: it is behind the checkpoint
│   ├── StreamReplaced        another incarnation than the one that was read so far
│   ├── PartitionsAdded       the same stream has more partitions than when reading began
│   ├── StreamTimeout         nothing came within the time that was given
│   ├── LogFull               an append that the log refuses
│   │   └── StillFull             the same, for want of time: what was to be appended may fit later
│   └── NotDrained            a stream was closed before everything was taken
├── DataFault             records or losses that must not be trained on; exit status 1
├── NotSaved              a run that ends without having saved what it trained last
├── CheckpointDamaged     a checkpoint that does not match its manifest
├── ExportDiffers         an exported model that does not answer as the one that it was made from
└── LedgerUnbalanced      a bug in headrace: records were counted twice or not at all
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple


class HeadraceError(Exception):
    """The root of the tree above."""


class UsageError(HeadraceError):
    """The user's mistake: its text says what to do instead."""


class PeerError(HeadraceError):
    """The peer's fault. `code` is what travels in an error message (protocol/SPEC.md)."""

    code: ClassVar[str] = "peer"


class MalformedMessage(PeerError):
    """Bytes that are not the message that they claim to be."""

    code = "malformed"


class OversizedMessage(PeerError):
    """More bytes, frames or entries than the protocol allows."""

    code = "oversized"


class UnknownMessage(PeerError):
    """A message type, split or session that this side does not know."""

    code = "unknown"


class OutOfRange(PeerError):
    """A number outside what it may be."""

    code = "range"


class AccessDenied(PeerError):
    """A key that the other side does not accept, or a right that it does not give."""

    code = "denied"


class Unfit(PeerError):
    """A schema, or a record, that is not the stream's."""

    code = "unfit"


class NoRoom(PeerError):
    """A record that the log refuses for want of room."""

    code = "full"


class VersionMismatch(PeerError):
    """A peer of another major version."""

    code = "version"


def peer_error(code: str, text: str) -> PeerError:
    """The error that the code of a refusal names; a plain `PeerError` for one that this side does not know."""
    return next((kind for kind in PeerError.__subclasses__() if kind.code == code), PeerError)(text)


class StreamError(HeadraceError):
    """What the stream cannot give."""


class Lost(NamedTuple):
    """The records of `partition` from `first` up to, not including, `end` are gone.

    Where the exact number cannot be known, `at_least` is true and `end` is the log end last heard.
    """

    partition: int
    first: int
    end: int
    at_least: bool = False

    @property
    def records(self) -> int:
        """How many that are."""
        return self.end - self.first

    def __str__(self) -> str:
        count = f"at least {self.records}" if self.at_least else str(self.records)
        return f"partition {self.partition} lost {count} records: offsets {self.first} to {self.end - 1}"


class RecordsLost(StreamError):
    """The records of `partition` from `first` up to, not including, `end` are gone, and those of the `others`.

    `lost` has all of them, one range a partition.
    """

    def __init__(self, partition: int, first: int, end: int, others: Sequence[Lost] = ()) -> None:
        self.partition, self.first, self.end = partition, first, end
        self.lost = (Lost(partition, first, end), *others)
        super().__init__(ranges(self.lost))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.partition, self.first, self.end, self.lost[1:])


def lost_between(positions: Mapping[int, int], ends: Mapping[int, int], *, at_least: bool = False) -> tuple[Lost, ...]:
    """What lies between, of each partition of `positions` in which there is something."""
    return tuple(Lost(p, first, ends[p], at_least) for p, first in positions.items() if ends.get(p, 0) > first)


def ranges(lost: Sequence[Lost]) -> str:
    """All of them in one line; where there are several, their sum goes first."""
    total = f"{sum(each.records for each in lost)} records in {len(lost)} partitions: "
    return f"{total if len(lost) > 1 else ''}{'; '.join(map(str, lost))}"


class BeyondLogEnd(StreamError):
    """A position that the log has not reached, so the log is behind the checkpoint."""


class StreamReplaced(StreamError):
    """The stream is another one than was read so far: its content or its identity changed.

    `lost` says what of the former one had been heard of and was not trained.
    """

    def __init__(self, expected: str, found: str, lost: Sequence[Lost] = ()) -> None:
        self.expected, self.found, self.lost = expected, found, tuple(lost)
        text = f"expected stream {expected}, found stream {found}"
        super().__init__(f"{text}; {ranges(self.lost)}" if self.lost else text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.expected, self.found, self.lost)


class PartitionsAdded(StreamError):
    """The stream has grown by partitions since it was described: `before` there were so many, `now` there are more.

    What a reader gave before it raises this is good; whoever knows how describes the stream anew and reads on.
    """

    def __init__(self, before: int, now: int) -> None:
        self.before, self.now = before, now
        super().__init__(f"the stream has {now} partitions now, and had {before}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.before, self.now)


class StreamTimeout(StreamError):
    """Nothing came within the time that was given."""


class LogFull(StreamError):
    """An append that the log refuses."""


class StillFull(LogFull):
    """No room came free within the time that was given: what was to be appended may fit later."""


class NotDrained(StreamError):
    """A stream was closed before everything in it was taken; `remaining` says how many records."""

    def __init__(self, remaining: int, drain_timeout_s: float) -> None:
        self.remaining = remaining
        super().__init__(f"{remaining} records were not taken within {drain_timeout_s:g} s")


class DataFault(HeadraceError):
    """Records or losses that must not be trained on: a label out of range, a loss that is not a number."""


class NotSaved(HeadraceError):
    """A run that ends without having saved what it trained last."""


class CheckpointDamaged(HeadraceError):
    """A checkpoint that does not match its manifest."""


class ExportDiffers(HeadraceError):
    """An exported model that does not answer as the one that it was made from, or does not answer at all."""


class LedgerUnbalanced(HeadraceError):
    """A bug in headrace: records were counted twice or not at all."""
