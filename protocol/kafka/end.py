"""Where reading a topic ends, if it is to end: as far as each partition reached when its first message came."""

from collections.abc import Callable

from protocol.dealing import Positions


class KafkaEnd:
    """The end of each partition, as Kafka's offset. `reach` is what the consumer has heard of it last.

    That is looked at when messages come, since the very fetch that brings them tells it best.
    """

    def __init__(self, reach: Callable[[int], int]) -> None:
        self._reach = reach
        self._ends: Positions = {}

    def of(self, partition: int, offset: int) -> int:
        """The end of a partition that has come to this message."""
        if partition not in self._ends:
            self._ends[partition] = max(offset + 1, self._reach(partition))
        return self._ends[partition]

    def hear(self, partition: int, offset: int) -> None:
        """The consumer says that nothing more is there for now."""
        self._ends[partition] = min(self._ends.get(partition, offset), offset)

    def reached(self, partition: int, offset: int) -> bool:
        """Whether a partition that is to go on at this message is at its end."""
        return partition in self._ends and offset >= self._ends[partition]
