import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.history import CAPACITY, NOTICES, Curve, History
from trainer.report import Notice, Report, Standing, ValidationReport


def report(samples: int, **train: float) -> Report:
    stream = Standing(state="streaming", lag=0, log_end=samples, ledger={}, balanced=True)
    return Report(
        samples=samples,
        batches=1,
        train=train,
        learning_rate=0.1,
        samples_per_s=None,
        sample_age_ms_p50=None,
        sample_age_ms_p99=None,
        stream=stream,
        stages={},
    )


@given(st.lists(st.floats(-10, 10), max_size=4 * CAPACITY))
def test_a_curve_never_grows_beyond_its_capacity_and_keeps_order_and_range(values: list[float]) -> None:
    curve = Curve()
    for samples, value in enumerate(values):
        curve.add(samples, value)
    places = [samples for samples, _ in curve.points]
    assert len(places) < CAPACITY
    assert places == sorted(set(places))
    assert all(min(values) <= value <= max(values) for _, value in curve.points)


def test_a_long_curve_shows_the_whole_run_evenly() -> None:
    curve = Curve()
    for samples in range(11 * CAPACITY):
        curve.add(samples, float(samples))
    gaps = {later - earlier for (earlier, _), (later, _) in pairwise(curve.points)}
    assert gaps == {16}
    assert curve.points[0] == (15, 7.5)
    assert curve.points[-1][0] >= 11 * CAPACITY - 16


@pytest.mark.parametrize("saved_at", [0, 1, CAPACITY - 1, CAPACITY, 3 * CAPACITY, 3 * CAPACITY + 1])
def test_a_curve_that_was_saved_and_loaded_goes_on_as_if_it_had_not(saved_at: int) -> None:
    never, curve = Curve(), Curve()
    for samples in range(4 * CAPACITY):
        if samples == saved_at:
            resumed = Curve()
            resumed.load_state_dict(curve.state_dict())
            curve = resumed
        curve.add(samples, float(samples**2))
        never.add(samples, float(samples**2))
    assert curve.state_dict() == never.state_dict()


def test_values_that_are_not_finite_are_left_out_of_a_curve() -> None:
    curve = Curve()
    for value in (1.0, math.nan, math.inf, 2.0):
        curve.add(1, value)
    assert [value for _, value in curve.points] == [1.0, 2.0]


def test_the_past_survives_a_checkpoint_and_later_notices_stay_behind_it() -> None:
    history = History()
    history.add(report(10, loss=2.0))
    history.add(ValidationReport(samples=10, metrics={"loss": 1.5, "count": 5.0}, best=True))
    history.add(ValidationReport(samples=20, metrics={"loss": 1.7, "count": 5.0}, best=False))
    history.add(Notice(samples=20, text="over-fitting"))

    resumed = History()
    resumed.add(Notice(samples=0, text="a checkpoint is damaged"))
    resumed.load_state_dict(history.state_dict())
    assert resumed.training.points == [(10, 2.0)]
    assert resumed.validation.points == [(10, 1.5), (20, 1.7)]
    assert (resumed.last, resumed.best) == (history.last, history.best)
    assert [notice.text for notice in resumed.notices] == ["over-fitting", "a checkpoint is damaged"]


def test_a_model_without_a_loss_has_no_curve() -> None:
    history = History()
    history.add(report(10, reward=2.0))
    assert history.training.points == []


def test_only_the_last_notices_are_remembered() -> None:
    history = History()
    for samples in range(3 * NOTICES):
        history.add(Notice(samples=samples, text=str(samples)))
    assert [notice.samples for notice in history.notices] == list(range(2 * NOTICES, 3 * NOTICES))
