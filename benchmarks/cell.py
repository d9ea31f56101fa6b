"""A cell: one measurement, made by a function in a fresh process that nothing has used before.

Torch takes seconds to import, so the processes are forked from one that has imported everything and used nothing
(`benchmarks.forker`). Each leads a session of its own, which is killed as a whole when its result is there or its
time is over.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from protocol.errors import HeadraceError

ROOT: Final = Path(__file__).parents[1]
#: One thread for an operation on all sides: the other cores belong to readers and producer.
ONE_THREAD: Final = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

Numbers = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Which function of which module is called with which arguments, and where its numbers stand in the tables."""

    group: str
    """The group of rows that it belongs to."""
    name: str
    """The row; unique in its group."""
    function: str
    """`module:function`; it takes `arguments` by keyword and gives numbers by name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, as JSON can say them."""
    timeout_s: float = 60.0
    rounds: int = 0
    """In at most so many rounds; 0: in all of them."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one cell in one round: numbers, or one line that says why there are none."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


class ForkerDied(HeadraceError):
    """The process that cells are forked from has ended."""


class Cells:
    """Plays cells, one at a time. To be used as a context."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.forker"],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us alone, and the forker through the end of its input
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.close()
        self._forker.wait()
        self._forker.stdout.close()

    def play(self, cell: Cell) -> Outcome:
        """One fresh process, one result. Raises `ForkerDied`."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        request = {"function": cell.function, "arguments": dict(cell.arguments), "timeout_s": cell.timeout_s}
        try:
            print(json.dumps(request), file=self._forker.stdin, flush=True)
            answer = self._forker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ForkerDied("the process that cells are forked from has ended; what it said stands above")
        return Outcome(**json.loads(answer))
