"""What is drawn for a record depends on its own number and the seed."""

import numpy as np
import pytest

from protocol.draws import drawn, drawn_bits


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_numbers_are_drawn_evenly_and_each_without_the_others(seed: int) -> None:
    numbers = np.arange(100_000, dtype=np.int64)
    values = drawn(seed, numbers)
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert abs(counts - 5000).max() < 400  # 5.8 standard deviations
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    assert np.array_equal(drawn(seed, numbers[7::13]), values[7::13])
    assert abs(np.corrcoef(values, drawn(seed + 1, numbers))[0, 1]) < 0.02


def test_numbers_are_drawn_alike_for_ever() -> None:
    assert drawn_bits(0, np.arange(2)).tolist() == [12035550249420947055, 12935080325729570654]
