"""A link between the two sides that refuses, loses, doubles, delays and overtakes, as a seed decides."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of the messages that meet a fault, and the longest that one is on its way."""

    full: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    late_s: float = 0.001
    overtaking: bool = False


CALM = Faults()


def drawn(draw: Random) -> Faults:
    """Mostly one or two kinds of fault at a time: all at once would hide what one alone brings about."""

    def share(most: float) -> float:
        return draw.uniform(0, most) if draw.random() < 0.4 else 0.0

    late_s = draw.choice((0.001, 0.02, 0.3))
    return Faults(full=share(0.5), lost=share(0.3), doubled=share(0.3), late_s=late_s, overtaking=draw.random() < 0.4)


class Link:
    """One direction. `faults` may be changed at any time."""

    def __init__(self, faults: Faults, draw: Random) -> None:
        self.faults = faults
        self._draw = draw
        self._last_s = 0.0

    def arrivals(self, now_s: float) -> list[float] | None:
        """When a message that is sent now arrives, how often ever; None where the link is full."""
        faults, draw = self.faults, self._draw
        if draw.random() < faults.full:
            return None
        if draw.random() < faults.lost:
            return []
        return [self._arrival(now_s) for _ in range(2 if draw.random() < faults.doubled else 1)]

    def _arrival(self, now_s: float) -> float:
        at_s = now_s + self._draw.uniform(0, self.faults.late_s)
        if not self.faults.overtaking:
            at_s = self._last_s = max(at_s, self._last_s)
        return at_s
