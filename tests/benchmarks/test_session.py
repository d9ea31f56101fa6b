"""The order in which cells are played, and for how long."""

from typing import Any

import pytest

from benchmarks import session
from benchmarks.cell import Cell, Outcome
from benchmarks.rows.group import Group
from benchmarks.settings import Settings


class Played:
    """Stands in for the processes, on a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, took_s: float) -> None:
        self.order: list[str] = []
        self.now_s, self._took_s = 0.0, took_s
        monkeypatch.setattr(session.time, "monotonic", lambda: self.now_s)

    def __call__(self, cell: Cell) -> Outcome:
        self.order.append(cell.name)
        self.now_s += self._took_s
        return Outcome(error="it broke") if cell.name == "broken" else Outcome(numbers={"rate": self.now_s})


def group(*names: str, **facts: Any) -> Group:
    cells = [Cell(group="g", name=name, function="", **facts) for name in names]
    return Group(name="g", title="", note="", cells=lambda _settings: cells)


def nothing(_done: int, _due: int, _text: str) -> None:
    pass


def test_cells_take_turns_round_after_round(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, 1)
    groups = [group("a", "b"), group("once", rounds=1)]
    session.measure_all(groups, Settings(rounds=3), played, nothing)
    assert played.order == ["a", "b", "once", "a", "b", "a", "b"]


def test_a_cell_that_fails_is_a_result_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    results = session.measure_all([group("broken", "b")], Settings(rounds=2), Played(monkeypatch, 1), nothing)
    assert results.error("g", "broken") == "it broke"
    assert results.values("g", "b") == [2, 4]


@pytest.mark.parametrize(("rounds", "played_rounds"), [(0, 2), (3, 3)])
def test_a_round_that_does_not_fit_is_not_begun_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, rounds: int, played_rounds: int
) -> None:
    played = Played(monkeypatch, 300)
    session.measure_all([group("a")], Settings(rounds=rounds), played, nothing)
    assert played.order == ["a"] * played_rounds
