"""The order in which cells are played, and for how long."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import session
from benchmarks.cell import Cell, Outcome
from benchmarks.results import Results
from benchmarks.rows.group import Group
from benchmarks.settings import Settings


class Played:
    """Stands in for the processes, on a clock that only they move."""

    def __init__(self, took_s: float) -> None:
        self.order: list[str] = []
        self.now_s, self._took_s = 0.0, took_s

    def measure(self, groups: Sequence[Group], settings: Settings) -> Results:
        return session.measure_all(groups, settings, self, lambda _done, _due, _text: None, clock=lambda: self.now_s)

    def __call__(self, cell: Cell) -> Outcome:
        self.order.append(cell.name)
        self.now_s += self._took_s
        return Outcome(error="it broke") if cell.name == "broken" else Outcome(numbers={"rate": self.now_s})


def group(*names: str, **facts: Any) -> Group:
    cells = [Cell(group="g", name=name, function="", **facts) for name in names]
    return Group(name="g", title="", note="", cells=lambda _settings: cells)


def test_cells_take_turns_round_after_round() -> None:
    played = Played(took_s=1)
    played.measure([group("a", "b"), group("once", rounds=1)], Settings(rounds=3))
    assert played.order == ["a", "b", "once", "a", "b", "a", "b"]


def test_a_cell_that_fails_is_a_result_and_the_others_go_on() -> None:
    results = Played(took_s=1).measure([group("broken", "b")], Settings(rounds=2))
    assert results.error("g", "broken") == "it broke"
    assert results.values("g", "b") == [2, 4]


@pytest.mark.parametrize(("rounds", "played_rounds"), [(0, 2), (3, 3)])
def test_a_round_that_does_not_fit_is_not_begun_unless_asked_for(rounds: int, played_rounds: int) -> None:
    played = Played(took_s=300)
    played.measure([group("a")], Settings(rounds=rounds))
    assert played.order == ["a"] * played_rounds
