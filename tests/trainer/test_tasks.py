from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import transforms

from protocol.errors import DataFault, UsageError
from trainer.model import GarmentClassifier
from trainer.supervised import Supervised
from trainer.tasks import Classification, Distribution, MultiLabel, Regression

CPU = torch.device("cpu")


def batch(count: int = 4, classes: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {
        "id": torch.arange(count),
        "image": torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
        "label": torch.randint(0, classes, (count,), generator=generator),
    }


def test_pictures_become_bit_for_bit_what_torchvisions_transforms_make_of_them() -> None:
    columns = batch(256)
    columns["image"][:, 0, 0, 0] = torch.arange(256)
    for mean, std in ((0.5, 0.5), (0.2860, 0.3530)):
        prepared = Classification(mean=mean, std=std).prepare(columns, CPU)
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (std,))])
        expected = torch.stack([transform(Image.fromarray(image[0].numpy())) for image in columns["image"]])
        assert prepared["input"].dtype == torch.float32
        assert torch.equal(prepared["input"], expected)


def test_preparing_leaves_the_batch_as_it_was() -> None:
    columns = batch() | {"image": torch.rand(4, 1, 28, 28)}
    before = {name: column.clone() for name, column in columns.items()}
    Classification().prepare(batch(), CPU)["input"].zero_()
    Classification().prepare(columns, CPU)
    assert all(torch.equal(columns[name], before[name]) for name in before)


def test_only_what_the_task_reads_is_prepared() -> None:
    assert set(Classification().prepare(batch(), CPU)) == {"input", "target"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floats_were_normalised_by_their_source_and_keep_their_values(dtype: torch.dtype) -> None:
    values = torch.tensor([[-3.0, 0.5], [200.0, 7.0]], dtype=dtype)
    prepared = Classification(input="x", target="y").prepare({"x": values, "y": torch.tensor([0, 1])}, CPU)
    assert prepared["input"].dtype == torch.float32
    assert torch.equal(prepared["input"], values.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_labels_of_any_integer_become_int64(dtype: torch.dtype) -> None:
    columns = batch()
    assert Classification().prepare(columns | {"label": columns["label"].to(dtype)}, CPU)["target"].dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": torch.zeros(4, 1, 28, 28, dtype=torch.int64)}, r"'image' holds int64 \[4, 1, 28, 28\]"),
        ({"label": torch.zeros(4)}, r"'label' holds float32 \[4\] for 4 records: .* one integer each"),
        ({"label": torch.zeros(4, 2, dtype=torch.int64)}, r"'label' holds int64 \[4, 2\] for 4 records"),
        ({"label": torch.zeros(3, dtype=torch.int64)}, r"'label' holds int64 \[3\] for 4 records"),
    ],
)
def test_values_that_cannot_be_classified_are_a_fault_of_the_data(
    changes: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(DataFault, match=message):
        Classification().prepare(batch() | changes, CPU)


def test_a_column_that_is_not_there_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match=r"no column 'picture' in the stream, only id, image, label: .* 'input'"):
        Classification(input="picture").prepare(batch(), CPU)
    with pytest.raises(UsageError, match=r"no column 'class' .* 'target'"):
        Classification(target="class").prepare(batch(), CPU)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_a_deviation_that_cannot_divide_is_refused(std: float) -> None:
    with pytest.raises(UsageError, match="give a number above 0"):
        Classification(std=std)


@pytest.mark.parametrize("label", [-1, -100, 10, 255])
def test_a_label_that_the_model_has_no_score_for_stops_before_it_is_learnt(label: int) -> None:
    columns = batch()
    columns["label"][2] = label
    task = Classification()
    with pytest.raises(DataFault, match=f"label {label} is out of range: the model tells classes 0 to 9 apart"):
        task.evaluate(GarmentClassifier(), task.prepare(columns, CPU))


