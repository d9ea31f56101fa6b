"""Rows are copied, handed out and marked, each once: what is counted agrees with what was done, at every moment."""

from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.batch import Batch, Block
from trainer.handed_out import HandedOut
from trainer.trail import Hole, Passed
from trainer.windowed_trail import Before

SIZE = 3


def batch(number: int, count: int = SIZE) -> Batch:
    return Batch(Block({"x": torch.zeros(SIZE)}, SIZE, {0: 0}), 0, count, number)


def rows_of(pairs: Iterable[tuple[int, int] | Passed | Hole | Before]) -> list[int]:
    return [pair[0] for pair in pairs for _ in range(pair[1])]


@given(
    before=st.integers(0, 5),
    runs=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), max_size=12),
    steps=st.lists(st.tuples(st.sampled_from(["hand", "mark", "take"]), st.integers(0, 12)), max_size=30),
    partial=st.integers(1, SIZE),
)
def test_every_row_is_in_one_place(
    before: int, runs: list[tuple[int, int]], steps: list[tuple[str, int]], partial: int
) -> None:
    handed_out = HandedOut(SIZE)
    handed_out.begin(before)
    for partition, rows in runs:
        handed_out.copy(partition, rows)
    copied = rows_of(runs)
    handed, marked, taken, whole = 0, 0, 0, True
    for what, number in steps:
        match what:
            case "hand" if whole and handed < len(copied):
                count = min(SIZE if number else partial, len(copied) - handed)
                whole = count == SIZE
                handed += count
                handed_out.hand(batch(handed_out.number + 1, count))
            case "mark":
                handed_out.mark(before + number)
                marked = max(marked, min(number * SIZE, handed))
            case "take":
                assert rows_of(handed_out.take_marked()) == copied[taken:marked]
                taken = marked
        unhanded, unmarked = handed_out.counts()
        assert unhanded == dict(Counter(copied[handed:]))
        assert unmarked == dict(Counter(copied[taken:handed]))
        assert handed_out.unmarked_rows == handed - taken
    assert Counter(rows_of(handed_out.drop_unhanded())) == Counter(copied[handed:])
    assert Counter(rows_of(handed_out.drop_unmarked())) == Counter(copied[taken:handed])
    assert handed_out.counts() == ({}, {})


def test_what_was_never_handed_out_cannot_be_marked() -> None:
    handed_out = HandedOut(SIZE)
    handed_out.copy(0, 9)
    handed_out.hand(batch(1))
    handed_out.mark(7)
    assert handed_out.marked == 1
    assert handed_out.take_marked() == [Passed(0, 3)]


@pytest.mark.parametrize("again", [1, 0])
def test_marking_again_counts_nothing(again: int) -> None:
    handed_out = HandedOut(SIZE)
    handed_out.copy(2, 3)
    handed_out.hand(batch(1))
    handed_out.mark(1)
    assert handed_out.take_marked() == [Passed(2, 3)]
    handed_out.mark(again)
    assert handed_out.take_marked() == []


def test_what_was_rejected_passes_once_everything_before_it_is_marked() -> None:
    handed_out = HandedOut(SIZE)
    handed_out.leave_out(1, 2, "rejected")
    handed_out.copy(0, 2)
    handed_out.leave_out(0, 4, "rejected")
    handed_out.copy(0, 1)
    handed_out.leave_out(2, 5, "rejected")
    assert handed_out.take_marked() == [Passed(1, 2, "rejected")]
    handed_out.hand(batch(1))
    assert handed_out.take_marked() == []
    assert handed_out.counts() == ({0: 4, 2: 5}, {0: 3})
    handed_out.mark(1)
    expected = [Passed(0, 2), Passed(0, 4, "rejected"), Passed(0, 1), Passed(2, 5, "rejected")]
    assert handed_out.take_marked() == expected


def test_what_was_rejected_right_behind_the_last_batch_passes_with_it_whatever_becomes_of_the_rest() -> None:
    handed_out = HandedOut(SIZE)
    handed_out.copy(0, 3)
    handed_out.leave_out(0, 1, "rejected")
    handed_out.copy(0, 2)
    handed_out.hand(batch(1))
    handed_out.leave_out(0, 7, "rejected")
    assert Counter(rows_of(handed_out.drop_unhanded())) == {0: 2 + 7}
    assert handed_out.counts() == ({0: 1}, {0: 3})
    handed_out.mark(1)
    assert handed_out.take_marked() == [Passed(0, 3), Passed(0, 1, "rejected")]
