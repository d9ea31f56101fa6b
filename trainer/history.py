"""The past of a run in a few numbers: what a display shows again after a resume."""

import math
from collections.abc import Mapping
from typing import Any

from trainer.report import Fact, Notice, Report, ValidationReport

CAPACITY = 256
NOTICES = 20


class Curve:
    """A value over samples, coarser the longer it gets: fewer than `CAPACITY` points, evenly over the whole run.

    A point is the mean of `stride` values, at the last of them. Values that are not finite are left out.
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self.stride = 1
        self._held = (0, 0.0)  # number and sum of the values of the next point

    def add(self, samples: int, value: float) -> None:
        """Take the next value; `samples` never falls."""
        if not math.isfinite(value):
            return
        count, total = self._held[0] + 1, self._held[1] + value
        self._held = (count, total)
        if count < self.stride:
            return
        self._held = (0, 0.0)
        points = [*self.points, (samples, total / count)]
        if len(points) == CAPACITY:
            pairs = zip(points[::2], points[1::2], strict=True)
            points = [(later[0], (earlier[1] + later[1]) / 2) for earlier, later in pairs]
            self.stride *= 2
        self.points = points  # replaced, never changed: another thread may be drawing the old one

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers in lists."""
        return {"points": [list(point) for point in self.points], "stride": self.stride, "held": list(self._held)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse."""
        self.points = [(int(samples), float(value)) for samples, value in state["points"]]
        self.stride = int(state["stride"])
        self._held = (int(state["held"][0]), float(state["held"][1]))


class History:
    """The losses so far, the last validation and the best one, the last notices."""

    def __init__(self) -> None:
        self.training = Curve()
        self.validation = Curve()
        self.last: ValidationReport | None = None
        self.best: ValidationReport | None = None
        self.notices: tuple[Notice, ...] = ()

    def add(self, fact: Fact) -> None:
        """Keep what is worth keeping of one fact."""
        match fact:
            case Report(samples=samples, train={"loss": loss}):
                self.training.add(samples, loss)
            case ValidationReport(samples=samples, metrics={"loss": loss}):
                self.validation.add(samples, loss)
                self.last = fact
                self.best = fact if fact.best else self.best
            case Notice():
                self.notices = (*self.notices, fact)[-NOTICES:]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and texts."""
        return {
            "training": self.training.state_dict(),
            "validation": self.validation.state_dict(),
            "last": _to_state(self.last),
            "best": _to_state(self.best),
            "notices": [[notice.samples, notice.text] for notice in self.notices],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse; notices of this life stay behind those of the state."""
        self.training.load_state_dict(state["training"])
        self.validation.load_state_dict(state["validation"])
        self.last = _from_state(state["last"])
        self.best = _from_state(state["best"])
        earlier = tuple(Notice(samples=samples, text=text) for samples, text in state["notices"])
        self.notices = (*earlier, *self.notices)[-NOTICES:]


def _to_state(report: ValidationReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {"samples": report.samples, "metrics": dict(report.metrics), "best": report.best}


def _from_state(state: Mapping[str, Any] | None) -> ValidationReport | None:
    return None if state is None else ValidationReport(**state)
