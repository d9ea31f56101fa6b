"""Asking a producer what its stream is while other things go on."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from protocol.errors import StreamTimeout
from protocol.messages import Description
from protocol.subscription import Away, ReaderSettings
from trainer.ahead import Ahead
from trainer.reading import Reading

#: Whoever waits for an answer looks this often what else is due.
LOOK_S: Final = 0.25
#: A producer that has said nothing for this long is away, as it is for a reader.
AWAY_AFTER_S: Final = ReaderSettings.away_after_s

#: Whether an answer says what is to be known.
Enough = Callable[[Description], bool]


class Asking:
    """Asks on a thread of its own, with where the moment `time_ns` lies in the stream, until an answer is `enough`.

    For somebody who waits for several streams `bell` is set when there is one; for others `answer` waits a little.
    """

    def __init__(
        self,
        reading: Reading,
        bell: threading.Event | None = None,
        *,
        time_ns: int | None = None,
        enough: Enough = lambda _: True,
    ) -> None:
        self._reading, self._time_ns, self._enough = reading, time_ns, enough
        self.waits = bell is None
        self._bell = bell or threading.Event()
        self._given_up = threading.Event()
        self._heard_s, self._said_away = time.monotonic(), False
        self._ahead = Ahead(self._ask, 1, bell=self._bell)

    def answer(self) -> Description | None:
        """What the producer says, once; None as long as it does not. Raises what it has met, `AccessDenied` say."""
        if self.waits:
            self._bell.wait(LOOK_S)
        return self._ahead.next(wait=False)

    def away(self) -> Away | None:
        """That the producer is away, which has to answer; said once."""
        silent_s = time.monotonic() - self._heard_s
        if self._said_away or silent_s < AWAY_AFTER_S:
            return None
        self._said_away = True
        return Away(silent_s)

    def close(self) -> None:
        """Give up; takes a second at most."""
        self._given_up.set()
        self._ahead.close()

    def _ask(self) -> Iterator[Description]:
        with self._reading.open() as reader:
            while True:
                said = reader.describe(time_ns=self._time_ns, on_wait=self._look)
                self._heard_s = time.monotonic()
                if self._enough(said):
                    yield said
                    return
                self._given_up.wait(LOOK_S)
                self._look(0.0)

    def _look(self, waited_s: float) -> None:
        if self._given_up.is_set():
            raise StreamTimeout(f"given up after {waited_s:.0f} s")
