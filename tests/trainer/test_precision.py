"""Real steps in other numbers and layouts, as a run assembles them."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from protocol.errors import UsageError
from tests.trainer.states import through_a_checkpoint
from trainer.model import GarmentClassifier
from trainer.parts import Parts, assemble
from trainer.step import StepSettings, train_step
from trainer.task import Outcome, Prepared, Task
from trainer.tasks import Classification
from trainer.validation import validate

CPU = torch.device("cpu")
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
Columns = dict[str, torch.Tensor]


class Seeing(GarmentClassifier):
    """Remembers the input that it was given last, and what its first layer made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.seen, self.made = inputs[0], output


def batches(number: int, count: int = 16) -> list[Columns]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 10, (count,), generator=generator),
        }
        for _ in range(number)
    ]


def parts_of(
    settings: StepSettings, model: nn.Module | None = None, optimizer: Any = SGD, task: Task | None = None
) -> Parts:
    torch.manual_seed(1)
    made = SimpleNamespace(
        model=model or Seeing(), task=task or Classification(), optimizer=optimizer, lr_scheduler=None
    )
    return assemble(made, CPU, settings)


def train(parts: Parts, given: list[Columns]) -> list[Outcome]:
    return [
        train_step(parts.model, parts.optimizer, parts.task, parts.task.prepare(columns, CPU), scaler=parts.scaler)
        for columns in given
    ]


def test_settings_that_change_nothing_leave_the_task_itself() -> None:
    task = Classification()
    parts = parts_of(StepSettings(), task=task)
    assert parts.task is task
    assert parts.scaler is None


@pytest.mark.parametrize(("amp", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_layers_compute_in_mixed_precision_in_training_and_in_validation(amp: Any, dtype: torch.dtype) -> None:
    model = Seeing()
    parts = parts_of(StepSettings(amp=amp), model)
    outcome = train(parts, batches(1))[0]
    assert model.made.dtype == dtype
    assert outcome.loss.dtype == torch.float32
    assert all(each.dtype == torch.float32 and each.grad is not None for each in model.parameters())
    del model.made
    validate(model, parts.task, batches(2), CPU)
    assert model.made.dtype == dtype
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_learns_about_what_full_precision_learns(amp: Any) -> None:
    given = batches(1) * 8
    full, mixed = (train(parts_of(StepSettings(amp=each)), given) for each in ("off", amp))
    assert mixed[-1].loss < mixed[0].loss
    for one, other in zip(mixed, full, strict=True):
        torch.testing.assert_close(one.loss, other.loss, rtol=0.01, atol=0.0)


def test_the_scale_of_fp16_is_resumed_and_the_run_ends_with_the_same_bits() -> None:
    given = batches(20)

    def begin() -> Parts:
        parts = parts_of(StepSettings(amp="fp16"))
        assert parts.scaler is not None
        parts.scaler.set_growth_interval(4)
        return parts

    def state(parts: Parts) -> dict[str, Any]:
        assert parts.scaler is not None
        return {
            "model": parts.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "scaler": parts.scaler.state_dict(),
        }

    whole, first, second = begin(), begin(), begin()
    train(whole, given)
    train(first, given[:7])
    saved = through_a_checkpoint(state(first))
    assert saved["scaler"]["scale"] != GradScaler("cpu").get_scale(), "nothing changes, so this test shows nothing"
    assert saved["scaler"]["_growth_tracker"] != 0, "saved between two changes is the harder case"
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    assert second.scaler is not None
    second.scaler.load_state_dict(saved["scaler"])
    train(second, given[7:])
    expected = state(whole)
    found = state(second)
    assert found["scaler"] == expected["scaler"]
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value)
    for number, momentum in expected["optimizer"]["state"].items():
        assert torch.equal(found["optimizer"]["state"][number]["momentum_buffer"], momentum["momentum_buffer"])


def test_gradients_that_overflow_leave_the_weights_and_lower_the_scale() -> None:
    parts = parts_of(StepSettings(amp="fp16"))
    assert parts.scaler is not None
    before = [parameter.clone() for parameter in parts.model.parameters()]
    parts.scaler.load_state_dict({**parts.scaler.state_dict(), "scale": 2.0**60})
    outcome = train(parts, batches(1))[0]
    assert outcome.loss.isfinite()
    assert outcome.count == 16
    assert parts.scaler.get_scale() == 2.0**59
    assert all(torch.equal(one, other) for one, other in zip(before, parts.model.parameters(), strict=True))


def test_fp16_with_an_optimizer_that_evaluates_a_batch_often_is_refused_and_bf16_is_not() -> None:
    with pytest.raises(UsageError, match=r"--amp fp16 does not go with LBFGS, .*: give bf16 or off"):
        parts_of(StepSettings(amp="fp16"), optimizer=torch.optim.LBFGS)
    parts = parts_of(StepSettings(amp="bf16"), optimizer=partial(torch.optim.LBFGS, max_iter=3))
    assert train(parts, batches(1))[0].loss.isfinite()


def test_precision_goes_around_a_task_of_ones_own() -> None:
    class Own(Task):
        def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
            return {"x": columns["image"].float()}

        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            self.scores = model(prepared["x"])
            return Outcome(self.scores.square().mean(), len(self.scores))

    task = Own()
    train(parts_of(StepSettings(amp="bf16", channels_last=True), GarmentClassifier(), task=task), batches(2))
    assert task.scores.dtype == torch.bfloat16


def test_channels_last_lays_out_the_models_weights_and_its_pictures() -> None:
    given = {"image": torch.rand(8, 3, 32, 32), "label": torch.zeros(8, dtype=torch.int64)}
    colours = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 28 * 28, 10))
    parts = parts_of(StepSettings(channels_last=True), colours)
    seen = []
    colours[0].register_forward_hook(lambda module, inputs, output: seen.extend([inputs[0], output]))
    train(parts, [given])
    validate(colours, parts.task, [given], CPU)
    assert len(seen) == 4
    for value in (*seen, colours[0].weight):
        assert value.is_contiguous(memory_format=torch.channels_last)
        assert not value.is_contiguous()
    assert torch.equal(seen[0], given["image"]), "only the layout changes"


@pytest.mark.long
def test_a_compiled_model_has_the_names_and_about_the_losses_of_one_that_is_not() -> None:
    given = [*batches(4), *batches(1, 5)]

    def small() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))

    plain, compiled = parts_of(StepSettings(), small()), parts_of(StepSettings(compile=True), small())
    expected, found = train(plain, given), train(compiled, given)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert type(compiled.model) is type(plain.model)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.loss, other.loss)
    figures = validate(compiled.model, compiled.task, batches(2, 30), CPU)
    assert figures == pytest.approx(validate(plain.model, plain.task, batches(2, 30), CPU), rel=1e-4)
    resumed = parts_of(StepSettings(), small())
    resumed.model.load_state_dict(compiled.model.state_dict())
