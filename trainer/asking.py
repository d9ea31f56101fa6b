"""Asking a producer what its stream is without waiting for it."""

import threading
from collections.abc import Iterator

from protocol.errors import StreamTimeout
from protocol.messages import Description
from trainer.ahead import Ahead
from trainer.reading import Reading


class Asking:
    """One question, with where the moment `time_ns` lies in the stream, on a thread of its own; `bell` is set when it
    was answered.
    """

    def __init__(self, reading: Reading, bell: threading.Event, time_ns: int | None = None) -> None:
        self._reading, self._time_ns = reading, time_ns
        self._given_up = threading.Event()
        self._ahead = Ahead(self._ask, 1, bell=bell)

    def answer(self) -> Description | None:
        """What the producer says, once; None as long as it says nothing. Raises what it has met, `AccessDenied` say."""
        return self._ahead.next(wait=False)

    def close(self) -> None:
        """Give up; takes a second at most."""
        self._given_up.set()
        self._ahead.close()

    def _ask(self) -> Iterator[Description]:
        with self._reading.open() as reader:
            yield reader.describe(time_ns=self._time_ns, on_wait=self._look)

    def _look(self, waited_s: float) -> None:
        if self._given_up.is_set():
            raise StreamTimeout(f"given up after {waited_s:.0f} s")
