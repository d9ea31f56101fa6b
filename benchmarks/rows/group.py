"""What a group of rows is: its cells and how its table reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.cell import Cell, Outcome
from benchmarks.settings import Settings


@dataclass(frozen=True)
class Column:
    """One column of a table: a number that cells give, scaled for reading."""

    key: str
    """Its name among the cell's numbers."""
    title: str
    scale: float = 1.0
    """Multiplied before it is shown."""


RATE: Final = Column("rate", "records/s")
CPU: Final = Column("cpu_s", "CPU s per million")
MEMORY: Final = Column("memory", "memory MB", 1e-6)
DELIVERY: Final = (RATE, CPU, MEMORY)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are measured alike."""

    name: str
    """What `--only` calls it."""
    title: str
    note: str
    """One or two sentences above the table: what is measured."""
    cells: Callable[[Settings], Sequence[Cell]]
    columns: Sequence[Column] = DELIVERY
    play: Callable[[Cell, Callable[[str], None]], Outcome] | None = None
    """Plays its cells where they are not functions for a fork; told where to say what takes long."""
