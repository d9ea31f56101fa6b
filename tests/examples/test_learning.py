"""The examples learn on a stream, bit for bit, what a plain loop in memory learns; and they learn well."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    log_softmax,
    mse_loss,
)

from benchmarks.learning import ROWS
from benchmarks.learning import learn as learn_in_processes
from examples import garments
from examples.denoising import Denoising
from examples.sources.text_tokens import Windows
from producer.computed_log import split_log
from producer.dataset_source import source_from
from producer.source import ColumnSource, Source, divide
from protocol.chunk import Ragged
from protocol.schema import Field, Schema
from tests.trainer.numbered import NumberedPictures
from tests.trainer.plain import Columns, in_stream_order, learn
from tests.trainer.streams import computed, serving
from tests.trainer.trained_run import PICTURES, saved
from trainer.checkpoint_files import load_newest
from trainer.commands import main
from trainer.model import GarmentClassifier

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDS, VALIDATION = 320, 8
DATA = os.environ.get("HEADRACE_DATA", "data")
#: What each reaches at least (of an error or a loss: at most), which is far from chance and close to docs/learning.md.
FLOORS = {
    "tutorial-1": 0.8,
    "tutorial-3": 0.85,
    "demo": 0.89,
    "two-convolutions": 0.92,
    "resnet18": 0.94,
    "regression": 0.7,
    "several-labels": 0.9,
    "distribution": 0.72,
    "distillation": 0.84,
    "own-task": 0.02,
}
Loss = Callable[[nn.Module, Columns], torch.Tensor]


def pictures(*_: Any) -> Source:
    return NumberedPictures(RECORDS, padding=1, validation=VALIDATION)


def photos() -> Source:
    drawn = np.random.RandomState(3)
    files = []
    for _ in range(40):
        file = BytesIO()
        Image.fromarray(drawn.randint(0, 255, (70, 90, 3)).astype(np.uint8)).save(file, "JPEG")
        files.append(file.getvalue())
    schema = Schema((Field("image", "uint8", (None,)), Field("label", "int64")), "label", ("ant", "bee"), (0, 1))
    image = Ragged(np.array([*map(len, files)], np.uint32), np.frombuffer(b"".join(files), np.uint8))
    return divide(ColumnSource("photos", schema, {"image": image, "label": np.arange(40) % 2}), {"validation": 8}, 0)


def text() -> Source:
    return source_from(Windows(__file__), splits={"validation": VALIDATION})


@dataclass
class Example:
    """What anybody would write in place of the task, and the stream that it learns from."""

    loss: Loss
    source: Callable[[], Source] = pictures
    batch_size: int = 0
    """Instead of the settings' own, where that costs a test too much."""
    batches: int = 4


def seen(record: Columns) -> torch.Tensor:
    return record["image"].float().div(255).sub(0.5).div(0.5)


def classification(model: nn.Module, record: Columns) -> torch.Tensor:
    return cross_entropy(model(seen(record)), record["label"])


def smoothed(model: nn.Module, record: Columns) -> torch.Tensor:
    scores = model(seen(record).contiguous(memory_format=torch.channels_last))
    return cross_entropy(scores, record["label"], label_smoothing=0.1)


def regression(model: nn.Module, record: Columns) -> torch.Tensor:
    return huber_loss(model(seen(record)), record["shift"])


def several_labels(model: nn.Module, record: Columns) -> torch.Tensor:
    return binary_cross_entropy_with_logits(model(seen(record)), record["labels"].float())


def distribution(model: nn.Module, record: Columns) -> torch.Tensor:
    return kl_div(log_softmax(model(seen(record)), dim=1), record["probabilities"], reduction="batchmean")


def distillation(model: nn.Module, record: Columns) -> torch.Tensor:
    with torch.no_grad():
        taught = log_softmax(teacher()(seen(record)) / 2, dim=1)
    return kl_div(log_softmax(model(seen(record)) / 2, dim=1), taught, reduction="batchmean", log_target=True) * 4


def denoising(model: nn.Module, record: Columns) -> torch.Tensor:
    clean = record["image"].float().div(255)
    return mse_loss(model(clean + 0.3 * torch.randn_like(clean)), clean)


def next_character(model: nn.Module, record: Columns) -> torch.Tensor:
    return cross_entropy(model(record["tokens"][:, :-1]).flatten(0, 1), record["tokens"][:, 1:].flatten())


def teacher() -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(9)
    model = GarmentClassifier()
    torch.set_rng_state(state)
    return model


CASES = {
    "tutorial": Example(classification, batches=30),
    "demo": Example(classification),
    "two_convolutions": Example(smoothed, batches=2),
    "resnet18": Example(smoothed, batch_size=2, batches=2),
    "regression": Example(regression, garments.Shifted),
    "several_labels": Example(several_labels, garments.Pairs),
    "distribution": Example(distribution, garments.Mixed),
    "distillation": Example(distillation),
    "denoising": Example(denoising),
    "characters": Example(next_character, text),
    "photos": Example(classification, photos, batch_size=8),
}
OWN_OPTIONS = {
    "resnet18": ("--amp", "off", "--augment", "[]"),
    "distillation": ("--task.teacher", "runs/teacher"),
    "photos": ("--workers", "0", "--holdout", "0"),
}


