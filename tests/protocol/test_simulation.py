import os
from typing import Final

import pytest

from tests.protocol.simulator import Simulation

SCHEDULES: Final = 2000
A_TEST: Final = 100

#: SEED=7 plays that schedule alone.
SEEDS = (
    [range(int(os.environ["SEED"]), int(os.environ["SEED"]) + 1)]
    if "SEED" in os.environ
    else [range(first, first + A_TEST) for first in range(0, SCHEDULES, A_TEST)]
)
#: The second half is played in `make test-faults`, and the lower bounds' proof needs but the first: nothing here depends on
#: a library's version.
CASES = [
    pytest.param(
        seeds,
        marks=[pytest.mark.faults] if seeds.start >= SCHEDULES // 2 else [pytest.mark.slow] if seeds.start else [],
    )
    for seeds in SEEDS
]


@pytest.mark.parametrize("seeds", CASES, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_record_is_delivered_in_order_and_once_whatever_happens_to_links_and_lives(seeds: range) -> None:
    for seed in seeds:
        try:
            Simulation(seed).play()
        except Exception as error:
            error.add_note(f"repeat it with SEED={seed}")
            raise
