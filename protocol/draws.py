"""Numbers that are drawn for a record: a function of the seed and the record's own number, whatever came before."""

import numpy as np
import numpy.typing as npt


def drawn(seed: int, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A number from 0 to less than 1 for each of `numbers`, evenly and without a pattern.

    `seed` has 64 bits; whoever draws for a purpose of its own takes another one.
    """
    return np.asarray((drawn_bits(seed, numbers) >> np.uint64(11)) * 2.0**-53, np.float64)


def drawn_bits(seed: int, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """64 random bits for each of `numbers`: splitmix64.

    The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), whose n-th
    value needs none before it.
    """
    with np.errstate(over="ignore"):
        return _mixed(_mixed(np.array([seed], np.uint64) + _STEP) + _STEP * (numbers.astype(np.uint64) + np.uint64(1)))


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
