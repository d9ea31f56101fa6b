"""Which records are trained on: settings that cannot be meant, and the numbers that are drawn."""

from typing import Any

import pytest

from protocol.errors import UsageError
from trainer.sampling import SamplingSettings


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"shuffle_window": -1}, "from 0 .no shuffling. to 16,777,216 records"),
        ({"balance": True}, "give --shuffle_window, such as 10000"),
        ({"thin": [0.5, 1.5]}, "a share from 0 to 1"),
        ({"thin": [0.0, 0.0]}, "one of them more than 0"),
        ({"holdout": 1.0}, "from 0 to less than 1"),
        ({"holdout": float("nan")}, "from 0 to less than 1"),
        ({"holdout_records": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_mend(settings: dict[str, Any], mend: str) -> None:
    with pytest.raises(UsageError, match=mend):
        SamplingSettings(**settings)


def test_a_run_that_was_begun_otherwise_says_all_that_differs() -> None:
    was = SamplingSettings(shuffle_window=100, holdout=0.1).state_dict(seed=3)
    SamplingSettings(shuffle_window=100, holdout=0.1).check_same(was, seed=3)
    with pytest.raises(UsageError, match="seed was 3, is 4: give these again"):
        SamplingSettings(shuffle_window=100, holdout=0.1).check_same(was, seed=4)
    with pytest.raises(UsageError, match=r"shuffle_window was 100, is 0; holdout was 0.1, is 0.2: give these again"):
        SamplingSettings(holdout=0.2).check_same(was, seed=3)


def test_a_seed_that_decides_nothing_may_be_another() -> None:
    SamplingSettings().check_same(SamplingSettings().state_dict(seed=3), seed=4)
