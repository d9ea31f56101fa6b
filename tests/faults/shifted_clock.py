"""A program whose wall clock is wrong: `python -m tests.faults.shifted_clock FILE MODULE ARGUMENTS`.

The file says by how many seconds, and may be changed under way. libfaketime would shift every call of the C library,
but it breaks sleeps on the monotonic clock when the clock jumps (0.9.10: clock_nanosleep(2) fails with EINVAL); the
programs here ask for the time of day through Python alone.
"""

import runpy
import sys
import time
from pathlib import Path


def shift(file: Path) -> None:
    """From here on in this process."""
    right_ns = time.time_ns

    def time_ns() -> int:
        return right_ns() + int(file.read_text() or 0) * 1_000_000_000

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9  # noqa: TID251  (this is the clock)


if __name__ == "__main__":
    shift(Path(sys.argv.pop(1)))
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
