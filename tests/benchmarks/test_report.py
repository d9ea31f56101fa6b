"""How figures are written."""

import pytest

from benchmarks.cell import Cell, Outcome
from benchmarks.report import number, table
from benchmarks.results import Results
from benchmarks.rows.group import Column, Group


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (2.0, "2"),
        (999.4, "999"),
        (999.6, "1,000"),
        (1234.0, "1,230"),
        (12_345_678.0, "12,300,000"),
    ],
)
def test_a_figure_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_row_shows_extremes_where_rounds_differ_and_why_a_cell_failed() -> None:
    results = Results()
    outcomes = {
        "alike": [Outcome(numbers={"rate": 5.0})] * 2,
        "apart": [Outcome(numbers={"rate": 4.0}), Outcome(numbers={"rate": 6.0})],
        "broken": [Outcome(error="it | broke")] * 2,
        "broken once": [Outcome(error="it broke"), Outcome(numbers={"rate": 7.0})],
    }
    for name, each in outcomes.items():
        for number_, outcome in enumerate(each):
            results.add(Cell(group="g", name=name, function=""), outcome, number_)
    group = Group(name="g", title="T", note="N", cells=lambda _settings: [], columns=(Column("rate", "kB/s", 1e3),))
    lines = [" ".join(line.split()) for line in table(group, results).splitlines()]
    assert "| alike | 5,000 |" in lines
    assert "| apart | 5,000 (4,000 – 6,000) |" in lines
    assert "| broken | failed: it \\| broke |" in lines
    assert "| broken once | 7,000 failed: it broke |" in lines
