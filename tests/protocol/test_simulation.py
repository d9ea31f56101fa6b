import os
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.protocol.simulator import Simulation

SCHEDULES: Final = 2000
A_TEST: Final = 100


def cases() -> Iterator[Any]:
    """SEED=7 plays that schedule alone.

    Else `make test` plays the first quarter, and `make test-faults` the others.
    """
    if "SEED" in os.environ:
        yield range(int(os.environ["SEED"]), int(os.environ["SEED"]) + 1)
        return
    for first in range(0, SCHEDULES, A_TEST):
        mark = [pytest.mark.faults] if first >= SCHEDULES // 4 else []
        yield pytest.param(range(first, first + A_TEST), marks=mark)


@pytest.mark.parametrize("seeds", list(cases()), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_record_is_delivered_in_order_and_once_whatever_happens_to_links_and_lives(seeds: range) -> None:
    for seed in seeds:
        try:
            Simulation(seed).play()
        except Exception as error:
            error.add_note(f"repeat it with SEED={seed}")
            raise
