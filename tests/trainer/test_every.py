import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from trainer.every import Every


@given(st.integers(1, 50), st.lists(st.integers(1, 200), max_size=40))
def test_it_is_due_in_exactly_the_steps_that_reach_or_pass_a_multiple(samples: int, batches: list[int]) -> None:
    every, trained = Every(samples), 0
    for batch in batches:
        passed = any(n % samples == 0 for n in range(trained + 1, trained + batch + 1))
        assert every.due(trained, trained + batch) == passed
        trained += batch


def test_zero_is_never() -> None:
    assert not Every(0).due(0, 10**9)


def test_no_progress_is_never_due() -> None:
    assert not Every(10).due(20, 20)


def test_a_negative_interval_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="-1 samples: give 1 or more, or 0 for never"):
        Every(-1)
