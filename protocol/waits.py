"""Where a reader's time goes: what it waited for, as far as it and its server can tell."""

from protocol.subscription import Waited

SAY_EVERY_S = 1.0


class Waits:
    """Adds up the seconds of one subscription, on the reader's side. Times are seconds of any monotonic clock.

    The server says for how long it had nothing to send; what the reader waited beyond that is the wire's. A message
    that is long under way tells only on arrival what was waited for, so nothing is said before one has come.
    """

    def __init__(self, now_s: float) -> None:
        self._said_s = now_s
        self._polled_s = self._worked_s = 0.0
        self._source_s = 0.0

    def add(self, *, polled_s: float, worked_s: float) -> None:
        """The reader has waited for a message, and has worked on what came."""
        self._polled_s += polled_s
        self._worked_s += worked_s

    def take(self, now_s: float, *, source_s: float, heard: bool, alone: bool) -> Waited | None:
        """What is to be told now, if anything.

        `source_s` is what the server has said over the whole subscription, `heard` whether it has just said something;
        while it does not answer (`alone`) the producer is waited for.
        """
        if now_s - self._said_s < SAY_EVERY_S or not (alone or heard):
            return None
        source = self._polled_s if alone else min(self._polled_s, source_s - self._source_s)
        waited = Waited(source_s=source, wire_s=self._polled_s - source, reader_s=self._worked_s)
        self._said_s, self._source_s = now_s, source_s
        self._polled_s = self._worked_s = 0.0
        return waited
