"""The average of the weights: torch's own, what is judged by it, and that a stop in between changes no bit of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from protocol.errors import UsageError
from tests.trainer.numbered import NumberedPictures
from tests.trainer.states import through_a_checkpoint
from tests.trainer.streams import computed, serving
from trainer.average import Average
from trainer.checkpoint_files import load_newest
from trainer.commands import main
from trainer.optimization import OptimizationSettings
from trainer.trained import best_checkpoint, open_trained, weights_of
from trainer.validation import validate

DECAY = 0.9


def model_of_seed_3() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1))


def learn(model: nn.Module, *averages: Average, first: int = 0, last: int = 6) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(first, last):
        optimizer.zero_grad()
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        model(x).square().mean().backward()
        optimizer.step()
        for average in averages:
            average.update()


def test_it_is_torchs_average_of_all_floating_numbers_and_the_newest_of_others() -> None:
    model = model_of_seed_3()
    average = Average(model, DECAY)
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)  # type: ignore[no-untyped-call]
    assert average.module is model, "nothing is averaged yet"
    for step in range(5):
        learn(model, average, first=step, last=step + 1)
        torchs.update_parameters(model)
    found, expected, newest = (each.state_dict() for each in (average.module, torchs.module, model))
    for name, value in found.items():
        assert torch.equal(value, (expected if value.is_floating_point() else newest)[name]), name
        assert not torch.equal(value, newest[name]) or not value.is_floating_point(), "it is an average"
    assert found["1.num_batches_tracked"] == 5


@pytest.mark.parametrize("before", [0, 1, 4])
def test_a_stop_in_between_changes_no_bit(before: int) -> None:
    whole = model_of_seed_3()
    average = Average(whole, DECAY)
    learn(whole, average)
    first = model_of_seed_3()
    stopped = Average(first, DECAY)
    learn(first, stopped, last=before)
    states = through_a_checkpoint([first.state_dict(), stopped.state_dict()])
    second = model_of_seed_3()
    resumed = Average(second, DECAY)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    learn(second, resumed, first=before)
    for name, value in resumed.module.state_dict().items():
        assert torch.equal(value, average.module.state_dict()[name]), name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_update_never_waits_for_the_device() -> None:
    average = Average(model_of_seed_3().cuda(), DECAY)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            average.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_makes_no_sense_is_the_users_mistake(decay: float) -> None:
    with pytest.raises(UsageError, match=f"--ema {decay}: give the average's decay"):
        OptimizationSettings(ema=decay)


@pytest.mark.usefixtures("signals_as_they_were")
def test_a_run_is_judged_by_its_average_and_resumes_it_with_the_same_bits(tmp_path: Path) -> None:
    source = NumberedPictures(300, padding=1, validation=50)
    splits = {"validation": computed(source.splits()["validation"], partitions=1)}
    with serving(computed(source), splits=splits) as url:
        arguments = ["--stream", url, "--display", "none", "--tensorboard", "false", "--device", "cpu"]
        arguments += ["--model", "tests.trainer.counting.DroppingClassifier", "--ema", str(DECAY)]
        arguments += ["--batch_size", "10", "--validate_every", "100"]
        for run, *life in (["whole"], ["stopped", "--max_samples", "130"], ["stopped"]):
            assert main(["train", *arguments, "--run_dir", str(tmp_path / run), *life]) == 0
    states = []
    for run in ("whole", "stopped"):
        found = load_newest(tmp_path / run, pytest.fail)
        assert found is not None
        states.append(found[1])
    for name, value in weights_of(states[0]).items():
        assert torch.equal(value, weights_of(states[1])[name]), name
        assert not torch.equal(value, states[0]["model"][name]), name
    path, state, _ = best_checkpoint(tmp_path / "stopped")
    trained = open_trained(path, state)
    held = source.splits()["validation"].take(np.arange(50))
    columns = {name: torch.from_numpy(np.asarray(column)) for name, column in held.items()}
    loss = validate(trained.model, trained.task, [columns], torch.device("cpu"))["loss"]
    lines = map(json.loads, (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines())
    best = [line["metrics"]["loss"] for line in lines if line["kind"] == "validation" and line["best"]]
    assert best[-1] == pytest.approx(loss, rel=1e-6)
