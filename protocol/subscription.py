"""What a reader asks for, what it reports of its training run, and what it hears in return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import Lost
from protocol.stream import StreamInfo


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """How a reader behaves on the link."""

    window_bytes: int = 8 << 20
    """Records in flight to this reader, in bytes; at least two stripes. Where records differ in size, a stripe counts
    as 4 MiB."""
    sign_of_life_s: float = 0.5
    """Credit and trained positions are said again this often."""
    away_after_s: float = 4.0
    """A server that was silent for this long is away."""
    retry_first_s: float = 0.2
    """The first pause between two attempts to subscribe; it doubles."""
    retry_most_s: float = 5.0
    """The longest pause between two attempts. A link on which the answer takes longer than this is of no use: only the
    answer to the latest attempt is heard."""


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a reader asks for. `incarnation` None accepts any; a reader without `group` holds nothing back.

    With `pass_lost` it goes on behind records that the log no longer has, and says so by `Expired`. `partitions` is how
    many whoever asks knows of, over all readers: where a stream that may grow has more, also from the beginning,
    reading it raises `PartitionsAdded`. None: those that it has when reading begins.
    """

    split: str
    positions: Positions
    incarnation: str | None = None
    group: str | None = None
    pass_lost: bool = False
    partitions: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the training run has done with the records of this reader's partitions, as the producer should know it.

    `durable` says whether there is a checkpoint to come back to, `committed` what the oldest one has seen.
    """

    trained: Positions = field(default_factory=dict)
    committed: Positions | None = None
    durable: bool = False


@dataclass(frozen=True)
class Subscribed:
    """The server has answered: for the first time, or again after it was away."""

    info: StreamInfo


@dataclass(frozen=True)
class Heard:
    """The server said how far the log reaches; `save_soon` asks for an early checkpoint."""

    log_end: Positions
    save_soon: bool


@dataclass(frozen=True)
class Away:
    """Nothing was heard from the server for `silent_s`."""

    silent_s: float


@dataclass(frozen=True)
class Expired:
    """The log forgot records before they were received: `lost` of the reader's own partitions, one range each.

    `log_start` is that of all partitions, as far as the server said.
    """

    lost: tuple[Lost, ...]
    log_start: Positions


class Absent(NamedTuple):
    """The offsets of `partition` from `first` up to, not including, `end` hold no record and never did: no loss.

    It stands where those records would.
    """

    partition: int
    first: int
    end: int

    @property
    def records(self) -> int:
        """How many offsets that are."""
        return self.end - self.first

    def __str__(self) -> str:
        return f"partition {self.partition} has no records at the offsets {self.first} to {self.end - 1}"


@dataclass(frozen=True)
class Ended:
    """Everything up to `final` was received and nothing will ever follow."""

    final: Positions


@dataclass(frozen=True, kw_only=True)
class Waited:
    """What a reader has spent its time on since it last said so, about a second; what its taker took is left out."""

    source_s: float
    """Seconds of waiting for the producer: its log had nothing, it was reading, or it was away."""
    wire_s: float
    """Seconds of waiting for what the producer had sent, or for credit to reach it."""
    reader_s: float
    """Seconds of taking in what had arrived."""


@dataclass(frozen=True)
class Undecodable:
    """A record that the reader cannot make sense of: `record` as it came, and why not.

    `chunk` holds it alone, with other values, and stands where it has its place.
    """

    chunk: Chunk
    record: Mapping[str, Any]
    reason: str


Event = Subscribed | Heard | Away | Expired | Absent | Ended | Waited | Undecodable | Chunk
