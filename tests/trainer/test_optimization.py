"""What is learnt of a model, when its schedule goes on, and that a stop in between changes no bit of either."""

import io
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional
from torch.optim import lr_scheduler

from protocol.errors import UsageError
from trainer.optimization import OptimizationSettings, Schedule, ScheduleEvery
from trainer.parts import Parts, assemble
from trainer.schedules import Sequential
from trainer.step import StepSettings, train_step
from trainer.tasks import Regression

CPU = torch.device("cpu")
TASK = Regression(input="x", target="y")
STEPS = 12


def model_of_seed_2() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 1))


def parts_of(optimizer: Any, scheduler: Any = None, **settings: Any) -> Parts:
    made = SimpleNamespace(model=model_of_seed_2(), task=TASK, optimizer=optimizer, lr_scheduler=scheduler)
    return assemble(made, CPU, StepSettings(), OptimizationSettings(**settings))


def batch(number: int) -> dict[str, torch.Tensor]:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
    return {"x": x, "y": x.square().sum(dim=1)}


def learn(parts: Parts, first: int, last: int) -> None:
    """Train on batches, with a validation after each fourth."""
    for number in range(first, last):
        loss = train_step(parts.model, parts.optimizer, TASK, TASK.prepare(batch(number), CPU)).loss
        parts.schedule.batch_trained(8 * number, 8 * number + 8)
        if number % 4 == 3:
            parts.schedule.validated(loss.item())


def rates(parts: Parts, steps: int) -> list[float]:
    """The learning rate before each step."""
    found = []
    for number in range(steps):
        found.append(float(parts.optimizer.param_groups[0]["lr"]))
        learn(parts, number, number + 1)
    return found


# --- which parameters --------------------------------------------------------------------------------------------


def test_frozen_parameters_keep_their_bits_and_need_no_gradients() -> None:
    parts, before = parts_of(partial(optim.SGD, lr=0.1, weight_decay=0.1), freeze="^0"), model_of_seed_2()
    learn(parts, 0, 3)
    for name, parameter in parts.model.named_parameters():
        same = torch.equal(parameter, before.get_parameter(name))
        assert same == name.startswith("0")
        assert (parameter.grad is None) == name.startswith("0")


def test_what_shall_not_decay_learns_as_in_a_group_of_its_own() -> None:
    parts = parts_of(partial(optim.AdamW, lr=0.01, weight_decay=0.5), no_decay="bias|^1")
    learn(parts, 0, 5)
    plain = model_of_seed_2()
    decayed = [plain.get_parameter(name) for name in ("0.weight", "3.weight")]
    others = [plain.get_parameter(name) for name in ("0.bias", "1.weight", "1.bias", "3.bias")]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0}]
    optimizer = optim.AdamW(groups, lr=0.01, weight_decay=0.5)
    for number in range(5):
        optimizer.zero_grad()
        columns = batch(number)
        functional.mse_loss(plain(columns["x"])[:, 0], columns["y"]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for ours, theirs in zip(parts.model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("optimizer", "settings", "message"),
    [
        (optim.SGD, {"freeze": "conv"}, "--freeze 'conv' finds none of the parameters 0.weight, 0.bias"),
        (optim.SGD, {"freeze": "."}, "--freeze '.' leaves nothing to learn"),
        (optim.SGD, {"freeze": "("}, r"--freeze '\(' is no regular expression"),
        (optim.SGD, {"no_decay": "bias"}, "--no_decay: SGD has no weight decay here"),
        (optim.LBFGS, {"no_decay": "bias"}, "cannot be made: .*LBFGS doesn't support per-parameter options"),
        (optim.SGD, {"schedule_every": 0}, "--schedule_every 0: give batch, validation, or samples from 1 up"),
    ],
)
def test_what_cannot_be_is_the_users_mistake(optimizer: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parts_of(partial(optimizer, lr=0.1), **settings)


# --- when the schedule goes on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("batch", [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (16, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ("validation", [1, 1, 1, 1, 0.5, 0.5]),
    ],
)
def test_a_schedule_goes_on_with_batches_samples_or_validations(every: ScheduleEvery, expected: list[float]) -> None:
    halving = partial(lr_scheduler.StepLR, step_size=1, gamma=0.5)
    assert rates(parts_of(partial(optim.SGD, lr=1.0), halving, schedule_every=every), 6) == expected


