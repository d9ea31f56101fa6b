"""Order of arrival: records are trained as they come, those of one partition by offset.

So a partition that is late stops no other, and one that has much to say does not starve another: whoever came first
goes first.
"""

from collections import deque
from collections.abc import Mapping
from typing import Literal

from protocol.dealing import Dealing, Turns
from protocol.stream import StreamInfo, StreamOrder

#: The stream's own order, or that of arrival whatever the stream has.
Asked = Literal["stream", "arrival"]


class Arrivals:
    """Positions that move on in order of arrival: whose turn it is, and where that ends, with what came first.

    `positions` are changed in place and must not be empty.
    """

    def __init__(self, positions: Mapping[int, int]) -> None:
        self.positions = dict(positions)
        #: (partition, end) of what came and has not passed.
        self._coming: deque[tuple[int, int]] = deque()

    def arrive(self, partition: int, end: int) -> None:
        """The next of a partition has come, up to this offset."""
        self._coming.append((partition, end))

    def forget(self) -> None:
        """What came and has not passed comes again."""
        self._coming.clear()

    @property
    def partition(self) -> int:
        """Whose turn it is; where nothing has come, any that has nothing."""
        return self._coming[0][0] if self._coming else next(iter(self.positions))

    @property
    def turn_end(self) -> int:
        """The offset at which the turn ends, where something has come."""
        return self._coming[0][1]

    def move(self, records: int) -> None:
        """The partition whose turn it is moves on by so many records, at most to the turn's end."""
        self.skip(self.partition, self.positions[self.partition] + records)

    def skip(self, partition: int, offset: int) -> None:
        """The partition whose turn it is moves on to this offset, at most the turn's end."""
        turn, end = self._coming[0]
        assert partition == turn
        assert offset <= end
        self.positions[partition] = offset
        if offset == end:
            self._coming.popleft()


def read_in(asked: Asked, info: StreamInfo) -> StreamOrder:
    """The order that a stream is read in."""
    return info.order if asked == "stream" else "arrival"


def turns_of(order: StreamOrder, dealing: Dealing, positions: Mapping[int, int]) -> Turns | Arrivals:
    """How a stream that is read in this order moves on from these positions."""
    return Arrivals(positions) if order == "arrival" else Turns(dealing, positions)
