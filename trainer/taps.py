"""Several streams in one iteration: what each has ready, and which have ended."""

import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack

from protocol.errors import HeadraceError
from trainer.batch import Batch, Part
from trainer.loader import StreamLoader

logger = logging.getLogger(__name__)


class Taps:
    """One of each stream that was opened, by its number. What is `ready` was not handed out: closed, it comes again."""

    def __init__(self, loaders: Sequence[StreamLoader], bell: threading.Event) -> None:
        self._loaders, self._bell = loaders, bell
        self._open: dict[int, Generator[Batch | None]] = {}
        self.ready: dict[int, Batch] = {}
        self._last = -1

    def open(self, number: int) -> None:
        """Another stream has come."""
        self._open[number] = self._loaders[number].polled(self._bell)

    @property
    def opened(self) -> Sequence[int]:
        """Those that have not ended."""
        return list(self._open)

    @property
    def waited_for(self) -> list[int]:
        """Those that have nothing ready and may have something yet."""
        return [number for number in self._open if number not in self.ready]

    def poll(self) -> list[int]:
        """Look what has become ready; returns those that have ended."""
        ended = []
        for number in self.waited_for:
            try:
                batch = next(self._open[number])
            except StopIteration:
                del self._open[number]
                ended.append(number)
                continue
            except HeadraceError:
                logger.warning("the stream at %s cannot go on", self._loaders[number].url)
                raise
            if batch is not None:
                self.ready[number] = batch
        return ended

    def next_turn(self) -> list[int]:
        """Of those that have something ready, the one after whose turn it was last: a busy one starves nobody."""
        turn = min(self.ready, key=lambda number: (number <= self._last, number), default=None)
        return [] if turn is None else [turn]

    def take(self, numbers: Sequence[int]) -> tuple[Part, ...]:
        """What these have ready is handed out."""
        parts = tuple(Part(number, self.ready.pop(number)) for number in numbers)
        for part in parts:
            self._loaders[part.stream].hand(part.batch)
            self._last = part.stream
        return parts

    def close(self) -> None:
        """End the readers of all streams."""
        self.ready.clear()
        with ExitStack() as each:  # all of them, whatever one of them raises
            for tap in self._open.values():
                each.callback(tap.close)
