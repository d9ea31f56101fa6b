"""What the fault tests share: how they fill in their table, which tests/conftest.py prints."""

from collections.abc import Callable
from typing import Protocol

import pytest


class Row(Protocol):
    """Fills in one row of the table: which fault, how it was caused, what was seen."""

    def __call__(self, number: int, caused: str, seen: str) -> None: ...


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Row:
    def record(number: int, caused: str, seen: str) -> None:
        record_property("fault", (number, caused, seen))

    return record
