"""A producer's log that is nearly full asks for a checkpoint: whether one is made for it, and at what price."""

from typing import Final

#: A log that asks for room again within this time has found too little.
STILL_FULL_S: Final = 5.0


class Room:
    """Remembers when room was last made, and for how much of the stream."""

    def __init__(self) -> None:
        self._made_s = float("-inf")
        self._made: tuple[int, bool] | None = None

    def make(self, passed: int, now_s: float) -> bool | None:
        """Asked after so many records have passed: None where nothing can be done, else whether older checkpoints must
        go as well.

        They must where a checkpoint was not enough. Nothing can be done where the log waits for another group, or for
        more than this run has trained.
        """
        asked = passed, now_s - self._made_s < STILL_FULL_S
        if asked == self._made:
            return None
        self._made, self._made_s = asked, now_s
        return asked[1]
