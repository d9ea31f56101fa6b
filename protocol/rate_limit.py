"""Warnings about what strangers can cause as often as they like, so that no log is flooded."""

import logging
from typing import Final

EVERY_S: Final = 60.0


class RateLimit:
    """Of each kind the first warning is logged at once, then at most one in `every_s`, with the number passed over.

    Times are seconds of any monotonic clock. Belongs to one thread. Kinds are kept, so a stranger must not draw them.
    """

    def __init__(self, logger: logging.Logger, every_s: float = EVERY_S) -> None:
        self._logger, self._every_s = logger, every_s
        self._said_s: dict[str, float] = {}
        self._passed_over: dict[str, int] = {}

    def warn(self, kind: str, text: str, now_s: float) -> None:
        """Log the text, or count it."""
        if now_s - self._said_s.get(kind, float("-inf")) < self._every_s:
            self._passed_over[kind] = self._passed_over.get(kind, 0) + 1
            return
        self._said_s[kind] = now_s
        more = self._passed_over.pop(kind, 0)
        self._logger.warning("%s%s", text, f" (and {more} more like it)" if more else "")