@pytest.mark.usefixtures("signals_as_they_were")
@pytest.mark.parametrize("name", CASES)
def test_an_example_learns_on_a_stream_what_a_plain_loop_learns_in_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garments, "FashionMNIST", pictures)
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "runs" / "teacher", teacher(), PICTURES, "trainer.tasks.Classification")
    example, file = CASES[name], EXAMPLES / f"{name}.yaml"
    settings = yaml.safe_load(file.read_text())
    batch_size = example.batch_size or settings.get("batch_size", 64)
    records = batch_size * example.batches
    source = example.source()
    log, held_out = computed(source), split_log(source.splits()["validation"])
    options = ["--batch_size", str(batch_size), "--max_samples", str(records), "--run_dir", "run", "--device", "cpu"]
    options += ["--threads", "1", "--display", "none", "--tensorboard", "false", *OWN_OPTIONS.get(name, ())]
    with serving(log, splits={"validation": held_out}) as url:
        assert main(["train", "--config", str(file), "--stream", url, *options]) == 0
    found = load_newest(tmp_path / "run", pytest.fail)
    assert found is not None
    columns = in_stream_order(log, records, [made(each) for each in settings.get("decode", [])])
    expected = in_memory(settings, example.loss, columns, batch_size)
    assert found[1]["model"].keys() == expected.keys()
    assert all(torch.equal(weights, expected[each]) for each, weights in found[1]["model"].items())


def in_memory(settings: dict[str, Any], loss: Loss, columns: Columns, batch_size: int) -> Columns:
    torch.manual_seed(0)
    model: nn.Module = made(settings.get("model", "trainer.model.GarmentClassifier"))
    if settings.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    optimizer: torch.optim.Optimizer = made(settings["optimizer"], model.parameters())
    schedule = made(settings["lr_scheduler"], optimizer) if "lr_scheduler" in settings else None
    learn(lambda record: loss(model, record), optimizer, columns, batch_size, schedule)
    return model.state_dict()


def made(part: Any, *arguments: Any) -> Any:
    """What a settings file names, with its arguments."""
    part = {"class_path": part} if isinstance(part, str) else part
    module, _, name = part["class_path"].rpartition(".")
    return getattr(import_module(module), name)(*arguments, **part.get("init_args", {}))


def test_a_task_of_ones_own_is_under_15_lines() -> None:
    assert len(inspect.getsource(Denoising).splitlines()) < 15


@pytest.mark.parametrize("kind", [garments.Shifted, garments.Pairs, garments.Mixed])
def test_a_record_of_a_derived_stream_follows_from_its_index(
    kind: type[garments.Derived], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garments, "FashionMNIST", pictures)
    source, indices = kind(), np.arange(RECORDS)
    whole, again = source.take(indices), kind().take(indices[::-1].copy())
    for name, column in whole.items():
        assert np.array_equal(np.asarray(column), np.asarray(again[name])[::-1])
    assert len(source.splits()["validation"]) == VALIDATION
    assert source.splits()["validation"].fingerprint() != source.fingerprint()


def test_targets_say_what_was_done_to_the_garments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garments, "FashionMNIST", pictures)
    indices = np.arange(RECORDS)
    image, label = (np.asarray(pictures().take(indices)[name]) for name in ("image", "label"))
    shifted, pairs, mixed = (kind().take(indices) for kind in (garments.Shifted, garments.Pairs, garments.Mixed))
    down, right = np.asarray(shifted["shift"])[0].astype(int)
    moved = np.asarray(shifted["image"])[0, 0]
    rows, columns = (slice(max(0, -by), 28 - max(0, by)) for by in (down, right))
    assert np.array_equal(np.roll(moved, (-down, -right), (0, 1))[rows, columns], image[0, 0, rows, columns])
    assert np.asarray(pairs["labels"])[indices, label].all()
    assert set(np.asarray(pairs["labels"]).sum(axis=1)) == {1, 2}
    assert np.asarray(mixed["probabilities"]).sum(axis=1) == pytest.approx(1)
    assert (np.asarray(pairs["image"]) >= image).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ROWS)
def test_an_example_learns_well(name: str, tmp_path: Path) -> None:
    if not Path(DATA, "FashionMNIST").is_dir():
        pytest.skip("FashionMNIST is neither in $HEADRACE_DATA nor in ./data")
    if ROWS[name].gpu and not torch.cuda.is_available():
        pytest.skip("would take days without a GPU")
    value, floor = learn_in_processes(name, 0, tmp_path, DATA).value, FLOORS[name]
    assert value <= floor if ROWS[name].below else value >= floor
