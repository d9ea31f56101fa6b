"""Augmentation: drawn for each record, from the seed and the batch's number alone, in training alone."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from tests.trainer.trained_run import pictures, train
from trainer.augmentation import Augmentation, AugmentationSettings, Each, add_augment, seed_of
from trainer.checkpoint_files import State, load_newest
from trainer.rng import drawing_from
from trainer.stages import Stages
from trainer.task import Outcome, Prepared, Task
from trainer.tasks import Classification, Regression
from trainer.transforms import RandomShift

CPU = torch.device("cpu")
RAMP = torch.arange(5, dtype=torch.uint8).expand(40, 1, 5, 5).clone()
LABELS = torch.arange(40)


def augmentation(
    *transforms: nn.Module, task: Task | None = None, each: Each = "record", seed: int = 0
) -> Augmentation:
    settings, task = AugmentationSettings(augment_each=each), task or Classification()
    return Augmentation(transforms, task, settings, seed=seed, device=CPU, stages=Stages())


class Noise(nn.Module):
    """A class of one's own, which is given the whole batch."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.rand(len(values), 1) * random.random()


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_each_record_draws_for_itself() -> None:
    changed = augmentation(v2.RandomHorizontalFlip())({"image": RAMP, "label": LABELS}, 1)
    mirrored = [torch.equal(one, RAMP[0].flip(-1)) for one in changed["image"]]
    assert 10 < sum(mirrored) < 30
    assert all(
        torch.equal(one, RAMP[0]) for one, flipped in zip(changed["image"], mirrored, strict=True) if not flipped
    )
    assert changed["label"] is LABELS


def test_or_the_whole_batch_draws_once() -> None:
    flip = augmentation(v2.RandomHorizontalFlip(), each="batch")
    found = [flip({"image": RAMP}, number)["image"] for number in range(20)]
    assert all(torch.equal(each, RAMP) or torch.equal(each, RAMP.flip(-1)) for each in found)
    assert 4 < sum(torch.equal(each, RAMP) for each in found) < 16


def test_what_a_batch_draws_follows_from_the_seed_and_its_number_alone() -> None:
    columns = {"x": torch.zeros(8, 3)}
    task = Regression(input="x", target="x")

    def drawn(number: int, seed: int = 0) -> list[Any]:
        return augmentation(Noise(), task=task, seed=seed)(columns, number)["x"].tolist()

    first = drawn(7)
    torch.rand(5)
    random.random()
    drawn(8)
    assert drawn(7) == first
    assert len({str(each) for each in (first, drawn(8), drawn(7, seed=1), drawn(8, seed=1))}) == 4
    assert seed_of(0, 1) == 8792598656280310881, "a run draws in a later version what it drew"


def test_transforms_go_one_after_the_other() -> None:
    both = augmentation(v2.RandomHorizontalFlip(p=1), v2.Pad([2, 0, 0, 0]))({"image": RAMP}, 1)
    assert both["image"].shape == (40, 1, 5, 7)
    assert both["image"][0, 0, 0].tolist() == [0, 0, 4, 3, 2, 1, 0]


def test_floats_are_augmented_as_bytes_are() -> None:
    flip = augmentation(v2.RandomHorizontalFlip())
    bytes_, floats = flip({"image": RAMP}, 3)["image"], flip({"image": RAMP.float() / 4}, 3)["image"]
    assert floats.dtype == torch.float32
    assert torch.equal(floats * 4, bytes_.float())


def test_what_the_batch_shows_is_left_as_it_was() -> None:
    class Darken(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values.zero_()

    image = RAMP.clone()
    assert augmentation(Darken())({"image": image}, 1)["image"].sum() == 0
    assert torch.equal(image, RAMP)


def test_without_transforms_the_columns_are_what_they_were() -> None:
    columns = {"image": RAMP}
    assert augmentation()(columns, 1) is columns


V2 = "torchvision.transforms.v2."


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ([f"{V2}RandomRotation", "--augment.degrees", "10"], v2.RandomRotation(10)),
        (
            [f"{V2}RandomAffine", "--augment.degrees", "5", "--augment.translate", "[0.1, 0]"],
            v2.RandomAffine(5, (0.1, 0)),
        ),
        ([f"{V2}ColorJitter", "--augment.brightness", "0.2"], v2.ColorJitter(0.2)),
        ([f"{V2}RandomCrop", "--augment.size", "28", "--augment.padding", "4"], v2.RandomCrop(28, padding=4)),
        (["RandomShift", "--augment.pixels", "2"], RandomShift(2)),
    ],
)
def test_what_transforms_are_told_may_be_typed(arguments: list[str], made: nn.Module) -> None:
    parser, line = ArgumentParser(), ["--augment+", *arguments]
    add_augment(parser, line)
    (found,) = parser.make(parser.parse_args(line)).augment
    with drawing_from(3, CPU):
        expected = made(RAMP.repeat(1, 1, 6, 6))
    with drawing_from(3, CPU):
        assert torch.equal(found(RAMP.repeat(1, 1, 6, 6)), expected)


