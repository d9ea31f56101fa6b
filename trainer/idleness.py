"""The wait for records: who is told of it, how long it may last, and whether somebody has asked for an end."""

import time
from collections.abc import Callable
from typing import Final

from protocol.errors import StreamTimeout, UsageError

#: With a sign of life each `ITEM_S` (trainer/dataset.py) this makes once a second.
IDLE_S: Final = 0.75


class Idleness:
    """After `timeout_s` without a record from `url` the iteration is over: `on_timeout` 'raise' or 'end' says how."""

    def __init__(self, url: str, timeout_s: float | None, on_timeout: str, on_idle: Callable[[], None] | None) -> None:
        if on_timeout not in ("raise", "end"):
            raise UsageError("on_timeout is 'raise' or 'end'")
        self._url, self._timeout_s, self._on_timeout, self.on_idle = url, timeout_s, on_timeout, on_idle
        #: No more batches are wanted.
        self.stopping = False

    def begin(self) -> None:
        """The wait begins: whoever asks has used what came before."""
        self._waiting_since_s = self._said_s = time.monotonic()

    def received(self) -> None:
        """A record has come."""
        self._waiting_since_s = time.monotonic()

    def go_on(self) -> None:
        """Nothing to hand out yet. Raises `StreamTimeout` where that has lasted too long."""
        now_s = time.monotonic()
        if self._timeout_s is not None and now_s - self._waiting_since_s > self._timeout_s:
            if self._on_timeout == "raise":
                raise StreamTimeout(f"no record came from {self._url} for {self._timeout_s:g} s")
            self.stopping = True
        if now_s - self._said_s >= IDLE_S:
            self._said_s = now_s
            if self.on_idle is not None:
                self.on_idle()
