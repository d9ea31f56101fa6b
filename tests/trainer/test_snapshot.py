from collections import OrderedDict, defaultdict
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from protocol.errors import UsageError
from tests.trainer.states import through_a_checkpoint
from trainer.snapshot import snapshot


def test_nothing_that_trains_on_can_change_it() -> None:
    weights, inner = torch.ones(3), {"list": [1, {"deep": torch.zeros(2)}]}
    copied = snapshot({"weights": weights, "inner": inner})
    weights.add_(1)
    inner["list"][1]["deep"].add_(1)  # type: ignore[index]
    inner["list"].append(2)
    assert torch.equal(copied["weights"], torch.ones(3))
    assert len(copied["inner"]["list"]) == 2
    assert torch.equal(copied["inner"]["list"][1]["deep"], torch.zeros(2))


def test_a_view_is_copied_without_the_memory_that_it_looks_at() -> None:
    copied = snapshot({"view": torch.zeros(1000, 1000)[0, :3]})
    assert copied["view"].untyped_storage().nbytes() == 12


def test_parameters_become_plain_tensors_and_keep_strides_and_dtype() -> None:
    weights = nn.Parameter(torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last).to(torch.bfloat16))
    copied = snapshot({"weights": weights})["weights"]
    assert type(copied) is torch.Tensor
    assert not copied.requires_grad
    assert copied.dtype == torch.bfloat16
    assert copied.stride() == weights.stride()
    assert torch.equal(copied, weights)


PLAIN: dict[Any, Any] = {
    "none": None,
    "numbers": (True, 1 << 70, -0.5, float("inf"), 1j),
    "texts": ["ä", b"\x00\xff"],
    1: {(0, 1): "tuples may be keys"},
    "torch": [torch.float16, torch.device("cpu"), torch.Size([2, 3])],
    "ordered": OrderedDict(b=1, a=2),
}


def test_every_value_that_it_takes_comes_back_from_a_checkpoint_as_it_was() -> None:
    loaded = through_a_checkpoint(snapshot(PLAIN))
    assert loaded == PLAIN
    assert repr(loaded) == repr(PLAIN), "types and order too"


def test_numpys_numbers_become_pythons() -> None:
    loaded = through_a_checkpoint(snapshot({"lr": np.float64(0.1), "count": np.int64(3), "flag": np.bool_(True)}))
    assert repr(loaded) == "{'lr': 0.1, 'count': 3, 'flag': True}"


def test_what_modules_note_about_their_versions_is_kept() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    loaded = through_a_checkpoint(snapshot({"model": state}))["model"]
    assert loaded._metadata == state._metadata  # type: ignore[attr-defined]


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "pathlib"),
        (Colour.RED, "Colour"),
        (defaultdict(int), "collections.defaultdict"),
        (lambda: None, "function"),
        (object(), "builtins.object"),
    ],
)
def test_what_a_checkpoint_could_not_give_back_is_refused_by_its_place(value: object, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"cannot hold state\['optimizer'\]\[0\]\['x'\], a .*{kind}"):
        snapshot({"optimizer": [{"x": value}]})


def test_a_key_that_could_not_be_given_back_is_refused_too() -> None:
    with pytest.raises(UsageError, match=r"the key .* of state\['a'\]"):
        snapshot({"a": {Colour.RED: 1}})


OPTIMIZERS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.Adam, {"lr": torch.tensor(0.1), "amsgrad": True}),
    (torch.optim.AdamW, {"lr": 0.1}),
    (torch.optim.RMSprop, {"lr": 0.1}),
    (torch.optim.Adagrad, {"lr": 0.1}),
    (torch.optim.LBFGS, {"lr": 0.1}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS, ids=[kind.__name__ for kind, _ in OPTIMIZERS])
def test_torchs_optimizers_go_through_a_checkpoint_with_every_bit(
    kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    def built() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        return model, kind(model.parameters(), **settings)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value: torch.Tensor = model(torch.ones(3, 4)).square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[arg-type]

    model, optimizer = built()
    step(model, optimizer)
    state = through_a_checkpoint(snapshot({"model": model.state_dict(), "optimizer": optimizer.state_dict()}))
    step(model, optimizer)
    again, optimizer_again = built()
    again.load_state_dict(state["model"])
    optimizer_again.load_state_dict(state["optimizer"])
    step(again, optimizer_again)
    for first, second in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9),
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [torch.optim.lr_scheduler.ConstantLR(optimizer), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)],
            milestones=[2],
        ),
    ],
    ids=["StepLR", "OneCycleLR", "CosineAnnealingLR", "ReduceLROnPlateau", "SequentialLR"],
)
def test_torchs_schedulers_can_be_held(schedule: Any) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    state = schedule(optimizer).state_dict()
    assert repr(through_a_checkpoint(snapshot({"scheduler": state}))) == repr({"scheduler": state})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensors_arrive_on_the_cpu_before_it_returns() -> None:
    weights = torch.zeros(1 << 24, device="cuda")
    for round_number in range(10):
        copied = snapshot({"weights": weights})["weights"]
        weights.add_(1)
        assert copied.device.type == "cpu"
        assert bool((copied == round_number).all())
