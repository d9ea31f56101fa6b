"""One run of the benchmarks: all cells of the chosen groups, round after round, each in its turn."""

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.cell import Cell, Outcome
from benchmarks.results import Results
from benchmarks.rows.group import Group
from benchmarks.settings import Settings

#: Told before each cell: how many are done, how many there will be, and which is next.
OnCell = Callable[[int, int, str], None]


def turns(groups: Sequence[Group], settings: Settings) -> list[tuple[int, Group, Cell]]:
    """(round, group, cell) in the order in which they are played: what drifts meanwhile drifts for all alike."""
    cells = [(group, cell) for group in groups for cell in group.cells(settings)]
    return [
        (number, group, cell)
        for number in range(settings.rounds_due)
        for group, cell in cells
        if cell.rounds == 0 or number < cell.rounds
    ]


def measure_all(
    groups: Sequence[Group], settings: Settings, play: Callable[[Cell], Outcome], on_cell: OnCell
) -> Results:
    """Play every cell in its turn; one that fails is a result as well."""
    results, due = Results(), turns(groups, settings)
    for done, (number, group, cell) in enumerate(due):
        say = partial(on_cell, done, len(due))
        say(f"{cell.group}: {cell.name}")
        results.add(cell, play(cell) if group.play is None else group.play(cell, say), number)
    return results
