"""What the fault tests share: how they fill in their table (tests/conftest.py prints it), where trainers are forked."""

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
