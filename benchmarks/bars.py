"""What the figures must show: each bar, its measured value, and whether it is met."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results import Figure, Results


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the figures that must clear a bar: a number, or its ratio to others of the same round."""

    label: str
    over: Figure
    under: Sequence[Figure] = ()
    """The largest of these that was measured divides; none: the number stands for itself."""

    def median(self, results: Results) -> float | None:
        """The median over the rounds, of ratios within a round where it is one; None where it was not measured."""
        values = results.ratios(self.over, self.under) if self.under else results.values(*self.over)
        return statistics.median(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar is met where each part that was measured clears it, and at least one was measured."""

    measure: str
    """What is measured."""
    side: Literal["≥", "≤"]
    bound: float | None
    """None: the figure is shown and judged by nobody."""
    parts: Sequence[Part]
    unit: str = ""
    """Stands behind the numbers."""
    scale: float = 1.0
    """Multiplied before a part is compared and shown."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a bar."""

    bar: Bar
    figures: Sequence[tuple[str, float | None]]
    """By label; None where it was not measured."""
    met: bool | None
    """None where nothing was measured, or there is nothing to hold it against."""


def judge(bar: Bar, results: Results) -> Verdict:
    """Hold the figures against the bar."""
    medians = [(part.label, part.median(results)) for part in bar.parts]
    figures = [(label, None if value is None else value * bar.scale) for label, value in medians]
    known = [value for _, value in figures if value is not None]
    if bar.bound is None:
        return Verdict(bar=bar, figures=figures, met=None)
    cleared = [value >= bar.bound if bar.side == "≥" else value <= bar.bound for value in known]
    return Verdict(bar=bar, figures=figures, met=all(cleared) if known else None)
