"""The trail: every row leaves once, by being marked or by being thrown away, under the partition that it came under."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Lost
from trainer.ledger import Fate
from trainer.trail import Hole, Passed, Trail

passed = st.builds(Passed, st.integers(0, 3), st.integers(1, 9), st.sampled_from(["trained", "rejected", "thinned"]))
runs = st.lists(passed, max_size=20)

Row = tuple[int, Fate]


def left_out(row: Row) -> bool:
    return row[1] != "trained"


def one_by_one(found: Iterable[Passed | Hole]) -> list[Row]:
    return [(each.partition, each.fate) for each in found if isinstance(each, Passed) for _ in range(each.rows)]


def trail_of(added: list[Passed]) -> Trail:
    trail = Trail()
    ends: Counter[int] = Counter()
    for partition, rows, fate, _ in added:
        ends[partition] += rows
        trail.add(partition, rows, fate, ends[partition])
    return trail


def after(rows: Sequence[Row], good: int) -> int:
    """Where the trail begins once so many rows that are trained have left: at the next of them, or at its end."""
    at = 0
    while at < len(rows) and (good > 0 or left_out(rows[at])):
        good -= not left_out(rows[at])
        at += 1
    return at


def good(rows: Sequence[Row]) -> int:
    return sum(not left_out(row) for row in rows)


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


@given(runs, st.lists(st.integers(0, 20)), st.integers(0, 200))
def test_what_passes_ends_where_the_rows_of_its_partition_before_it_do(
    added: list[Passed], takes: list[int], drop: int
) -> None:
    trail = trail_of(added)
    dropped = trail.drop(min(drop, good(one_by_one(added))))
    reached: Counter[int] = Counter()
    for rows in (*takes, 1 << 30):
        for each in trail.take(rows):
            assert isinstance(each, Passed)
            reached[each.partition] += each.rows
            assert each.end == reached[each.partition]
    assert reached + Counter(p for p, rows in dropped for _ in range(rows)) == Counter(p for p, _ in one_by_one(added))


@given(runs, st.integers(0, 200))
def test_they_are_counted_by_partition_before_and_after_a_mark_and_what_was_rejected_has_none(
    added: list[Passed], mark: int
) -> None:
    rows = one_by_one(added)
    oldest = [row[0] for row in rows if not left_out(row)][:mark]
    everything = Counter(partition for partition, _ in rows)
    found = trail_of(added).counts(mark)
    assert found == (dict(Counter(oldest)), dict(everything - Counter(oldest)))


def test_what_was_lost_leaves_once_nothing_is_before_it() -> None:
    trail, first, second = Trail(), Lost(0, 0, 4), Lost(1, 2, 9)
    trail.add_hole(first)
    trail.add(1, 2)
    trail.add_hole(second)
    trail.add(1, 3)
    assert trail.counts(1) == ({1: 1}, {1: 4})
    assert trail.take(0) == [first]
    assert trail.take(1) == [Passed(1, 1)]
    assert trail.take(1) == [Passed(1, 1), second]
    assert trail.take(3) == [Passed(1, 3)]


def test_what_was_lost_among_rows_that_are_thrown_away_is_thrown_away_with_them() -> None:
    trail = Trail()
    trail.add(0, 2)
    trail.add_hole(Lost(1, 0, 4))
    trail.add(1, 3)
    trail.add_hole(Lost(0, 2, 8))
    assert trail.drop(4) == [(1, 3), (0, 1)]
    assert trail.take(1) == [Passed(0, 1)]
    assert trail.take(0) == []
