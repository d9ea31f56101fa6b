"""Whose records the next batch has: of all streams in proportion, or of the one that has a batch ready."""

import logging
from collections.abc import Sequence

from protocol.errors import StreamError
from trainer.arrivals import Asked
from trainer.loader import StreamLoader
from trainer.mix import OnAway
from trainer.taps import Taps

logger = logging.getLogger(__name__)


class Choice:
    """Of one mix, over all of its iterations; remembers what was said of streams that are missing.

    In proportion a stream that is silent is waited for, and one whose producer is away as `on_away` says.
    """

    def __init__(self, loaders: Sequence[StreamLoader], order: Asked, on_away: OnAway, without_after_s: float) -> None:
        self._loaders, self._order = loaders, order
        self._on_away, self._without_after_s = on_away, without_after_s
        #: Numbers of those that batches are made without, because they are away; and of those that have ended.
        self._without: set[int] = set()
        self._ended: set[int] = set()

    def of(self, taps: Taps) -> Sequence[int]:
        """The streams of the next batch, by number; none where it must be waited for.

        Raises `StreamError` where a producer is away and that shall end the run.
        """
        if self._on_away == "stop":
            self._check_there(taps)
        if self._order == "arrival":
            return taps.next_turn()
        if not taps.ready or not all(self._leaves_out(number) for number in taps.waited_for):
            return ()
        for number in self._without & taps.ready.keys():
            self._without.discard(number)
            logger.info("the producer at %s is back: its records are in the batches again", self._loaders[number].url)
        return sorted(taps.ready)

    def say_ended(self, numbers: Sequence[int], taps: Taps) -> None:
        """These streams have ended; said once, where there are others."""
        for number in numbers:
            if number not in self._ended and (taps.ready or taps.waited_for):
                self._ended.add(number)
                logger.info("the stream at %s has ended: going on without it", self._loaders[number].url)

    def _check_there(self, taps: Taps) -> None:
        for loader in (self._loaders[number] for number in taps.opened):
            if (away_s := loader.away_s) is not None and away_s >= self._without_after_s:
                raise StreamError(f"the producer at {loader.url} has been away for {away_s:.0f} s")

    def _leaves_out(self, number: int) -> bool:
        loader = self._loaders[number]
        away_s = loader.away_s
        if self._on_away == "wait" or away_s is None or away_s < self._without_after_s:
            return False
        if number not in self._without:
            self._without.add(number)
            logger.warning("the producer at %s is away: going on without it, in smaller batches", loader.url)
        return True
