"""What the fault tests share: the table that they fill in, and where their trainers are forked from."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from tests.trainer.lives import Nursery


class Row(Protocol):
    """Fills in one row of the table: which fault, how it was caused, what was seen."""

    def __call__(self, number: int, caused: str, seen: str) -> None: ...


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Row:
    def record(number: int, caused: str, seen: str) -> None:
        record_property("fault", (number, caused, seen))

    return record


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `make test-faults`: a row for each fault that was caused and survived."""
    if terminalreporter.config.option.markexpr not in ("faults", "long"):
        return
    passed = terminalreporter.stats.get("passed", [])
    rows = sorted(value for report in passed for name, value in report.user_properties if name == "fault")
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line("| # | caused | seen |\n| --- | --- | --- |")
        for number, caused, seen in rows:
            terminalreporter.write_line(f"| {number} | {caused} | {seen} |")
