"""A CSV file that grows: a record a line, a field a column (numbers as float64, `label` as int64, else text).

    python -m producer --source examples.sources.csv_tail.rows --source.path readings.csv --log.path readings.log
    python -m protocol peek tcp://127.0.0.1:5555

It replays: record n is line n behind the heading, so the file may grow, and nothing else may happen to it.
"""

import csv
import os
import time
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path

from protocol.errors import UsageError

Value = float | int | str


def rows(path: str, poll_s: float = 0.2, *, resume_at: int) -> Iterator[dict[str, Value]]:
    """The file's lines from number `resume_at` on, for ever.

    Args:
        path: file whose first line names the columns
        poll_s: seconds between two looks whether there is more
    """
    table = csv.reader(whole_lines(Path(path), poll_s, due=resume_at + 1 if resume_at else 0))
    names = next(table)
    for cells in islice(table, resume_at, None):
        # A cell that is missing, or one too many, becomes a record that does not fit and is said.
        yield {name: value(name, cell) for name, cell in zip_longest(names, cells, fillvalue="")}


def value(name: str, cell: str) -> Value:
    try:
        return int(cell) if name == "label" else float(cell)
    except ValueError:
        return cell


def whole_lines(path: Path, poll_s: float, due: int) -> Iterator[str]:
    """Lines as they are finished, the first `due` of them at once. Raises `UsageError` where the file was changed."""
    with path.open("rb") as file:
        while True:
            line = file.readline()
            if line.endswith(b"\n"):
                due -= 1
                yield line.decode()
                continue
            file.seek(-len(line), os.SEEK_CUR)  # somebody is writing it
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise UsageError(f"{path} is another file now: begin another log (--log.path)")
            if due > 0 or path.stat().st_size < file.tell():
                raise UsageError(f"{path} has become shorter: it may only grow; begin another log (--log.path)")
            time.sleep(poll_s)
