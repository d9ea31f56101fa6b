"""The trail: every row leaves once, by being marked or by being thrown away, under the partition that it came under."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Lost
from trainer.trail import Passed, Trail

passed = st.builds(Passed, st.integers(0, 3), st.integers(1, 9), st.booleans())
runs = st.lists(passed, max_size=20)

Row = tuple[int, bool]


def one_by_one(found: Iterable[Passed | Lost]) -> list[Row]:
    return [(each.partition, each.rejected) for each in found if isinstance(each, Passed) for _ in range(each.rows)]


def trail_of(added: list[Passed]) -> Trail:
    trail = Trail()
    for partition, rows, rejected in added:
        trail.add(partition, rows, rejected=rejected)
    return trail


def after(rows: Sequence[Row], good: int) -> int:
    """Where the trail begins once so many rows that were not rejected have left: at one that was not, or at its end."""
    at = 0
    while at < len(rows) and (good > 0 or rows[at][1]):
        good -= not rows[at][1]
        at += 1
    return at


def good(rows: Sequence[Row]) -> int:
    return sum(not rejected for _, rejected in rows)


@given(runs, st.integers(0, 200), st.integers(0, 200))
def test_the_oldest_leave_in_order_and_the_newest_from_behind_and_the_rejected_with_them(
    added: list[Passed], take: int, drop: int
) -> None:
    trail, rows = trail_of(added), one_by_one(added)
    take = min(take, good(rows))
    drop = min(drop, good(rows) - take)
    begin = after(rows, take)
    assert one_by_one(trail.take(take)) == rows[:begin]
    rows = rows[begin:]
    end = len(rows)
    while good(rows[end:]) < drop:
        end -= 1
    dropped = [partition for partition, count in trail.drop(drop) for _ in range(count)]
    assert Counter(dropped) == Counter(partition for partition, _ in rows[end:])
    assert one_by_one(trail.take(good(rows[:end]))) == rows[:end]
    assert trail.counts(0) == ({}, {})


@given(runs, st.integers(0, 200))
def test_they_are_counted_by_partition_before_and_after_a_mark_and_what_was_rejected_has_none(
    added: list[Passed], mark: int
) -> None:
    rows = one_by_one(added)
    oldest = [partition for partition, rejected in rows if not rejected][:mark]
    everything = Counter(partition for partition, _ in rows)
    found = trail_of(added).counts(mark)
    assert found == (dict(Counter(oldest)), dict(everything - Counter(oldest)))


def test_what_was_lost_leaves_once_nothing_is_before_it() -> None:
    trail, first, second = Trail(), Lost(0, 0, 4), Lost(1, 2, 9)
    trail.lose(first)
    trail.add(1, 2)
    trail.lose(second)
    trail.add(1, 3)
    assert trail.counts(1) == ({1: 1}, {1: 4})
    assert trail.take(0) == [first]
    assert trail.take(1) == [Passed(1, 1)]
    assert trail.take(1) == [Passed(1, 1), second]
    assert trail.take(3) == [Passed(1, 3)]


def test_what_was_lost_among_rows_that_are_thrown_away_is_thrown_away_with_them() -> None:
    trail = Trail()
    trail.add(0, 2)
    trail.lose(Lost(1, 0, 4))
    trail.add(1, 3)
    trail.lose(Lost(0, 2, 8))
    assert trail.drop(4) == [(1, 3), (0, 1)]
    assert trail.take(1) == [Passed(0, 1)]
    assert trail.take(0) == []
