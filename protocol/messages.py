"""The words of the wire. protocol/SPEC.md says when each is sent; protocol/codec.py how it looks in bytes.

A *session* is the random number that a reader draws for one subscription; what bears another number is stale.
A *request* is the random number by which a reader knows the answer to a question. The stream itself is the split "".
"""

from dataclasses import dataclass, field

from protocol.chunk import Buffer
from protocol.dealing import Positions
from protocol.schema import Schema
from protocol.stream import StreamInfo
from protocol.values import moment_ns, moment_or_none

STREAM = ""


# --- reader → server ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Describe:
    """What is this stream (or this split of it), and who reads it? With `time_ns`: and where does that moment lie?"""

    request: int
    split: str
    time_ns: int | None = field(default=None, metadata={"read": moment_or_none})


@dataclass(frozen=True, kw_only=True)
class Subscribe:
    """Send the records of these partitions from these positions on. Overwrites an earlier subscription of the peer.

    `trained` and `committed` repeat what the group has trained and committed, so that a server which lost its memory
    knows it again: a reader may have received more than was trained.
    """

    session: int
    split: str
    group: str | None
    durable: bool
    incarnation: str | None
    positions: Positions
    trained: Positions
    committed: Positions | None


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Records up to these offsets may be sent; everything up to `trained` has been trained. All is cumulative.

    `durable` turns true once the group has a checkpoint to come back to: from then on only commits release records.
    """

    session: int
    until: Positions
    trained: Positions
    durable: bool


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A checkpoint that has seen everything up to these positions is durable: the log may forget it."""

    request: int
    group: str
    incarnation: str
    positions: Positions


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Forget this group and what it holds."""

    request: int
    group: str


@dataclass(frozen=True, kw_only=True)
class Bye:
    """The reader ends its subscription."""

    session: int


# --- writer → inlet ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Hello:
    """I push, under this name. Overwrites an earlier hello of the peer, and whoever speaks under the same name.

    `schema` is what the records will be; None where the stream's, or the first record, shall say it.
    """

    session: int
    writer: str
    schema: Schema | None = None


@dataclass(frozen=True, kw_only=True)
class _Pushed:
    session: int
    number: int
    count: int
    time_ns: int | None = field(default=None, metadata={"read": moment_or_none})
    frames: tuple[Buffer, ...] = field(default=(), metadata={"wire": False})


class RecordsMessage(_Pushed):
    """Records `number` to `number` + `count` - 1 of this writer, as msgpack maps in one further frame.

    `time_ns` is their event time; None: that of their arrival.
    """


class ColumnsMessage(_Pushed):
    """The same in columns, which travel as those of a chunk do."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """The writer has given all its records, of which there are `number`."""

    session: int
    number: int


# --- server → reader ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GroupState:
    """One group as the server knows it."""

    name: str
    durable: bool
    readers: int
    silent_s: float
    committed: Positions
    trained: Positions


@dataclass(frozen=True, kw_only=True)
class Description:
    """The answer to `Describe`. `refused` counts messages of peers, `rejected` records that the log did not let in.

    `at` has the first offset of each partition from the `time_ns` on that was asked for, if one was.
    """

    request: int
    info: StreamInfo
    log_start: Positions
    log_end: Positions
    ended: bool
    uptime_s: float
    refused: int
    groups: tuple[GroupState, ...]
    rejected: int = 0
    at: Positions | None = None


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """The subscription holds; chunks follow as far as credit reaches."""

    session: int
    info: StreamInfo
    log_end: Positions


@dataclass(frozen=True, kw_only=True)
class ChunkMessage:
    """Records `offset` to `offset + count` - 1 of a partition. Their columns travel as further frames.

    `source_s` as in `Status`: on a slow link a status may be stuck behind many chunks.
    """

    session: int
    partition: int
    offset: int
    count: int
    first_time_ns: int = field(metadata={"read": moment_ns})
    last_time_ns: int = field(metadata={"read": moment_ns})
    source_s: float = 0.0
    frames: tuple[Buffer, ...] = field(default=(), metadata={"wire": False})


@dataclass(frozen=True, kw_only=True)
class Status:
    """A sign of life, at least once a second: what will be sent next and how far the log reaches.

    `source_s` are the seconds of this session in which the reader could have been sent more but for the log.
    """

    session: int
    next: Positions
    log_end: Positions
    save_soon: bool
    source_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class End:
    """Everything has been sent and no record will ever follow. Said again until the reader leaves."""

    session: int
    final: Positions


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The answer to `Commit`."""

    request: int
    group: str


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """The answer to `Drop`; `known` is false where there was no such group."""

    request: int
    group: str
    known: bool


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a message was not obeyed. `code` is for programs (protocol/SPEC.md lists them), `text` for people.

    Of a gap between the records of a writer, `first` is the number that came and `end` the one that is due.
    """

    code: str
    text: str
    session: int | None = None
    request: int | None = None
    partition: int | None = None
    first: int | None = None
    end: int | None = None
    incarnation: str | None = None
    log_start: Positions | None = None


# --- inlet → writer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """The answer to `Hello`: the stream's schema, None while nobody knows it, and what `Taken` says."""

    session: int
    schema: Schema | None
    due: int
    durable: int
    until: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A sign of life, at least once a second: the writer's record `due` is wanted next, those below `durable` are kept
    and need never be sent again, those below `until` may be sent. `done` answers `Done`, once all is durable.
    """

    session: int
    due: int
    durable: int
    until: int
    done: bool


Request = Describe | Subscribe | Credit | Commit | Drop | Bye
Push = Hello | RecordsMessage | ColumnsMessage | Done
Reply = Description | Welcome | ChunkMessage | Status | End | Committed | Dropped | Refusal | Greeting | Taken
Message = Request | Push | Reply
