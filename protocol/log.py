"""The interface of a log: what a server serves, whatever keeps the records."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.stream import StreamInfo


@dataclass(frozen=True, kw_only=True)
class KeptGroup:
    """What a log that survives its program keeps of a group: what the group allows it to forget."""

    durable: bool
    committed: Positions
    trained: Positions


class KeptWriter(NamedTuple):
    """What it keeps of a writer: its next number, and how many records the log had with the last that it gave."""

    number: int
    records: int


class Log(ABC):
    """Records by (partition, offset), from a log start up to a log end that moves.

    All methods may be called from the server's thread while another thread appends.
    """

    info: StreamInfo

    @abstractmethod
    def log_start(self) -> Positions:
        """The first offset of each partition that can still be read."""

    @abstractmethod
    def log_end(self) -> Positions:
        """The offset after the last record of each partition that can be read now."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether `log_end` is final: no record will ever follow."""

    @abstractmethod
    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        """Records from `offset` on: at least one, at most `max_records`, never across the end of a stripe.

        The chunk may show the log's own memory, which never changes once it can be read. The caller has checked
        log_start ≤ offset < log_end; raises `RecordsLost` where retention was quicker.
        """

    @abstractmethod
    def offset_at(self, partition: int, time_ns: int) -> int:
        """The first offset whose event time is not before `time_ns`; the log end where there is none."""

    def at(self, time_ns: int) -> Positions:
        """The same of every partition."""
        return {partition: self.offset_at(partition, time_ns) for partition in range(self.info.dealing.partitions)}

    def trim(self, positions: Mapping[int, int]) -> None:  # noqa: B027  (a log that keeps nothing has nothing to trim)
        """Everything before these positions may be forgotten."""

    def reach(self, positions: Mapping[int, int]) -> None:  # noqa: B027  (only a log that simulates time moves its end)
        """A reader was at these positions before: a log end that restarts must not lie behind them.

        Raises `BeyondLogEnd` where it would take too long to find out what lies there.
        """

    def due_in_s(self) -> float | None:
        """Seconds until `log_end` moves by itself, 0 if it may have; None where only an append moves it."""
        return None

    @property
    def filled(self) -> float:
        """The share of its room that is taken; 0 where nothing is kept. A full one needs its groups to commit."""
        return 0.0

    def groups(self) -> Mapping[str, KeptGroup]:
        """The groups of former lives, by name."""
        return {}

    def keep_group(self, name: str, group: KeptGroup | None) -> None:  # noqa: B027  (most logs die with their groups)
        """A group joined or committed, or is forgotten (None). It is kept no later than what is trimmed afterwards."""

    def close(self) -> None:  # noqa: B027  (most logs hold nothing that needs closing)
        """Release what the log holds."""
