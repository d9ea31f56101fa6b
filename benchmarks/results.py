"""What all cells of a run gave, round by round, and the arithmetic on it: medians, extremes, ratios."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.cell import Cell, Outcome

Key = tuple[str, str]
#: (group, row, number)
Figure = tuple[str, str, str]


@dataclass(frozen=True)
class Summary:
    """A number over the rounds."""

    median: float
    least: float
    most: float


@dataclass
class Results:
    """The outcomes of each cell, one a round; None where it was not its turn."""

    rounds: dict[Key, list[Outcome | None]] = field(default_factory=dict)

    def add(self, cell: Cell, outcome: Outcome, number: int) -> None:
        """What came of a cell in a round."""
        outcomes = self.rounds.setdefault((cell.group, cell.name), [])
        outcomes.extend([None] * (number + 1 - len(outcomes)))
        outcomes[number] = outcome

    def rows(self, group: str) -> list[str]:
        """The rows of a group, in their order."""
        return [name for of, name in self.rounds if of == group]

    def values(self, group: str, row: str, number: str = "rate") -> list[float]:
        """A number of a row in each round that gave it."""
        return [value for value in self.by_round(group, row, number) if value is not None]

    def by_round(self, group: str, row: str, number: str = "rate") -> list[float | None]:
        """A number of a row in each round; None where the cell failed or was not played."""
        outcomes = self.rounds.get((group, row), [])
        return [None if outcome is None else outcome.numbers.get(number) for outcome in outcomes]

    def summary(self, group: str, row: str, number: str = "rate") -> Summary | None:
        """Median and extremes; None where no round gave the number."""
        return summary(self.values(group, row, number))

    def ratios(self, over: Figure, under: Sequence[Figure]) -> list[float]:
        """`over` by the largest of `under`, of those rounds in which it and one of them were measured."""
        measured = [rates for each in under if (rates := self.by_round(*each))]
        found = []
        for number, top in enumerate(self.by_round(*over)):
            known = [rate for rates in measured for rate in rates[number : number + 1] if rate is not None]
            if top is not None and known and max(known) > 0:
                found.append(top / max(known))
        return found

    def error(self, group: str, row: str) -> str:
        """Why the cell failed when it last did; empty where it never did."""
        outcomes = self.rounds.get((group, row), [])
        return next((outcome.error for outcome in reversed(outcomes) if outcome is not None and outcome.error), "")


def summary(values: Sequence[float]) -> Summary | None:
    """Median and extremes; None of nothing."""
    return Summary(statistics.median(values), min(values), max(values)) if values else None
