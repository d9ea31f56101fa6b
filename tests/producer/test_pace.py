"""A dataset is released at a rate, as if it happened now."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.pace import NS_PER_S, Pace
from protocol.errors import UsageError

WALL_START_NS = 1_700_000_000 * NS_PER_S


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall_shift_ns = 0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return WALL_START_NS + round((self.now_s - 1000) * NS_PER_S) + self.wall_shift_ns

    def pace(self, rate: float) -> Pace:
        return Pace(rate, self.monotonic, self.wall_ns)


def test_whole_records_are_released_as_time_goes() -> None:
    clock = Clock()
    pace = clock.pace(4)
    seen = []
    for _ in range(6):
        seen.append(pace.released(pace.now()))
        clock.now_s += 0.125
    assert seen == [0, 0, 1, 1, 2, 2]


def test_without_a_rate_everything_is_there() -> None:
    pace = Clock().pace(0)
    assert pace.released(pace.now()) == float("inf")
    assert pace.due_in_s(10**12, pace.now()) == 0


def test_after_a_restart_the_end_goes_on_from_where_a_reader_was() -> None:
    clock = Clock()
    pace = clock.pace(10)
    clock.now_s += 1
    pace.reach(5)  # behind what this life has released: nothing changes
    assert pace.released(pace.now()) == 10
    pace.reach(500)
    assert pace.released(pace.now()) == 500
    clock.now_s += 1
    assert pace.released(pace.now()) == 510


def test_it_says_when_the_next_record_is_due() -> None:
    clock = Clock()
    pace = clock.pace(4)
    assert pace.due_in_s(0, pace.now()) == 0.25
    assert pace.due_in_s(3, pace.now()) == 1
    clock.now_s += 0.25
    assert pace.due_in_s(0, pace.now()) == 0
    assert pace.due_in_s(1, pace.now()) == 0.25


@given(st.floats(0.01, 1e6), st.floats(0, 1e5))
def test_what_is_due_is_released_when_its_time_has_come(rate: float, passed_s: float) -> None:
    clock = Clock()
    pace = clock.pace(rate)
    clock.now_s += passed_s
    told = int(pace.released(pace.now()))
    clock.now_s += pace.due_in_s(told, pace.now()) + 1e-6
    assert pace.released(pace.now()) > told


def test_a_records_event_time_is_the_moment_of_its_release() -> None:
    clock = Clock()
    pace = clock.pace(4)
    clock.now_s += 10
    assert pace.times_ns(0, 39) == (WALL_START_NS + NS_PER_S // 4, WALL_START_NS + 10 * NS_PER_S)
    assert pace.times_ns(39, 39)[0] == clock.wall_ns()


def test_records_of_an_earlier_life_lie_before_this_one_on_the_same_line() -> None:
    clock = Clock()
    pace = clock.pace(4)
    pace.reach(100)
    assert pace.times_ns(95, 99) == (WALL_START_NS - NS_PER_S, WALL_START_NS)


def test_a_wall_clock_that_is_set_shifts_times_and_not_ages() -> None:
    clock = Clock()
    pace = clock.pace(4)
    clock.now_s += 10
    ages = [clock.wall_ns() - time_ns for time_ns in pace.times_ns(0, 39)]
    clock.wall_shift_ns = -3600 * NS_PER_S
    assert [clock.wall_ns() - time_ns for time_ns in pace.times_ns(0, 39)] == ages


def test_without_a_rate_every_record_is_of_now() -> None:
    clock = Clock()
    pace = clock.pace(0)
    assert pace.times_ns(0, 10**9) == (clock.wall_ns(), clock.wall_ns())
    assert pace.first_record_at(clock.wall_ns() - 1) == 0
    assert pace.first_record_at(clock.wall_ns() + 1) == -1


@given(st.floats(0.01, 1e6), st.integers(0, 10**6), st.integers(-(10**12), 10**12))
def test_the_first_record_at_a_time_is_the_first(rate: float, reached: int, shift_ns: int) -> None:
    clock = Clock()
    pace = clock.pace(rate)
    pace.reach(reached)
    clock.now_s += 100
    time_ns = WALL_START_NS + shift_ns
    first = pace.first_record_at(time_ns)
    assert pace.times_ns(first, first)[0] >= time_ns
    assert first == 0 or pace.times_ns(first - 1, first)[0] < time_ns


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_the_users_mistake(rate: float) -> None:
    with pytest.raises(UsageError, match="rate"):
        Pace(rate)
