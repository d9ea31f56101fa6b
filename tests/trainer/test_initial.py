"""The weights that a run begins with: what is taken, and what cannot be."""

from pathlib import Path

import pytest
import torch
from torch import nn

from protocol.errors import UsageError
from trainer import initial
from trainer.initial import InitialSettings, take_weights


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> nn.Sequential:
    """What `runs/other` holds."""
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    found = Path("runs/other/best/step-000000000064"), {"model": model.state_dict()}, ()
    monkeypatch.setattr(initial, "best_checkpoint", lambda run_dir: found)
    return model


def test_parameters_and_buffers_are_taken_by_their_names_and_the_others_stay(other: nn.Sequential) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 7))
    head = model.get_parameter("2.weight").detach().clone()
    learnt = list(model.parameters())
    said = take_weights(model, InitialSettings(init_from="runs/other", init_names="^[01]"))
    assert said == "7 of 9 tensors of the model were taken from runs/other/best/step-000000000064"
    assert torch.equal(model.get_parameter("0.weight"), other.get_parameter("0.weight"))
    assert torch.equal(model.get_parameter("2.weight"), head)
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), learnt, strict=True)), "an optimizer has them"


def test_without_another_run_nothing_is_taken() -> None:
    assert take_weights(nn.Linear(1, 1), InitialSettings()) == ""


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        (nn.Sequential(nn.Linear(3, 6)), "^0", r"0.weight is \[5, 3\] in runs/other\S+ and \[6, 3\] here: take others"),
        (
            nn.Sequential(nn.Linear(3, 5)),
            "",
            r"1.weight is \[5\] in runs/other\S+ and not in this model here: take others",
        ),
        (nn.Linear(3, 5), "conv", "--init_names 'conv' finds none of 0.weight, 0.bias, 1.weight"),
    ],
)
def test_what_does_not_fit_is_named(model: nn.Module, names: str, message: str) -> None:
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(UsageError, match=message):
        take_weights(model, InitialSettings(init_from="runs/other", init_names=names))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), before, strict=True))


def test_settings_that_make_no_sense_are_the_users_mistake() -> None:
    with pytest.raises(UsageError, match=r"--init_names '\(' is no regular expression"):
        InitialSettings(init_from="runs/other", init_names="(")
    with pytest.raises(UsageError, match="--init_names says what to take from another run: give --init_from as well"):
        InitialSettings(init_names="conv")
