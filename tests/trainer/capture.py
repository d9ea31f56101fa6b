"""A live source of numbered records, as tests/trainer/counting.py expects them. Imports no torch."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np


class Capture:
    """Gives `count` records from number `first` on, and then falls silent, or ends where `ends` says so."""

    def __init__(self, first: int = 0, count: int = 1000, size: int = 1 << 14, ends: bool = False) -> None:  # noqa: FBT001, FBT002  (typed by name on a command line)
        self.first, self.count, self.size, self.ends = first, count, size, ends

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.first, self.first + self.count):
            yield {"id": number, "payload": np.full(self.size, number % 251, np.uint8)}
        while not self.ends:
            time.sleep(0.1)
