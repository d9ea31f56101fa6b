"""The producer's one status line: rate, log end, and how far each group is behind."""

from protocol.dealing import Positions, distance
from protocol.messages import GroupState


class StatusLine:
    """Says every `every_s` how the stream stands. Times are seconds of a monotonic clock."""

    def __init__(self, every_s: float, now_s: float) -> None:
        self._every_s = every_s
        self._said_s = now_s
        self._sent = 0

    def due(self, now_s: float) -> bool:
        """Whether it is time for another line."""
        return now_s - self._said_s >= self._every_s

    def line(
        self, sent: int, log_end: Positions, groups: tuple[GroupState, ...], now_s: float, rejected: int = 0
    ) -> str:
        """`sent` counts the records that went out to all readers so far, `rejected` those that were not let in."""
        rate = (sent - self._sent) / max(1e-9, now_s - self._said_s)
        self._said_s, self._sent = now_s, sent
        parts = [f"{rate:,.0f} records/s out", f"log end {sum(log_end.values()):,}"]
        if rejected:
            parts.append(f"{rejected:,} records rejected")
        for group in groups:
            behind = distance(group.trained, log_end)
            parts.append(
                f"{group.name}: lag {behind:,}" + ("" if group.readers else f", silent {group.silent_s:.0f} s")
            )
        return "  ".join(parts if groups else [*parts, "no group reads"])