def test_a_plateau_is_one_of_the_validation_loss() -> None:
    plateau = partial(lr_scheduler.ReduceLROnPlateau, patience=1, factor=0.1)
    with pytest.raises(UsageError, match="looks at the validation loss: give --schedule_every validation"):
        parts_of(partial(optim.SGD, lr=1.0), plateau)
    parts = parts_of(partial(optim.SGD, lr=1.0), plateau, schedule_every="validation")
    found = []
    for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
        parts.schedule.validated(loss)
        found.append(parts.optimizer.param_groups[0]["lr"])
    assert found == [1.0, 1.0, 1.0, 0.1, 0.1]


def test_without_a_schedule_nothing_goes_on() -> None:
    schedule = Schedule(None, "validation")
    schedule.validated(1.0)
    schedule.batch_trained(0, 8)


# --- a stop and a resume -----------------------------------------------------------------------------------------


def third_party(name: str, parameters: Any, **settings: Any) -> optim.Optimizer:
    """An optimizer that is not torch's."""
    package = pytest.importorskip("pytorch_optimizer", reason="it is of the extra dev")
    made: optim.Optimizer = getattr(package, name)(parameters, **settings)
    return made


OPTIMIZERS: dict[str, Any] = {
    "SGD": partial(optim.SGD, lr=0.02),
    "momentum": partial(optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "Nesterov": partial(optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": partial(optim.Adam, lr=0.01),
    "AdamW": partial(optim.AdamW, lr=0.01, amsgrad=True),
    "RMSprop": partial(optim.RMSprop, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=0.05),
    "LBFGS": partial(optim.LBFGS, lr=0.1, max_iter=3),
    "Lion": partial(third_party, "Lion", lr=1e-3),
    "AdaBelief": partial(third_party, "AdaBelief", lr=0.01),
}
SCHEDULES: dict[str, tuple[Any, ScheduleEvery]] = {
    "none": (None, "batch"),
    "steps": (partial(lr_scheduler.StepLR, step_size=3), "batch"),
    "cosine by samples": (partial(lr_scheduler.CosineAnnealingLR, T_max=8), 16),
    "one cycle": (partial(lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=STEPS, cycle_momentum=False), "batch"),
    "plateau": (partial(lr_scheduler.ReduceLROnPlateau, patience=0), "validation"),
    "warm-up, then cosine": (
        partial(
            Sequential,
            schedules=[
                partial(lr_scheduler.LinearLR, total_iters=6),
                partial(lr_scheduler.CosineAnnealingLR, T_max=14),
            ],
            milestones=[6],
        ),
        "batch",
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stop_in_between_changes_no_bit(optimizer: str, schedule: str) -> None:
    scheduler, every = SCHEDULES[schedule]
    whole, first, second = (parts_of(OPTIMIZERS[optimizer], scheduler, schedule_every=every) for _ in range(3))
    learn(whole, 0, STEPS)
    learn(first, 0, STEPS // 2 + 1)
    saved = io.BytesIO()
    torch.save([each.state_dict() for each in stateful(first)], saved)
    states = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)  # as a checkpoint is read
    for each, state in zip(stateful(second), states, strict=True):
        each.load_state_dict(state)
    learn(second, STEPS // 2 + 1, STEPS)
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert second.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]


def stateful(parts: Parts) -> list[Any]:
    """What a checkpoint holds of them."""
    return [each for each in (parts.model, parts.optimizer, parts.schedule.scheduler) if each is not None]
