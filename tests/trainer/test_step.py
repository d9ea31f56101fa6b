from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from protocol.errors import UsageError
from trainer.metrics import Window
from trainer.model import GarmentClassifier
from trainer.precision import as_computed
from trainer.prequential import ADDED_UP, Prequential, PrequentialSettings
from trainer.step import StepNotTaken, StepSettings, micro_batches, train_step
from trainer.task import Outcome, Prepared
from trainer.tasks import Classification
from trainer.transfer import open_transfer

CPU = torch.device("cpu")


def batches(number: int, count: int = 16) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 10, (count,), generator=generator),
        }
        for _ in range(number)
    ]


def model_of_seed_1() -> GarmentClassifier:
    torch.manual_seed(1)
    return GarmentClassifier()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        (torch.optim.AdamW, {"lr": 0.001}),
        (torch.optim.RMSprop, {"lr": 0.001}),
    ],
)
def test_steps_give_the_bits_of_a_plain_pytorch_loop(
    kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    task, model, plain = Classification(), model_of_seed_1(), model_of_seed_1()
    optimizer, plain_optimizer = kind(model.parameters(), **settings), kind(plain.parameters(), **settings)
    for columns in batches(5):
        outcome = train_step(model, optimizer, task, task.prepare(columns, CPU))

        plain_optimizer.zero_grad()
        loss = functional.cross_entropy(plain((columns["image"].float() / 255 - 0.5) / 0.5), columns["label"])
        loss.backward()  # type: ignore[no-untyped-call]
        plain_optimizer.step()

        assert torch.equal(outcome.loss, loss)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_outcome_is_that_of_the_weights_before_the_step_and_holds_no_graph() -> None:
    task, model = Classification(), model_of_seed_1()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    prepared = task.prepare(batches(1)[0], CPU)
    expected = task.evaluate(model, prepared).loss.item()
    outcome = train_step(model, optimizer, task, prepared)
    assert outcome.loss.item() == expected
    assert outcome.loss.grad_fn is None


def test_an_optimizer_that_evaluates_a_batch_often_counts_its_records_once() -> None:
    evaluations = 0

    class Counted(Classification):
        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            nonlocal evaluations
            evaluations += 1
            return super().evaluate(model, prepared)

    task, model = Counted(), model_of_seed_1()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    prepared = task.prepare(batches(1)[0], CPU)
    expected = task.evaluate(model, prepared).loss.item()
    outcome = train_step(model, optimizer, task, prepared)
    assert evaluations > 3
    assert outcome.count == 16
    assert outcome.loss.item() == expected
    assert task.evaluate(model, prepared).loss.item() < expected


def prepared_in(parts: int, columns: dict[str, torch.Tensor], task: Classification) -> list[Prepared]:
    return [task.prepare(part, CPU) for part in micro_batches(columns, len(columns["label"]), parts)]


@pytest.mark.parametrize(("count", "parts"), [(16, 1), (16, 4), (16, 5), (7, 3), (3, 16), (1, 2)])
def test_micro_batches_are_views_of_all_records_in_their_order_and_none_is_empty(count: int, parts: int) -> None:
    columns = batches(1, count)[0]
    found = micro_batches(columns, count, parts)
    sizes = [len(part["label"]) for part in found]
    assert len(sizes) == min(count, parts)
    assert max(sizes) - min(sizes) <= 1
    for name, column in columns.items():
        assert torch.equal(torch.cat([part[name] for part in found]), column)
        assert all(part[name].untyped_storage().data_ptr() == column.untyped_storage().data_ptr() for part in found)


@pytest.mark.parametrize(("count", "parts"), [(16, 4), (16, 5), (3, 16)])
def test_micro_batches_give_the_gradients_and_the_outcome_of_the_whole_batch(count: int, parts: int) -> None:
    task, columns = Classification(), batches(1, count)[0]
    outcomes, gradients = [], []
    for number in (1, parts):
        model = model_of_seed_1()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        outcomes.append(train_step(model, optimizer, task, *prepared_in(number, columns, task), count=count))
        gradients.append([parameter.grad for parameter in model.parameters()])
    whole, split = outcomes
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(split.loss, whole.loss)
    assert split.loss.grad_fn is None
    assert split.count == whole.count == count
    assert split.sums.keys() == whole.sums.keys()
    assert torch.equal(split.sums["correct"], whole.sums["correct"])
    assert torch.equal(split.targets, columns["label"])  # type: ignore[arg-type]
    torch.testing.assert_close(split.scores, whole.scores)


def test_micro_batches_are_one_step_of_an_optimizer_that_evaluates_them_often() -> None:
    task, columns = Classification(), batches(1)[0]
    found = []
    for parts in (1, 3):
        model = model_of_seed_1()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
        outcome = train_step(model, optimizer, task, *prepared_in(parts, columns, task), count=16)
        assert outcome.count == 16
        assert optimizer.state[next(model.parameters())]["func_evals"] >= 3
        found.append([outcome.loss, *model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("parts", [0, -1])
def test_fewer_than_one_micro_batch_is_the_users_mistake(parts: int) -> None:
    with pytest.raises(UsageError, match=f"--accumulate {parts}: give the number of micro-batches"):
        StepSettings(accumulate=parts)


def test_an_optimizer_that_drops_gradients_in_its_own_way_is_asked_to() -> None:
    asked = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002  (torch's signature)
            asked.append(set_to_none)
            super().zero_grad(set_to_none)

    task, model = Classification(), model_of_seed_1()
    train_step(model, Own(model.parameters(), lr=0.1), task, task.prepare(batches(1)[0], CPU))
    assert asked == [True]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Notes the names of all that torch computes, below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_a_step_and_its_account_ask_for_no_number() -> None:
    """Asking is `_local_scalar_dense`: on CUDA it waits for the device."""
    task, model, window = Classification(), nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), Window()
    optimizer, prequential = torch.optim.SGD(model.parameters(), lr=0.01), Prequential(PrequentialSettings())
    with Operations() as operations:
        for columns in batches(ADDED_UP + 2, count=1):
            outcome = train_step(model, optimizer, task, task.prepare(columns, CPU))
            window.add(outcome)
            prequential.add(outcome)
    assert "addmm" in operations.names
    assert "_local_scalar_dense" not in operations.names
    for ask in (window.finite, prequential.read):
        with Operations() as operations:
            ask()
        assert "_local_scalar_dense" in operations.names


class Spoiling(Classification):
    """Makes the loss of a batch, or its gradients alone, no numbers."""

    def __init__(self, loss: float = 1.0, gradient: float = 1.0) -> None:
        super().__init__()
        object.__setattr__(self, "factors", (loss, gradient))

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        outcome = super().evaluate(model, prepared)
        factor, gradient = self.factors  # type: ignore[attr-defined]
        loss = outcome.loss * factor
        if gradient != 1.0:
            loss.register_hook(lambda given: given * gradient)
        return Outcome(loss, outcome.count, outcome.sums)


def normalising() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


@pytest.mark.parametrize("spoilt", [{"loss": float("nan")}, {"loss": float("inf")}, {"gradient": float("inf")}])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_without_a_number_is_not_taken_and_leaves_everything_as_it_was(
    spoilt: dict[str, float], parts: int
) -> None:
    given = batches(3)
    found = []
    for skipping in (True, False):
        model = normalising()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for number, columns in enumerate(given):
            task = Spoiling(**spoilt) if number == 1 else Classification()
            prepared = prepared_in(parts, columns, task)
            if number != 1:
                train_step(model, optimizer, task, *prepared, count=16, skip_nan=skipping)
            elif skipping:
                with pytest.raises(StepNotTaken):
                    train_step(model, optimizer, task, *prepared, count=16, skip_nan=True)
        found.append([*model.state_dict().values(), *(each["momentum_buffer"] for each in optimizer.state.values())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_of_a_scaled_step_the_loss_is_looked_at_and_the_gradients_are_the_scalers() -> None:
    model = normalising()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), GradScaler("cpu")
    prepared = Classification().prepare(batches(1)[0], CPU)
    with pytest.raises(StepNotTaken):
        train_step(model, optimizer, Spoiling(loss=float("nan")), prepared, scaler=scaler, skip_nan=True)
    assert scaler.get_scale() == GradScaler("cpu").get_scale(), "a loss that is no number says nothing of the scale"
    outcome = train_step(model, optimizer, Spoiling(gradient=float("inf")), prepared, scaler=scaler, skip_nan=True)
    assert outcome.loss.isfinite()
    assert scaler.get_scale() < GradScaler("cpu").get_scale()


def test_looking_at_a_step_asks_for_one_number() -> None:
    task, model = Classification(), model_of_seed_1()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Operations() as operations:
        train_step(model, optimizer, task, task.prepare(batches(1)[0], CPU), skip_nan=True)
    assert operations.names.count("_local_scalar_dense") == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", [StepSettings(), StepSettings(amp="bf16", channels_last=True, accumulate=3)])
def test_a_step_never_waits_for_the_device(settings: StepSettings) -> None:
    device = torch.device("cuda", 0)
    transfer, task, model = open_transfer(device), as_computed(Classification(), settings, device), model_of_seed_1()
    optimizer = torch.optim.SGD(model.to(device).parameters(), lr=0.01, momentum=0.9)
    window = Window()
    given = [{name: column.pin_memory() for name, column in columns.items()} for columns in batches(6)]
    try:
        for columns in given:  # the first step may: it loads what it computes with
            parts = micro_batches(transfer(columns), 16, settings.accumulate)
            prepared = [task.prepare(part, device) for part in parts]
            window.add(train_step(model, optimizer, task, *prepared, count=16))
            torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert window.finite()


@pytest.mark.parametrize("parts", [1, 3])
def test_clipped_steps_give_the_bits_of_a_plain_loop_that_clips(parts: int) -> None:
    task, model, plain = Classification(), model_of_seed_1(), model_of_seed_1()
    optimizer, plain_optimizer = (torch.optim.SGD(each.parameters(), lr=0.5) for each in (model, plain))
    for columns in batches(4, 12):
        micro = [task.prepare(each, CPU) for each in micro_batches(columns, 12, parts)]
        outcome = train_step(model, optimizer, task, *micro, count=12, clip_norm=0.05)

        plain_optimizer.zero_grad()
        for each in micro:
            loss = functional.cross_entropy(plain(each["input"]), each["target"])
            (loss * (len(each["target"]) / 12) if parts > 1 else loss).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
        assert norm > 0.05
        assert outcome.gradient_norm == norm
        plain_optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_scaled_gradients_are_clipped_as_they_are_without_their_scale() -> None:
    task, model, plain = Classification(), model_of_seed_1(), model_of_seed_1()
    prepared = task.prepare(batches(1)[0], CPU)
    norms = []
    for each, scaler in ((model, GradScaler("cpu", init_scale=2.0**10)), (plain, None)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.5)
        norms.append(train_step(each, optimizer, task, prepared, scaler=scaler, clip_norm=0.05).gradient_norm)
    torch.testing.assert_close(*norms)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("norm", [-1.0, float("inf"), float("nan")])
def test_a_norm_that_is_none_is_the_users_mistake(norm: float) -> None:
    with pytest.raises(UsageError, match=r"--clip_norm .*: give the largest norm"):
        StepSettings(clip_norm=norm)
