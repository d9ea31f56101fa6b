"""Which changes of its stream a run has come past: each is told once, over all lives."""

from collections.abc import Mapping
from typing import Any

from protocol.dealing import Dealing, Positions
from protocol.stream import StreamInfo


class Changes:
    """Remembers up to which record of the stream the changes were told; of another stream, from its first on."""

    def __init__(self, info: StreamInfo, positions: Positions) -> None:
        self._incarnation = info.incarnation
        self._next = _first_record(info.dealing, positions)

    def passed(self, info: StreamInfo, last_record: int) -> list[tuple[int, str]]:
        """What began or ended since the last time, now that training has come to this record: (record, words)."""
        if info.incarnation != self._incarnation:
            self._incarnation, self._next = info.incarnation, 0
        first, self._next = self._next, max(self._next, last_record + 1)
        return sorted(turn for change in info.changes for turn in change.turns(first, self._next))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"incarnation": self._incarnation, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse."""
        self._incarnation, self._next = state["incarnation"], state["next"]


def _first_record(dealing: Dealing, positions: Positions) -> int:
    """The number of the first record that comes from these positions on."""
    return min(dealing.record(partition, offset) for partition, offset in positions.items())
