"""The interface of a reader: whatever a stream's URL names, everything above it is the same."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Self

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import DataFault
from protocol.messages import STREAM, Description
from protocol.subscription import Event, Progress, Subscription, Undecodable

#: Called about once a second while something is waited for, with the seconds waited so far; may raise to give up.
OnWait = Callable[[float], None]


class Reader(ABC):
    """One connection to a stream. Belongs to the thread that made it."""

    @abstractmethod
    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        """What the stream (or a split of it) is, and with `time_ns` (`at`) where that moment lies in it.

        Waits for a producer; raises `StreamTimeout` after `timeout_s`.
        """

    @abstractmethod
    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        """Events of one subscription, as they came together, until it has `Ended`; none after `idle_s` without any.

        Chunks count as taken, so that more may be sent, when the next list is asked for. `progress` is asked whenever
        something is said to the producer. Chunks show memory of their own, which never changes. Raises
        `PartitionsAdded` where the stream has grown.
        """

    @abstractmethod
    def stay(self) -> None:
        """Called now and then by whoever cannot take what `read` gave: says the signs of life that are due."""

    @abstractmethod
    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        """Tell the producer what a durable checkpoint has seen. Raises `StreamTimeout` if it does not answer."""

    @abstractmethod
    def drop(self, group: str, *, timeout_s: float) -> bool:
        """Make the producer forget a group; false where it knew none of that name."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_split(
    reader: Reader, split: str, description: Description, *, on_wait: OnWait | None = None
) -> Iterator[Chunk]:
    """The chunks of a finite split, in order, from its start to its end; a producer that goes away is waited for.

    Raises `DataFault` for a record that the reader cannot make sense of.
    """
    asked = Subscription(split=split, positions=description.log_start, incarnation=description.info.incarnation)
    heard_s = time.monotonic()
    for events in reader.read(asked):
        chunks = [event for event in events if isinstance(event, Chunk)]
        yield from chunks
        if bad := next((event for event in events if isinstance(event, Undecodable)), None):
            raise DataFault(bad.reason)
        if chunks:
            heard_s = time.monotonic()
        elif on_wait is not None:
            on_wait(time.monotonic() - heard_s)
