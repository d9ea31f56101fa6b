"""A program to be killed: `python -m tests.producer.two_writers FOLDER SEED` appends to a log on disk for ever.

Two writers, one record or several at a time; some of their records are passed over. A line each time.
"""

import random
import sys
from pathlib import Path

import numpy as np

from producer.append_log import LogSettings
from producer.open_log import open_log
from protocol.schema import Field, Schema

SCHEMA = Schema((Field("n", "int64"), Field("writer", "int64")))
EVERY = 7


def let_in(number: int) -> bool:
    """Whether the record of this number is not passed over."""
    return number % EVERY != 3


def main(folder: Path, drawn: random.Random) -> None:
    """Goes on where the folder says that each writer was."""
    log = open_log(SCHEMA, 2, LogSettings(path=str(folder), linger=1), source="test")
    assert log is not None
    while True:
        writer = drawn.randrange(2)
        due = log.taken(name := str(writer))
        if let_in(due):
            most = next(rows for rows in range(1, EVERY) if not let_in(due + rows))
            numbers = np.arange(due, due + drawn.randint(1, most))
            log.append_columns({"n": numbers, "writer": np.full(len(numbers), writer)}, writer=(name, due))
        else:
            log.pass_over((name, due))
        if drawn.random() < 0.1:
            log.flush()
        print(due, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), random.Random(sys.argv[2]))
