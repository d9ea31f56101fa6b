"""One run of the benchmarks: all cells of the chosen groups, round after round, each in its turn."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.cell import Cell, Outcome
from benchmarks.results import Results
from benchmarks.rows.group import Group
from benchmarks.settings import Settings

#: Seconds that never run backwards.
Clock = Callable[[], float]
#: Told before each cell: how many are done, how many there will be, and which is next.
OnCell = Callable[[int, int, str], None]


def measure_all(
    groups: Sequence[Group],
    settings: Settings,
    play: Callable[[Cell], Outcome],
    on_cell: OnCell,
    *,
    clock: Clock = time.monotonic,
) -> Results:
    """Play every cell in its turn, so that what drifts meanwhile drifts for all alike. One that fails is a result.

    After the first round another one is begun only where it fits into the time that a run may take.
    """
    results, begin_s, took_s = Results(), clock(), dict[str, float]()
    cells = [(group, cell) for group in groups for cell in group.cells(settings)]
    rounds = [[each for each in cells if each[1].rounds == 0 or n < each[1].rounds] for n in range(settings.rounds_due)]
    done = 0
    for number, turns in enumerate(rounds):
        expected_s = sum(took_s.get(key(cell), 0.0) for _, cell in turns)
        if number and clock() - begin_s + expected_s > settings.budget_s:
            break
        for group, cell in turns:
            say = partial(on_cell, done, sum(map(len, rounds)))
            say(key(cell))
            cell_begin_s = clock()
            results.add(cell, play(cell) if group.play is None else group.play(cell, say), number)
            took_s[key(cell)] = clock() - cell_begin_s
            done += 1
    return results


def key(cell: Cell) -> str:
    """A row's name over all groups."""
    return f"{cell.group}: {cell.name}"
