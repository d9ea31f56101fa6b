"""The arithmetic between the cells and the verdicts."""

import pytest

from benchmarks import groups
from benchmarks.bars import Bar, Part, judge
from benchmarks.cell import Cell, Outcome
from benchmarks.promises import bars
from benchmarks.report import bar_table
from benchmarks.results import Results, Summary
from benchmarks.settings import Settings


def results(**rows: list[float | None]) -> Results:
    """Rates by row and round; None for a cell that failed."""
    found = Results()
    for name, rates in rows.items():
        for number, rate in enumerate(rates):
            outcome = Outcome(error="it broke") if rate is None else Outcome(numbers={"rate": rate})
            found.add(Cell(group="g", name=name, function=""), outcome, number)
    return found


def part(over: str, *under: str) -> Part:
    return Part(label=over, over=("g", over, "rate"), under=[("g", each, "rate") for each in under])


def test_a_row_is_its_median_with_the_least_and_the_most() -> None:
    assert results(a=[5, 1, 2]).summary("g", "a") == Summary(2, 1, 5)
    assert results(a=[4, None, 2]).summary("g", "a") == Summary(3, 2, 4)
    assert results(a=[None]).summary("g", "a") is None


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    # The machine was ten times slower in the second round: the medians' own ratio would be 2 / 4.
    found = results(ours=[8, 0.2, 2], theirs=[10, 1, 4])
    assert part("ours", "theirs").median(found) == pytest.approx(0.5)
    found = results(ours=[8, 0.9, 2], theirs=[10, 1, 4])
    assert part("ours", "theirs").median(found) == pytest.approx(0.8)


def test_a_round_in_which_one_side_failed_counts_for_no_ratio() -> None:
    assert part("ours", "theirs").median(results(ours=[None, 3, 9], theirs=[1, 4, None])) == 0.75
    assert part("ours", "theirs").median(results(ours=[None, 3], theirs=[1, None])) is None


def test_the_best_of_several_divides_in_each_round() -> None:
    found = results(one=[4, 8], two=[8, 4])
    assert part("one", "one", "two").median(found) == pytest.approx(0.75)


@pytest.mark.parametrize(("rate", "met"), [(0.81, True), (0.8, True), (0.79, False)])
def test_a_bar_is_met_from_its_bound_on(rate: float, *, met: bool) -> None:
    verdict = judge(Bar(measure="m", side="≥", bound=0.8, parts=[part("a")]), results(a=[rate]))
    assert verdict.met is met
    assert ("**not met**" in bar_table([verdict])) is not met


def test_a_bar_from_above_is_met_up_to_its_bound() -> None:
    bar = Bar(measure="m", side="≤", bound=2.0, parts=[part("a")], scale=100)
    assert judge(bar, results(a=[0.02])).met
    assert judge(bar, results(a=[0.021])).met is False


def test_one_part_that_falls_short_is_enough() -> None:
    bar = Bar(measure="m", side="≥", bound=0.8, parts=[part("a"), part("b")])
    assert judge(bar, results(a=[1.0], b=[0.5])).met is False


def test_what_was_not_measured_is_no_verdict_and_no_line() -> None:
    verdict = judge(Bar(measure="m", side="≥", bound=0.8, parts=[part("a")]), results(a=[None]))
    assert verdict.met is None
    assert "None was measured" in bar_table([verdict])


def test_a_figure_without_a_bound_is_shown_and_not_judged() -> None:
    verdict = judge(Bar(measure="m", side="≥", bound=None, parts=[part("a")]), results(a=[0.5]))
    assert verdict.met is None
    assert "| a: 0.5" in bar_table([verdict])
    assert "met" not in bar_table([verdict])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_bar_is_held_against_rows_that_exist(device: str) -> None:
    rows = {
        (cell.group, cell.name)
        for quick in (False, True)
        for name in groups.NAMES
        for cell in groups.load(name).cells(Settings(device=device, quick=quick, peers=True, long=True))
    }
    figures = {figure for bar in bars(device) for each in bar.parts for figure in (each.over, *each.under)}
    missing = {(group, row) for group, row, _ in figures if (group, row) not in rows}
    # A quick run of `memory` reads in a thread alone.
    assert missing == {("memory", "workers 2, 2,000,000 records")}


def test_no_two_rows_of_a_group_share_a_name() -> None:
    for name in groups.NAMES:
        cells = groups.load(name).cells(Settings(peers=True, long=True))
        assert len({(cell.group, cell.name) for cell in cells}) == len(cells), name
        assert {cell.group for cell in cells} <= {name}
