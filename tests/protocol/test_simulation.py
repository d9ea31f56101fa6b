import os
from typing import Final

import pytest

from tests.protocol.simulator import Simulation

SCHEDULES: Final = 2000
SLICES: Final = 20


@pytest.mark.parametrize("first", range(0, SCHEDULES, SCHEDULES // SLICES))
def test_every_record_is_delivered_once_and_in_order_whatever_the_links_and_the_lives(first: int) -> None:
    seeds = range(first, first + SCHEDULES // SLICES)
    if "SEED" in os.environ:
        seeds = range(int(os.environ["SEED"]), int(os.environ["SEED"]) + 1)
    for seed in seeds:
        try:
            Simulation(seed).play()
        except Exception as error:
            pytest.fail(f"SEED={seed} repeats it: {type(error).__name__}: {error}")
