"""Which changes of its stream a run has come past: each is told once, over all lives."""

from collections.abc import Iterable, Mapping
from typing import Any

from protocol.dealing import Dealing, Positions
from protocol.stream import StreamInfo


class Changes:
    """Remembers of each stream, by its incarnation, up to which record the changes were told; of one that is not among
    the first ones, from its first record on.
    """

    def __init__(self, streams: Iterable[tuple[StreamInfo, Positions]]) -> None:
        self._next = {info.incarnation: _first_record(info.dealing, positions) for info, positions in streams}

    def passed(self, info: StreamInfo, last_record: int) -> list[tuple[int, str]]:
        """What began or ended since the last time, now that training has come to this record: (record, words)."""
        first = self._next.get(info.incarnation, 0)
        self._next[info.incarnation] = last = max(first, last_record + 1)
        return sorted(turn for change in info.changes for turn in change.turns(first, last))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"next": dict(self._next)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse."""
        self._next |= state["next"]


def _first_record(dealing: Dealing, positions: Positions) -> int:
    """The number of the first record that comes from these positions on."""
    return min(dealing.record(partition, offset) for partition, offset in positions.items())
