"""A trained model that is asked from a program."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from tests.trainer.models import Three
from tests.trainer.trained_run import CLASSES, saved, stripes
from trainer.holdout import Holdout
from trainer.predictor import Prediction, Predictor
from trainer.splits import SPLITS, batches_of
from trainer.validation import validate

CPU = torch.device("cpu")
NUMBERS = Schema((Field("x", "float32", (4,)),), class_names=("sweet", "sour"))
X = np.random.RandomState(5).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def predictor(trained_run: Path) -> Predictor:
    return Predictor(trained_run, device="cpu")


def test_three_lines_tell_what_is_in_a_picture(trained_run: Path, tmp_path: Path) -> None:
    image = stripes(1, seed=7)["image"][0, 0]
    Image.fromarray(image).save(tmp_path / "boot.png")
    predictor = trainer.Predictor(trained_run, device="cpu")
    found = predictor(tmp_path / "boot.png")
    assert found.names == [CLASSES[int(found.probabilities.argmax())]]
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum() == pytest.approx(1)


def test_its_accuracy_is_that_of_a_validation_bit_for_bit(predictor: Predictor, trained_run: Path) -> None:
    held = Holdout.open(trained_run / SPLITS / "test")
    told = validate(predictor.trained.model, predictor.trained.task, batches_of(held, 50), CPU)
    batches = list(batches_of(held, 50))
    right = np.concatenate([predictor(batch["image"]).classes == batch["label"].numpy() for batch in batches])
    assert 0.3 < told["accuracy"] < 1, "else it would be no wonder"
    assert right.mean() == told["accuracy"]
    for batch in batches:
        with torch.no_grad():
            scores = predictor.trained.model(predictor.trained.task.prepare(batch, CPU)["input"])
        assert np.array_equal(predictor(batch["image"]).probabilities, scores.softmax(1).numpy())


def test_a_record_may_come_in_any_form(predictor: Predictor, tmp_path: Path) -> None:
    images = stripes(3, seed=8)["image"]
    path = tmp_path / "second.png"
    Image.fromarray(images[1, 0]).save(path)
    expected = predictor(images).values
    for given in (
        torch.from_numpy(images),
        [images[0], str(path), Image.fromarray(images[2, 0])],
        list(images),
        {"image": images, "label": np.arange(3)},
    ):
        found = predictor.predict(given) if isinstance(given, dict) else predictor(given)
        assert np.array_equal(found.values, expected)
    assert predictor(images[0]).values == pytest.approx(expected[:1], abs=1e-6)


def test_several_threads_may_ask_at_once(predictor: Predictor) -> None:
    images = stripes(64, seed=9)["image"]
    alone = [predictor(images[start : start + 8]).values for start in range(0, 64, 8)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda start: predictor(images[start : start + 8]).values, range(0, 64, 8)))
    assert np.array_equal(alone, together)
    assert not predictor.trained.model.training
    assert all(parameter.grad is None for parameter in predictor.trained.model.parameters())


def test_labels_are_told_each_for_itself_and_numbers_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Three()
    scores = model(torch.from_numpy(X)).detach()
    labels = Predictor(saved(tmp_path / "labels", model, NUMBERS, "trainer.tasks.MultiLabel", input="x"))(X)
    assert np.array_equal(labels.probabilities, scores.sigmoid().numpy())
    names = np.array(["sweet", "sour", "2"])
    assert labels.labels == [names[row].tolist() for row in (scores >= 0).numpy()]
    numbers = Predictor(saved(tmp_path / "numbers", model, NUMBERS, "trainer.tasks.Regression", input="x"))(X)
    assert np.array_equal(numbers.values, scores.numpy())
    with pytest.raises(UsageError, match="this model tells numbers, no probabilities: read `values`"):
        numbers.probabilities  # noqa: B018
    spread = Predictor(saved(tmp_path / "spread", model, NUMBERS, "trainer.tasks.Distribution", input="x"))(X)
    assert np.array_equal(spread.probabilities, scores.softmax(1).numpy())


def test_no_two_classes_have_the_same_name(tmp_path: Path) -> None:
    schema = Schema(NUMBERS.fields, class_names=("left", "left"))
    run_dir = saved(tmp_path / "run", Three(), schema, "trainer.tasks.Classification", input="x")
    assert Predictor(run_dir)(X).class_names == ("0 left", "1 left", "2")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            np.zeros((1, 32, 32), np.uint8),
            r"uint8 \[1, 32, 32\] is no image uint8 \[1, 28, 28\]: give one record of that",
        ),
        (np.zeros((1, 28, 28), np.float32), r"float32 \[1, 28, 28\] is no image uint8 \[1, 28, 28\]"),
        (np.uint8(3), r"uint8 \[\] is no image"),
        ([], "there are no records in the list"),
        ("nowhere.png", "nowhere.png cannot be read as a picture .*: give a JPEG or PNG file"),
    ],
)
def test_what_the_stream_had_not_is_refused(predictor: Predictor, given: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        predictor(given)


def test_what_cannot_be_asked_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs/none holds no checkpoint: train first"):
        Predictor("runs/none")
    with pytest.raises(UsageError, match="there is no column 'image', which the model takes, only sound"):
        predictor.predict({"sound": np.zeros(3)})
    with pytest.raises(UsageError, match="the task Counting does not predict: give it `inputs` and `predict`"):
        Predictor(saved(tmp_path / "run", Three(), NUMBERS, "tests.trainer.counting.Counting"))
    with pytest.raises(UsageError, match="the task Classification predicts from 'image', no column of its stream"):
        Predictor(saved(tmp_path / "other", Three(), NUMBERS, "trainer.tasks.Classification"))


def test_a_checkpoint_that_says_nothing_of_its_records_is_refused(tmp_path: Path) -> None:
    run_dir = saved(tmp_path / "run", Three(), NUMBERS, "trainer.tasks.Classification", input="x")
    trained = Predictor(run_dir).trained
    del trained.state["info"]
    with pytest.raises(UsageError, match="of an earlier version, which kept nothing of its records: train in another"):
        _ = trained.info


def test_an_answer_counts_its_records() -> None:
    assert len(Prediction(np.zeros((3, 2), np.float32), "numbers", ())) == 3
