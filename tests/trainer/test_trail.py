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


@given(runs, st.data())
def test_the_oldest_leave_in_order_and_the_newest_from_behind(
    added: list[tuple[int, int]], data: st.DataObject
) -> None:
    trail, rows = trail_of(added), one_by_one(added)
    while rows:
        count = data.draw(st.integers(0, len(rows)))
        if data.draw(st.booleans()):
            taken, rows = one_by_one(trail.take(count)), rows[count:]
            left = one_by_one(added)[-len(rows) - count :][:count] if count else []
            assert taken == left
            added = list(zip(rows, [1] * len(rows), strict=True))
        else:
            kept = len(rows) - count
            dropped, rows = one_by_one(list(trail.drop(count))), rows[:kept]
            assert Counter(dropped) == Counter(one_by_one(added)[kept:])
            added = list(zip(rows, [1] * len(rows), strict=True))
        if data.draw(st.booleans()):
            break
    assert one_by_one(trail.take(len(rows))) == rows


@given(runs, st.data())
def test_they_are_counted_by_partition_before_and_after_a_mark(
    added: list[tuple[int, int]], data: st.DataObject
) -> None:
    rows = one_by_one(added)
    mark = data.draw(st.integers(0, len(rows)))
    assert trail_of(added).counts(mark) == (dict(Counter(rows[:mark])), dict(Counter(rows[mark:])))
