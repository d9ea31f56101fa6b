"""Which record of a source comes at which number, where some are left out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.effects import Appear, OnChoice, Thin
from producer.passes import LEAST_COUNTED, Passes, pass_order
from producer.source import ColumnSource
from producer.thinning import Thinning
from protocol.change import Change
from protocol.draws import drawn
from protocol.errors import BeyondLogEnd, UsageError
from protocol.schema import Field, Schema
from protocol.values import MAX_NUMBER
from tests.protocol.drawn_messages import changes as times

LABELS = Schema((Field("label", "int64"),), label="label")
Plan = list[tuple[Change, OnChoice]]

effects = st.one_of(
    st.builds(Thin, share=st.dictionaries(st.integers(0, 2), st.floats(0, 1), min_size=1)),
    st.builds(Appear, classes=st.lists(st.integers(0, 2), min_size=1, unique=True)),
)
plans = st.lists(st.tuples(times, effects), min_size=1, max_size=3)
labels_of_records = st.lists(st.integers(0, 3), min_size=1, max_size=200).map(lambda each: np.array([3, *each]))


def share(plan: Plan, label: int, record: int) -> float:
    """The share of a class's records that come as this record, told without the code's haste."""
    found = 1.0
    for change, effect in plan:
        come = float(change.share(np.array([record]))[0])
        kept = effect.shares(LABELS).get(label, 1.0)
        found *= 1 - (1 - come if isinstance(effect, Appear) else come) * (1 - kept)
    return found


def coming(plan: Plan, labels: npt.NDArray[Any], seed: int, given: int, number: int) -> list[int]:
    """One record after the other."""
    rows: list[int] = []
    for row, draw in enumerate(drawn(seed, np.arange(given, given + len(labels)))):
        if draw < share(plan, int(labels[row]), number + len(rows)):
            rows.append(row)
    return rows


@settings(max_examples=40)
@given(plans, labels_of_records, st.integers(0, 99), st.integers(0, 500), st.integers(0, 500))
def test_what_comes_is_decided_one_record_after_the_other(
    plan: Plan, labels: npt.NDArray[Any], seed: int, before: int, number: int
) -> None:
    found = Thinning(plan, LABELS, seed).coming(labels, before, number)
    assert found.tolist() == coming(plan, labels, seed, before, number)


@settings(max_examples=40)
@given(plans, labels_of_records, st.integers(1, 99), st.data())
def test_it_is_no_matter_in_which_parts_passes_are_read(
    plan: Plan, labels: npt.NDArray[Any], seed: int, data: st.DataObject
) -> None:
    source = ColumnSource("labels", LABELS, {"label": labels})
    thinning = Thinning(plan, LABELS, 5)
    passes = Passes(source, seed=seed, thinning=thinning)
    whole: list[int] = []
    for number in range(4):
        order = pass_order(len(labels), seed, number)
        come = order[coming(plan, labels[order], 5, number * len(labels), len(whole))]
        assert len(set(come.tolist())) == len(come), "no record comes twice in a pass"
        whole += come.tolist()
        assert passes.end(number + 1) == len(whole)
    first = data.draw(st.integers(0, len(whole) - 1))
    count = data.draw(st.integers(1, len(whole) - first))
    for each in (passes, Passes(source, seed=seed, thinning=thinning)):
        assert each.indices(first, count).tolist() == whole[first : first + count]


def test_passes_are_whole_once_nothing_is_left_out() -> None:
    labels = np.arange(100) % 4
    source = ColumnSource("labels", LABELS, {"label": labels})
    plan: Plan = [
        (Change(what="x", at=150), Appear(classes=[1])),
        (Change(what="y", at=0, until=99), Thin(share={2: 0})),
    ]
    thinning = Thinning(plan, LABELS, 0)
    assert thinning.over_from == 150
    passes = Passes(source, seed=0, thinning=thinning)
    far = 10**12
    assert len(set(passes.indices(passes.end(far), 100).tolist())) == 100
    assert passes.end(far) < far * 100
    assert len(passes._starts) < 5, "none is counted beyond"


@pytest.mark.parametrize(
    "plan",
    [
        [(Change(what="x", at=150), Thin(share={1: 0.5}))],
        [(Change(what="x", at=150, until=200), Appear(classes=[1]))],
        [(Change(what="x", at=150, until=160, every=20), Thin(share={1: 0.5}))],
    ],
)
def test_what_is_never_over_says_so(plan: Plan) -> None:
    assert Thinning(plan, LABELS, 0).over_from == MAX_NUMBER


def test_a_stream_that_might_stand_still_is_refused() -> None:
    source = ColumnSource("labels", LABELS, {"label": np.array([0, 1])})
    plan: Plan = [(Change(what="x", at=5), Appear(classes=[0])), (Change(what="y", at=9), Thin(share={1: 0.001}))]
    with pytest.raises(UsageError, match=r"each class of the records is away at some time .*: let one of them come"):
        Passes(source, seed=0, thinning=Thinning(plan, LABELS, 0))


def test_a_first_pass_of_no_records_is_refused() -> None:
    source = ColumnSource("labels", LABELS, {"label": np.array([0, 1])})
    plan: Plan = [(Change(what="x", at=0), Thin(share={0: 0.01, 1: 0.01}))]
    with pytest.raises(UsageError, match=r"no record of the first pass comes: all 2 are left out .*: let more of a"):
        Passes(source, seed=0, thinning=Thinning(plan, LABELS, 0))


def test_far_passes_are_counted_a_bounded_number_at_one_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.passes.COUNTED_AT_ONCE", 10 * LEAST_COUNTED)
    source = ColumnSource("labels", LABELS, {"label": np.arange(100) % 4})
    plan: Plan = [(Change(what="x", at=0), Thin(share={1: 0.5}))]
    passes = Passes(source, seed=0, thinning=Thinning(plan, LABELS, 0))
    for counted in (12, 23):
        with pytest.raises(BeyondLogEnd, match=r"record 9,007,199,254,740,992 is far beyond .* counted .*: ask again"):
            passes.count(1 << 53)
        assert len(passes._starts) == counted
    passes.count(passes.end(30))
    assert len(passes.indices(passes.end(30), 10)) == 10
