"""Where the time of the training thread goes: a stopwatch that always runs for exactly one stage.

The stages are those that a sample passes (source, wire, reader, loader, copy, augment, step) and what happens at
intervals (checkpoint, validation); `other` is telemetry and whatever is left. So their sum is the wall time. On CUDA
the host runs ahead of the device and pays where it waits for it, which is often the copy or the next report.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from protocol.subscription import Waited

#: What a reader may be waited for for; only the readers know which.
WAITED_FOR: Final = ("source", "wire", "reader")
STAGES: Final = (*WAITED_FOR, "loader", "copy", "augment", "step", "checkpoint", "validation", "other")
#: The time in which the loader waits for its readers, until they have said what for.
WAITING: Final = "waiting"


class Stages:
    """Seconds by stage. Belongs to one thread; `enter` costs a look at the clock and an addition."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self.begin()

    def begin(self) -> None:
        """Forget everything; from here on the time is counted."""
        self._seconds = dict.fromkeys((*STAGES, WAITING), 0.0)
        self._told = dict(self._seconds)
        self._division = {"source": 1.0}
        self._stage, self._since_s = "other", self._clock_s()

    def enter(self, stage: str) -> str:
        """From now on the time is this stage's. Returns the one before, which a nested one enters again at its end."""
        now_s = self._clock_s()
        self._seconds[self._stage] += now_s - self._since_s
        previous, self._stage, self._since_s = self._stage, stage, now_s
        return previous

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """`enter`, and back again in the end."""
        previous = self.enter(stage)
        try:
            yield
        finally:
            self.enter(previous)

    def blame(self, waited: Waited) -> None:
        """A reader says what it spent its time on: what was waited since another said so is divided like that."""
        spent = {"source": waited.source_s, "wire": waited.wire_s, "reader": waited.reader_s}
        total = sum(spent.values())
        if total > 0:
            self._division = {stage: seconds / total for stage, seconds in spent.items()}
            self._divide()

    def since_last(self) -> dict[str, float]:
        """Shares of the time since this was last asked; their sum is 1."""
        seconds = self._settled()
        since = {stage: seconds[stage] - self._told[stage] for stage in STAGES}
        self._told = seconds
        return _shares(since)

    def of_all(self) -> dict[str, float]:
        """Shares of the time since `begin`; their sum is 1."""
        return _shares(self._settled())

    def seconds(self) -> dict[str, float]:
        """Seconds since `begin`, by stage."""
        return {stage: self._settled()[stage] for stage in STAGES}

    def _settled(self) -> dict[str, float]:
        self.enter(self._stage)
        self._divide()
        return dict(self._seconds)

    def _divide(self) -> None:
        """What nobody has spoken of yet goes where the time went last; before that, to the source."""
        waiting, self._seconds[WAITING] = self._seconds[WAITING], 0.0
        for stage, share in self._division.items():
            self._seconds[stage] += share * waiting


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    total = sum(seconds[stage] for stage in STAGES)
    return {stage: seconds[stage] / total if total > 0 else float(stage == "other") for stage in STAGES}
