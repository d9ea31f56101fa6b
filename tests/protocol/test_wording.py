"""Words for people."""

import pytest

from protocol.wording import clock


@pytest.mark.parametrize(("seconds", "said"), [(7.9, "0:07"), (754, "12:34"), (10_800, "3:00:00")])
def test_a_duration_is_said_as_on_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said
