import logging

import pytest

from protocol.rate_limit import RateLimit


def test_the_first_of_a_kind_is_said_at_once_and_then_one_in_so_many_seconds_with_the_rest_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seldom = RateLimit(logging.getLogger("test"), every_s=10.0)
    for tenth in range(205):
        seldom.warn("flood", f"line {tenth}", tenth / 10)
    seldom.warn("other", "line of its own", 20.4)
    assert caplog.messages == [
        "line 0",
        "line 100 (and 99 more like it)",
        "line 200 (and 99 more like it)",
        "line of its own",
    ]
