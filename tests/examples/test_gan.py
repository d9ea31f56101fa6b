"""The example of a task that takes its steps itself: two networks, two optimizers, one run that can be stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.gan import Adversarial, Gan, Two
from protocol.errors import UsageError
from tests.trainer.numbered import NumberedPictures
from tests.trainer.streams import computed, serving
from trainer.checkpoint_files import load, load_newest
from trainer.commands import main
from trainer.step import StepSettings, check_own_step, train_step

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("signals_as_they_were")
def test_both_networks_learn_and_a_stop_in_between_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    source = NumberedPictures(200, padding=1, validation=50)
    splits = {"validation": computed(source.splits()["validation"], partitions=1)}
    with serving(computed(source), splits=splits) as url:
        arguments = ["--config", "examples/gan.yaml", "--stream", url, "--display", "none", "--tensorboard", "false"]
        arguments += ["--device", "cpu", "--batch_size", "10", "--validate_every", "50", "--model.width", "16"]
        for run, *life in (["whole"], ["stopped", "--max_samples", "90"], ["stopped"]):
            assert main(["train", *arguments, "--run_dir", str(tmp_path / run), *life]) == 0
    whole, stopped = (newest(tmp_path / run) for run in ("whole", "stopped"))
    begun = load(tmp_path / "whole" / "checkpoints" / "step-000000000000")
    assert not any(torch.equal(weights, begun["model"][name]) for name, weights in whole["model"].items())
    pairs = list(zip(tensors(whole), tensors(stopped), strict=True))
    assert len(pairs) == 8 + 8 * 3, "weights, and of each the step and two moments"
    assert all(torch.equal(one, other) for one, other in pairs)


def newest(run_dir: Path) -> dict[str, Any]:
    found = load_newest(run_dir, pytest.fail)
    assert found is not None
    return found[1]


def tensors(state: dict[str, Any]) -> Iterator[torch.Tensor]:
    yield from state["model"].values()
    for network in ("generator", "discriminator"):
        for kept in state["optimizer"][network]["state"].values():
            yield from kept.values()


def test_each_network_learns_at_its_own_rate() -> None:
    torch.manual_seed(1)
    model = Gan(width=8)
    optimizer = Two(model.parameters(), generator_lr=0.0, discriminator_lr=0.1)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    task = Adversarial()
    pictures = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    outcome = train_step(model, optimizer, task, task.prepare({"image": pictures}, torch.device("cpu")))
    assert outcome.count == 6
    assert outcome.loss.grad_fn is None
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, before[name]) == name.startswith("generator"), name


@pytest.mark.parametrize(
    ("setting", "value"),
    [("amp", "bf16"), ("channels_last", True), ("accumulate", 2), ("clip_norm", 1.0), ("on_nan", "skip")],
)
def test_an_option_that_its_step_would_not_hear_of_is_the_users_mistake(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"--{setting} does not go with Adversarial, which takes its steps itself"):
        check_own_step(Adversarial(), StepSettings(**{setting: value}))
    check_own_step(Adversarial(), StepSettings(compile=True))
