"""The trail: every row leaves once, by being marked or by being thrown away, under the partition that it came under."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Lost
from trainer.trail import Trail

runs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=20)


def one_by_one(pairs: Sequence[tuple[int, int] | Lost]) -> list[int]:
    return [pair[0] for pair in pairs for _ in range(pair[1])]


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


def test_what_was_lost_leaves_once_nothing_is_before_it() -> None:
    trail, first, second = Trail(), Lost(0, 0, 4), Lost(1, 2, 9)
    trail.lose(first)
    trail.add(1, 2)
    trail.lose(second)
    trail.add(1, 3)
    assert trail.counts(1) == ({1: 1}, {1: 4})
    assert trail.take(0) == [first]
    assert trail.take(1) == [(1, 1)]
    assert trail.take(1) == [(1, 1), second]
    assert trail.take(3) == [(1, 3)]


def test_what_was_lost_among_rows_that_are_thrown_away_is_thrown_away_with_them() -> None:
    trail = Trail()
    trail.add(0, 2)
    trail.lose(Lost(1, 0, 4))
    trail.add(1, 3)
    trail.lose(Lost(0, 2, 8))
    assert trail.drop(4) == [(1, 3), (0, 1)]
    assert trail.take(1) == [(0, 1)]
    assert trail.take(0) == []
