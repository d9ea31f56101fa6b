import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.states import assert_same, outcome, through_a_checkpoint
from trainer.metrics import KEPT, Window, all_finite
from trainer.snapshot import snapshot
from trainer.task import Outcome


def runs(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[list[Outcome]]:
    return st.lists(st.builds(outcome, st.floats(0, 100, width=32), sizes, st.integers(0, 512)), min_size=1)


# Of any sizes, and mostly of one, in which more come than are kept.
outcomes = runs(st.integers(1, 512)) | st.builds(
    lambda pattern, last: pattern * 40 + last, runs(st.just(64)), runs(st.integers(1, 64))
)


def test_each_record_has_the_same_weight() -> None:
    window = Window()
    window.add(outcome(loss=1.0, count=3, correct=3))
    window.add(outcome(loss=5.0, count=1, correct=0))
    assert window.read() == {"loss": 2.0, "accuracy": 0.75, "count": 4.0}


@given(outcomes)
def test_the_mean_is_right_to_double_precision(given: list[Outcome]) -> None:
    window = Window()
    for each in given:
        window.add(each)
    count = sum(each.count for each in given)
    assert window.read()["loss"] == pytest.approx(
        math.fsum(float(each.loss) * each.count for each in given) / count, rel=1e-12
    )


def test_small_losses_after_millions_of_records_are_not_lost() -> None:
    window = Window()
    window.add(outcome(loss=1.0, count=1 << 25))
    for _ in range(100):
        window.add(outcome(loss=1.0, count=1))
    assert window.read()["loss"] == 1.0  # float32 has no number for 2^25 + 1


def test_other_sums_are_reported_as_means_under_their_own_names() -> None:
    window = Window()
    window.add(Outcome(torch.tensor(0.0), 4, {"absolute_error": torch.tensor(6.0)}))
    assert window.read() == {"loss": 0.0, "absolute_error": 1.5, "count": 4.0}


def test_an_empty_window_claims_nothing() -> None:
    window = Window()
    assert window.read() == {"count": 0.0}
    assert window.finite()
    window.add(outcome(1.0, 1))
    window.reset()
    assert window.read() == {"count": 0.0}


@given(outcomes, st.integers(0, 3 * KEPT))
def test_saved_anywhere_and_restored_it_gives_the_same_bits(given: list[Outcome], cut: int) -> None:
    whole, first = Window(), Window()
    for each in given:
        whole.add(each)
    for each in given[:cut]:
        first.add(each)
    second = Window()
    second.load_state_dict(through_a_checkpoint(first.state_dict()))
    for each in given[cut:]:
        second.add(each)
    assert second.read() == whole.read()
    assert_same(second.state_dict(), whole.state_dict())


def test_no_more_is_kept_than_the_bound_and_reading_changes_nothing() -> None:
    window, other = Window(), Window()
    for number in range(3 * KEPT + 5):
        window.add(outcome(0.1 * number, 7, number))
        other.add(outcome(0.1 * number, 7, number))
        kept = window.state_dict()["kept"]
        assert len(kept["losses"]) == len(kept["sums"]["correct"]) <= KEPT
        other.read()
    assert_same(window.state_dict(), other.state_dict())


def test_sums_that_not_every_outcome_has_are_added_up_too() -> None:
    window = Window()
    for number in range(2 * KEPT):
        sums = {"correct": torch.tensor(1)} if number % 2 else {"error": torch.tensor(0.5)}
        window.add(Outcome(torch.tensor(1.0), 1, sums))
    assert window.read() == {"loss": 1.0, "accuracy": 0.5, "error": 0.25, "count": 2.0 * KEPT}


def test_a_state_in_which_everything_was_added_up_is_still_read() -> None:
    window = Window()
    window.load_state_dict(
        {"count": 4, "loss": torch.tensor(8.0, dtype=torch.float64), "sums": {"correct": torch.tensor(1.0)}}
    )
    window.add(outcome(2.0, 4, 1))
    assert window.read() == {"loss": 2.0, "accuracy": 0.25, "count": 8.0}


def test_what_state_dict_gave_out_does_not_change_afterwards() -> None:
    window = Window()
    window.add(outcome(1.0, 2, 1))
    state = window.state_dict()
    window.add(outcome(7.0, 2, 2))
    again = Window()
    again.load_state_dict(state)
    assert again.read() == {"loss": 1.0, "accuracy": 0.5, "count": 2.0}


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_found_however_many_follow(loss: float) -> None:
    window = Window()
    window.add(outcome(1.0, 2))
    assert window.finite()
    window.add(outcome(loss, 2))
    assert not window.finite()
    window.add(outcome(-loss, 2))
    for _ in range(10):
        window.add(outcome(1.0, 2))
    assert not window.finite()
    window.reset()
    assert window.finite()


def test_a_very_large_loss_is_still_a_number() -> None:
    window = Window()
    window.add(outcome(3e38, 1 << 20))
    assert window.finite()


def test_adding_does_not_keep_the_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    window = Window()
    window.add(Outcome(weight * 2, 1, {}))
    assert not window.state_dict()["loss"].requires_grad


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adding_never_waits_for_the_device() -> None:
    window = Window()
    each = Outcome(torch.ones((), device="cuda"), 4, {"correct": torch.ones((), dtype=torch.int64, device="cuda")})
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3 * KEPT):
            window.add(each)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert window.read() == {"loss": 1.0, "accuracy": 0.25, "count": 12.0 * KEPT}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_a_checkpoint_kept_goes_on_on_the_device() -> None:
    device = torch.device("cuda", 0)
    each = Outcome(torch.ones((), device=device), 4, {"correct": torch.ones((), dtype=torch.int64, device=device)})
    window, resumed = Window(), Window()
    window.add(each)
    resumed.load_state_dict(snapshot(window.state_dict()), device)
    resumed.add(each)
    assert resumed.read() == {"loss": 1.0, "accuracy": 0.25, "count": 8.0}


def test_reading_asks_for_numbers_once_and_adding_never() -> None:
    asked = 0

    class Asked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal asked
            name = getattr(function, "__name__", "")
            asked += name in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy")
            return super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    window = Window()
    for _ in range(3 * KEPT):
        window.add(Outcome(torch.ones(()).as_subclass(Asked), 1, {"correct": torch.ones(()).as_subclass(Asked)}))
    assert asked == 0
    window.read()
    assert asked == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_ruined_weights_are_found(value: float) -> None:
    weights = [torch.ones(3), torch.ones(2, 2)]
    assert all_finite(weights)
    weights[1][1, 0] = value
    assert not all_finite(weights)


def test_no_weights_at_all_are_not_ruined() -> None:
    assert all_finite([])