# --- mistakes ----------------------------------------------------------------------------------------------------


class Half(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values[::2]


class Listed(nn.Module):
    def forward(self, values: torch.Tensor) -> list[int]:
        return [len(values)]


class Odd(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such colour")


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (
            Half(),
            r"Half .* 'image', uint8 \[40, 1, 5, 5\], of which it makes uint8 \[20, 1, 5, 5\]: give one of its rec",
        ),
        (Listed(), r"Listed .* of which it makes list: give one of its records"),
        (Odd(), r"Odd does not go with the column 'image', uint8 \[40, 1, 5, 5\]: KeyError: 'no such colour' \(test_"),
        (v2.RandomCrop(9), r"RandomCrop does not go with .*: ValueError: Required crop size"),
        (v2.MixUp(num_classes=3), r"MixUp does not go with .*"),
    ],
)
def test_a_transform_that_does_not_fit_is_the_users_mistake(transform: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=f"^--augment: {said}") as caught:
        augmentation(transform)({"image": RAMP, "label": LABELS}, 1)
    assert "\n" not in str(caught.value)


def test_a_task_without_inputs_cannot_be_augmented() -> None:
    class Own(Task):
        def prepare(self, columns: Any, device: torch.device) -> Prepared:
            raise NotImplementedError

        def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
            raise NotImplementedError

    with pytest.raises(UsageError, match="the task Own does not say what is input: give it `inputs`"):
        augmentation(Noise(), task=Own())
    augmentation(task=Own())


# --- in a run ----------------------------------------------------------------------------------------------------

AUGMENTED = (
    *("--augment+", "torchvision.transforms.v2.RandomHorizontalFlip"),
    *("--augment+", "trainer.transforms.RandomShift", "--augment.pixels", "2"),
    *("--model", "tests.trainer.counting.DroppingClassifier"),
)
RUNS: dict[str, tuple[str, ...]] = {"plain": (), "augmented": AUGMENTED[:-2]}


def newest(run_dir: Path) -> State:
    found = load_newest(run_dir, pytest.fail)
    assert found is not None
    return found[1]


def losses(run_dir: Path, kind: str) -> list[float]:
    lines = (json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines())
    told = [line for line in lines if line["kind"] == kind]
    return [(line["metrics"] if kind == "validation" else line["train"])["loss"] for line in told]


@pytest.mark.parametrize("window", ["0", "200"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path: Path, window: str) -> None:
    options = (*AUGMENTED, "--shuffle_window", window)
    whole = newest(train(tmp_path / "whole", pictures(), *options))
    train(tmp_path / "parts", pictures(), *options, "--max_samples", "320")
    parts = newest(train(tmp_path / "parts", pictures(), *options))
    assert parts["samples"] == whole["samples"] == 640
    for name, weights in whole["model"].items():
        assert torch.equal(parts["model"][name], weights), name
    assert torch.equal(parts["rng"]["torch"], whole["rng"]["torch"])


def test_a_model_draws_what_it_drew_without_augmentation(tmp_path: Path) -> None:
    plain, augmented = (
        newest(train(tmp_path / name, pictures(), *options, *AUGMENTED[-2:])) for name, options in RUNS.items()
    )
    assert torch.equal(plain["rng"]["torch"], augmented["rng"]["torch"])
    assert not all(torch.equal(plain["model"][name], weights) for name, weights in augmented["model"].items())


def test_a_validation_sees_records_as_they_are(tmp_path: Path) -> None:
    still = ("--optimizer", "torch.optim.SGD", "--optimizer.lr", "0", "--model", "tests.trainer.models.Flat")
    plain, augmented = (train(tmp_path / name, pictures(), *options, *still) for name, options in RUNS.items())
    assert losses(augmented, "validation") == losses(plain, "validation")
    assert losses(augmented, "report") != losses(plain, "report")