def test_a_fault_of_the_model_is_not_taken_for_one_of_the_labels() -> None:
    class Broken(nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return functional.one_hot(torch.zeros(len(pictures), dtype=torch.int64), 10).float()[:, [10]]

    task = Classification()
    with pytest.raises(IndexError, match="index 10 is out of bounds"):
        task.evaluate(Broken(), task.prepare(batch(), CPU))


def test_a_model_of_another_kind_is_the_users_mistake() -> None:
    task = Classification()
    with pytest.raises(UsageError, match=r"gives float32 \[4, 1, 28, 28\] for 4 records"):
        task.evaluate(nn.Identity(), task.prepare(batch(), CPU))


def test_the_outcome_is_mean_cross_entropy_and_the_number_right() -> None:
    task, model = Classification(), GarmentClassifier()
    prepared = task.prepare(batch(64), CPU)
    outcome = task.evaluate(model, prepared)
    scores = model(prepared["input"])
    assert outcome.count == 64
    assert torch.equal(outcome.loss, functional.cross_entropy(scores, prepared["target"]))
    assert outcome.loss.requires_grad
    expected = np.sum(scores.detach().numpy().argmax(axis=1) == prepared["target"].numpy())
    assert outcome.sums["correct"].item() == expected
    assert outcome.scores is not None
    assert not outcome.scores.requires_grad
    assert torch.equal(outcome.scores, scores)
    assert outcome.targets is not None
    assert torch.equal(outcome.targets, prepared["target"])


def test_labels_that_are_ignored_are_in_no_loss_and_are_counted() -> None:
    task, model = Classification(ignore_index=255), GarmentClassifier()
    columns = batch(8)
    columns["label"][2:6] = 255
    prepared = task.prepare(columns, CPU)
    outcome = task.evaluate(model, prepared)
    kept = prepared["target"] != 255
    scores = model(prepared["input"][kept])
    torch.testing.assert_close(outcome.loss, functional.cross_entropy(scores, prepared["target"][kept]))
    assert outcome.count == 8
    assert outcome.sums["ignored"].item() == 4
    assert outcome.targets is not None
    assert outcome.targets.tolist() == [label if label != 255 else -1 for label in prepared["target"].tolist()]


def test_a_batch_without_any_label_costs_nothing() -> None:
    task, model = Classification(ignore_index=-1), GarmentClassifier()
    prepared = task.prepare(batch() | {"label": torch.full((4,), -1)}, CPU)
    outcome = task.evaluate(model, prepared)
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    assert outcome.loss.item() == 0
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_a_column_of_numbers_is_not_repeated_over_the_batch() -> None:
    columns = {"x": torch.randn(6, 2), "y": torch.randn(6)}
    task, model = Regression(input="x", target="y"), nn.Linear(2, 1)
    outcome = task.evaluate(model, task.prepare(columns, CPU))
    assert torch.equal(outcome.loss, functional.mse_loss(model(columns["x"])[:, 0], columns["y"]))
    torch.testing.assert_close(outcome.sums["squared_error"].item(), 6 * outcome.loss.item())
    with pytest.raises(UsageError, match=r"gives float32 \[6, 3\] for targets float32 \[6\]: give a"):
        task.evaluate(nn.Linear(2, 3), task.prepare(columns, CPU))


def test_a_model_may_learn_to_give_back_its_input() -> None:
    task = Regression(input="image", target="image")
    prepared = task.prepare(batch(), CPU)
    assert task.evaluate(nn.Identity(), prepared).loss.item() == 0
    assert prepared["target"] is prepared["input"]


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        (Regression(input="x"), torch.zeros(3), r"holds float32 \[3\], which is no target of 4"),
        (MultiLabel(input="x", target="target"), torch.zeros(4), "several labels need one entry a label"),
        (Distribution(input="x", target="target"), torch.zeros(4, 3, dtype=torch.int64), "a float for each class"),
    ],
)
def test_a_column_that_cannot_be_the_target_is_a_fault_of_the_data(
    task: Supervised, target: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataFault, match=message):
        task.prepare({"x": torch.zeros(4, 2), "target": target}, CPU)


@pytest.mark.parametrize("task", [MultiLabel(input="x", target="y"), Distribution(input="x", target="y")])
def test_as_many_answers_as_targets_are_wanted(task: Supervised) -> None:
    with pytest.raises(UsageError, match=r"the model gives 5 \w+ for targets of 3: make it equal"):
        task.evaluate(nn.Linear(2, 5), task.prepare({"x": torch.zeros(4, 2), "y": torch.zeros(4, 3)}, CPU))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(class_weights=[]), r"class_weights \[\]: give numbers"),
        (lambda: Classification(class_weights=[1.0, float("nan")]), "class_weights .* give numbers"),
        (lambda: Classification(label_smoothing=-0.1), "label_smoothing -0.1 .* from 0 to 1"),
        (lambda: MultiLabel(pos_weight=[-1.0]), "pos_weight .* give numbers"),
        (lambda: Regression(delta=0.0), "delta 0.0 .* above 0"),
        (lambda: Regression(loss="cubic"), "'cubic' .* mse, l1, huber"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_sense_are_the_users_mistake(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_each_class_and_each_label_has_a_weight() -> None:
    task = Classification(class_weights=[1.0, 2.0])
    with pytest.raises(UsageError, match="2 class_weights for 10 classes: give one for each"):
        task.evaluate(GarmentClassifier(), task.prepare(batch(), CPU))
