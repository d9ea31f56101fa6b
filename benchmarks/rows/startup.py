"""From nothing to the first trained step."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell, Numbers
from benchmarks.rows.group import Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, serving

NAME: Final = "startup"
ROUNDS: Final = 2
#: Row, workers, and whether the workers' forkserver has imported torch before the clock starts.
ROWS: Final = (("workers 0", 0, False), ("workers 2", 2, False), ("workers 2, forkserver has imported", 2, True))


def cells(settings: Settings) -> Sequence[Cell]:
    """With and without workers."""
    return [
        Cell(
            group=NAME,
            name=name,
            function=f"{__name__}:startup",
            arguments={"data": settings.data, "workers": workers, "imported": imported},
            rounds=ROUNDS,
        )
        for name, workers, imported in ROWS
        if imported or not (settings.quick and workers)
    ]


GROUP: Final = Group(
    name=NAME,
    title="Start",
    note="A fresh interpreter, from where torch (and its optimizers) are imported to where the first batch of 64 of a "
    "running producer has been trained.",
    cells=cells,
    columns=(Column("first_step_s", "first step s"),),
)


def startup(*, data: str, workers: int, imported: bool) -> Numbers:
    """What `benchmarks.first_step` says, in an interpreter of its own."""
    with serving(endless(picture_source(data))) as producer:
        arguments = [producer.url, data, str(workers), *(["--imported"] if imported else [])]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.first_step", *arguments], check=False, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or ["it said nothing"])[-1])
    numbers: Numbers = json.loads(done.stdout)
    return numbers
