"""The report's pictures."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="drawn with the extra `bench`")

from PIL import Image

from benchmarks.cell import Cell, Outcome
from benchmarks.plots import draw, short
from benchmarks.results import Results
from benchmarks.rows import age, delivered, training


def test_a_picture_is_drawn_of_what_was_measured(tmp_path: Path) -> None:
    results = Results()
    for group, row, numbers in (
        ("delivered", delivered.row(0, 64), {"rate": 1e6}),
        ("peers", "naive, batch 64", {"rate": 5e4}),
        ("training", training.row("LeNet", "in memory", 64), {"rate": 100.0}),
        ("training", training.row("LeNet", "workers 0", 64), {"rate": 97.0}),
        ("age", age.row(1000, 2), {"age_p50_ms": 1.5, "age_p99_ms": 3.0}),
    ):
        results.add(Cell(group=group, name=row, function=""), Outcome(numbers=numbers), 0)
    written = draw(results, tmp_path)
    assert [path.name for path in written] == ["delivered.png", "training.png", "age.png"]
    for path in written:
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or []) > 2


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert draw(Results(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (20_000.0, "20 k"), (1_500_000.0, "1.5 M")])
def test_an_axis_says_counts_as_people_do(value: float, text: str) -> None:
    assert short(value) == text
