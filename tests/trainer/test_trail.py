"""The trail: every row leaves once, by being marked or by being thrown away, under the partition that it came under."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trainer.trail import Trail

runs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=20)


def one_by_one(pairs: list[tuple[int, int]]) -> list[int]:
    return [partition for partition, rows in pairs for _ in range(rows)]


def trail_of(added: list[tuple[int, int]]) -> Trail:
    trail = Trail()
    for partition, rows in added:
        trail.add(partition, rows)
    return trail


@given(runs, st.integers(0, 200), st.integers(0, 200))
def test_the_oldest_leave_in_order_and_the_newest_from_behind(
    added: list[tuple[int, int]], take: int, drop: int
) -> None:
    trail, rows = trail_of(added), one_by_one(added)
    take = min(take, len(rows))
    drop = min(drop, len(rows) - take)
    kept = len(rows) - drop
    assert one_by_one(trail.take(take)) == rows[:take]
    assert Counter(one_by_one(trail.drop(drop))) == Counter(rows[kept:])
    assert one_by_one(trail.take(kept - take)) == rows[take:kept]
    assert trail.counts(0) == ({}, {})


@given(runs, st.integers(0, 200))
def test_they_are_counted_by_partition_before_and_after_a_mark(added: list[tuple[int, int]], mark: int) -> None:
    rows = one_by_one(added)
    mark = min(mark, len(rows))
    assert trail_of(added).counts(mark) == (dict(Counter(rows[:mark])), dict(Counter(rows[mark:])))
