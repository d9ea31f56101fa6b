"""The trail: every row leaves once, by being marked or by being thrown away, under the partition that it came under."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from trainer.trail import Passed, Trail

passed = st.builds(Passed, st.integers(0, 3), st.integers(1, 9), st.booleans())
runs = st.lists(passed, max_size=20)

Row = tuple[int, bool]


def one_by_one(found: Iterable[Passed]) -> list[Row]:
    return [(each.partition, each.rejected) for each in found for _ in range(each.rows)]


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
