"""How often something that happens again and again is said, so that a flood of it cannot flood a log."""

import math


class RateLimit:
    """Lets the first one through, and then at most one each `every_s` seconds of any monotonic clock."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s = -math.inf
        self._waiting = 0
        #: How many were held back before the last one that went through: whoever says that one says them with it.
        self.held = 0

    def allows(self, now_s: float) -> bool:
        """Whether this one may be said."""
        if now_s < self._next_s:
            self._waiting += 1
            return False
        self._next_s = now_s + self._every_s
        self.held, self._waiting = self._waiting, 0
        return True
