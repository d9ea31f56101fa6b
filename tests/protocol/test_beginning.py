import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.beginning import EPOCH, Beginning, moment
from protocol.dealing import Dealing, Positions
from protocol.errors import StreamError, UsageError
from protocol.messages import Description
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo

SECOND_NS = 10**9


def said(at: Positions | None) -> Description:
    info = StreamInfo(incarnation="i", schema=Schema((Field("id", "int64"),)), dealing=Dealing(1, 4))
    return Description(
        request=0, info=info, log_start={0: 3}, log_end={0: 9}, ended=False, uptime_s=0, refused=0, groups=(), at=at
    )


@given(st.integers(-(2**62) // 1000, 2**62 // 1000), st.integers(-12, 12))
def test_a_time_is_understood_to_the_microsecond_in_any_zone(micros: int, hours: int) -> None:
    there = (EPOCH + timedelta(microseconds=micros)).astimezone(timezone(timedelta(hours=hours)))
    assert moment(there.isoformat()) == 1000 * micros


def test_a_time_without_a_zone_is_this_machines() -> None:
    assert moment("2026-11-26") == moment("2026-11-26T00:00") == datetime(2026, 11, 26).astimezone().timestamp() * 10**9


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800)])
def test_a_time_ago_counts_back_from_now(text: str, ago_s: int) -> None:
    before_ns = time.time_ns()
    assert before_ns <= moment(text) + ago_s * SECOND_NS <= time.time_ns()


@pytest.mark.parametrize(
    "text",
    ["", "middle", "10", "10 m", "-10m", "2026-13-01", "0001-01-01", "9999-01-01", "9e9d", "200000d", "9" * 400 + "s"],
)
def test_anything_else_is_a_mistake_that_names_the_ways(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no start: give earliest, latest, a time .* or a time ago \(10m"):
        Beginning.of(text)


def test_it_is_one_of_three_places_in_a_log() -> None:
    assert Beginning.of("earliest").positions(said(None)) == {0: 3}
    assert Beginning.of("latest").positions(said(None)) == {0: 9}
    assert Beginning.of("10m").positions(said({0: 5})) == {0: 5}
    with pytest.raises(StreamError, match="earlier release"):
        Beginning.of("10m").positions(said(None))
