"""A producer's log that is nearly full asks for a checkpoint: whether one is made for it, and at what price."""

import time
from collections.abc import Callable
from typing import Final

from trainer.loading import Loader

#: A log that asks for room again within this time has found too little.
STILL_FULL_S: Final = 5.0
TOO_SMALL: Final = (
    "the producer's log is full, and all of it is less than a batch or a shuffle window: nothing can go on until it "
    "holds more; give the producer a larger log (--log.bytes), or this run a smaller --shuffle_window or --batch_size"
)


class Room:
    """Remembers when room was last made, and for how much of the stream. `save(alone)` makes a checkpoint, with `alone`
    at the price of the older ones.
    """

    def __init__(
        self,
        loader: Loader,
        save: Callable[[bool], None],
        say: Callable[[str], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loader, self._save, self._say, self._monotonic_s = loader, save, say, monotonic_s
        self._made_s = float("-inf")
        self._made: tuple[int, bool] | None = None
        self._said = False

    def make(self, *, idle: bool = False) -> None:
        """Save, once more and alone where that was not enough, and not again before something has passed.

        Then the log waits for another group, or for more than this run has trained: where it is `idle` with all of the
        log in hand nothing can go on, which is said once.
        """
        position, now_s = self._loader.position, self._monotonic_s()
        position.save_soon = False
        # Not batches: records that are left out pass without any.
        asked = position.passed, now_s - self._made_s < STILL_FULL_S
        if asked != self._made:
            self._made, self._made_s = asked, now_s
            self._save(asked[1])
        elif idle and not self._said and sum(self._loader.in_hand().values()) >= position.lag > 0:
            self._said = True
            self._say(TOO_SMALL)
