"""A run that was killed and resumed ends with the bits of one that never was, and of a plain loop in memory."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import nn
from torch.nn import functional
from torch.nn.utils import get_total_norm
from torch.optim.lr_scheduler import OneCycleLR

from producer.computed_log import ComputedLog, stripe_of
from protocol.dealing import Dealing
from tests.trainer.counting import MOMENT_FILE, DroppingClassifier, Moment
from tests.trainer.lives import Forked, Nursery, Started, end, tail, wait, wait_until
from tests.trainer.numbered import NumberedPictures
from trainer.checkpoint_files import State, load_newest
from trainer.model import GarmentClassifier

RECORDS, PASSES, BATCH, PARTITIONS, SEED = 1200, 3, 64, 8, 7
TOTAL = RECORDS * PASSES
STEPS = -(-TOTAL // BATCH)  # the last batch is smaller
REPORT, VALIDATE, CHECKPOINT = 500, 700, 400
MODELS: dict[str, type[nn.Module]] = {
    "trainer.model.GarmentClassifier": GarmentClassifier,
    "tests.trainer.counting.DroppingClassifier": DroppingClassifier,
}

Curve = list[tuple[int, float]]


# --- a plain loop in memory ---------------------------------------------------------------------------------------


@dataclass
class Plain:
    """What the loop that anybody would write ends with: its curves have a point (samples, float32) a report."""

    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    generator: torch.Tensor
    curves: dict[str, Curve] = field(default_factory=dict)


def in_stream_order(source: NumberedPictures) -> tuple[torch.Tensor, torch.Tensor]:
    """All pictures and labels of the stream, record after record."""
    dealing = Dealing(PARTITIONS, stripe_of(source))
    log = ComputedLog(source, dealing, seed=SEED, passes=PASSES)
    chunks = [log.read(*dealing.locate(record), 1) for record in range(TOTAL)]
    images = np.concatenate([chunk.columns["image"] for chunk in chunks])
    labels = np.concatenate([chunk.columns["label"] for chunk in chunks])
    return torch.from_numpy(images), torch.from_numpy(labels)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32).div(255).sub(0.5).div(0.5)


def train_plainly(kind: type[nn.Module]) -> Plain:
    """The tutorial's loop over the stream's order, with a report and a validation each so many samples."""
    source = NumberedPictures(RECORDS)
    images, labels = in_stream_order(source)
    held = source.splits()["validation"]
    columns = held.take(np.arange(len(held)))
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.SGD(weights := list(model.parameters()), lr=0.05, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=STEPS)
    curves: dict[str, Curve] = {}
    reported: list[tuple[int, float, int]] = []

    def add(tag: str, samples: int, value: float) -> None:
        curves.setdefault(tag, []).append((samples, float(np.float32(value))))

    def report(samples: int) -> None:
        records = sum(count for count, _, _ in reported)
        add("loss/train", samples, sum(count * loss for count, loss, _ in reported) / records)
        add("accuracy/train", samples, sum(correct for _, _, correct in reported) / records)
        add("learning_rate", samples, optimizer.param_groups[0]["lr"])
        for name, tensors in (("gradient", [each.grad for each in weights]), ("weight", weights)):
            add(f"norm/{name}", samples, get_total_norm([each for each in tensors if each is not None]).item())
        reported.clear()

    def validate(samples: int) -> None:
        model.eval()
        with torch.no_grad():
            scores = model(normalised(torch.from_numpy(np.asarray(columns["image"]))))
        targets = torch.from_numpy(np.asarray(columns["label"]))
        loss = functional.cross_entropy(scores, targets).item()
        best = not curves.get("loss/best") or float(np.float32(loss)) < curves["loss/best"][-1][1]
        for side in ("validation", "best") if best else ("validation",):
            add(f"loss/{side}", samples, loss)
            add(f"accuracy/{side}", samples, (scores.argmax(1) == targets).sum().item() / len(targets))
        model.train()

    model.train()
    samples = 0
    for first in range(0, TOTAL, BATCH):
        inputs, targets = normalised(images[first : first + BATCH]), labels[first : first + BATCH]
        optimizer.zero_grad()
        scores = model(inputs)
        loss = functional.cross_entropy(scores, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        before, samples = samples, samples + len(targets)
        reported.append((len(targets), loss.item(), int((scores.argmax(1) == targets).sum())))
        if samples // REPORT > before // REPORT:
            report(samples)
        if samples // VALIDATE > before // VALIDATE:
            validate(samples)
    if reported:
        report(samples)
    if curves["loss/validation"][-1][0] != samples:
        validate(samples)
    return Plain(model.state_dict(), optimizer.state_dict(), torch.get_rng_state(), curves)


# --- the same by producer and trainer -----------------------------------------------------------------------------


class Stream:
    """A producer of the pictures and the runs that learn from it, each in a folder of its own."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder, self._nursery = folder, nursery
        self._moment = Moment(folder / "moment")
        self._url = f"ipc://{folder}/stream"
        source = ["--source", "tests.trainer.numbered.NumberedPictures", "--source.records", str(RECORDS)]
        arguments = ["--bind", self._url, "--rate", "0", "--passes", str(PASSES), "--seed", str(SEED)]
        arguments += ["--partitions", str(PARTITIONS)]
        self.producer = Started("producer", [*arguments, *source], folder / "producer.log")

    def begin(self, run: str, model: str, workers: int, *options: str) -> Forked:
        """A life of the run."""
        schedule = "torch.optim.lr_scheduler.OneCycleLR"
        arguments = ["--stream", self._url, "--run_dir", str(self._folder / run), "--workers", str(workers)]
        arguments += ["--model", model, "--task", "tests.trainer.counting.WatchedClassification"]
        arguments += ["--batch_size", str(BATCH), "--display", "plain", "--device", "cpu"]
        arguments += ["--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.05", "--optimizer.momentum", "0.9"]
        arguments += ["--lr_scheduler", schedule, "--lr_scheduler.max_lr", "0.1"]
        arguments += ["--lr_scheduler.total_steps", str(STEPS), "--report_every", str(REPORT)]
        arguments += ["--validate_every", str(VALIDATE), "--checkpoint_every", str(CHECKPOINT), *options]
        self._moment.begin()
        moment = {MOMENT_FILE: str(self._folder / "moment")}
        return self._nursery.train(arguments, self._folder / f"{run}.log", **moment)

    def train(self, run: str, model: str, workers: int, *options: str) -> None:
        """From wherever the run stands to the stream's end."""
        life = self.begin(run, model, workers, *options)
        assert wait(life) == 0, tail(life)

    def kill_after(self, steps: int, run: str, model: str, workers: int, *options: str) -> None:
        """One life up to so many steps of its own."""
        life = self.begin(run, model, workers, *options)
        wait_until(lambda: self._moment.steps >= steps or life.poll() is not None, "its steps")
        assert life.poll() is None, tail(life)
        end(life)

    def state(self, run: str) -> State:
        """The run's last checkpoint."""
        found = load_newest(self._folder / run, pytest.fail)
        assert found is not None
        return found[1]

    def curves(self, run: str) -> dict[str, Curve]:
        """The charts that TensorBoard shows of the run."""
        events = EventAccumulator(str(self._folder / run / "tensorboard"), size_guidance={"scalars": 0})
        events.Reload()
        return {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
            if tag.startswith(("loss/", "accuracy/", "learning_rate", "norm/"))
        }


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Stream]:
    stream = Stream(tmp_path_factory.mktemp("bits"), nursery)
    yield stream
    end(stream.producer)


@pytest.fixture(scope="module")
def plain() -> Iterator[dict[str, Plain]]:
    """The plain loops, with as many threads as the trainers have: sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {path: train_plainly(kind) for path, kind in MODELS.items()}
    torch.set_num_threads(threads)


def assert_same(stream: Stream, run: str, expected: Plain) -> None:
    state = stream.state(run)
    assert state["samples"] == TOTAL
    assert_same_tensors(state["model"], expected.model)
    assert_same_tensors(state["optimizer"], expected.optimizer)
    assert torch.equal(state["rng"]["torch"], expected.generator)
    curves = stream.curves(run)
    assert curves.keys() == expected.curves.keys()
    for tag, points in expected.curves.items():
        assert curves[tag] == points, tag


def assert_same_tensors(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_tensors(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_tensors(one, other)
    else:
        assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [*(pytest.param(few, marks=pytest.mark.faults) for few in (0, 1)), 3])
def test_a_run_is_the_plain_loop_whatever_its_workers(stream: Stream, plain: dict[str, Plain], workers: int) -> None:
    model = next(iter(MODELS))
    stream.train(f"whole-{workers}", model, workers)
    assert_same(stream, f"whole-{workers}", plain[model])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param("trainer.model.GarmentClassifier", marks=pytest.mark.faults),
        "tests.trainer.counting.DroppingClassifier",
    ],
)
def test_a_run_that_was_killed_three_times_is_the_plain_loop(
    stream: Stream, plain: dict[str, Plain], model: str, seed: int
) -> None:
    drawn = random.Random(seed)
    workers = drawn.sample(range(4), 4)
    run = f"killed-{model.rpartition('.')[2]}"
    for number in workers[:3]:
        stream.kill_after(drawn.randint(6, 16), run, model, number)
    stream.train(run, model, workers[3])
    assert_same(stream, run, plain[model])


@pytest.mark.slow
def test_a_run_in_fp16_with_shuffling_and_augmentation_that_was_killed_is_the_one_that_was_not(
    stream: Stream, seed: int
) -> None:
    drawn = random.Random(seed)
    model, options = next(iter(MODELS)), ["--amp", "fp16", "--accumulate", "3"]
    options += ["--augment+", "RandomShift", "--augment+", "torchvision.transforms.v2.RandomHorizontalFlip"]
    options += ["--shuffle_window", "300", "--balance", "true", "--holdout", "0.1", "--holdout_records", "150"]
    stream.train("whole-fp16", model, 0, *options)
    stream.kill_after(3 * drawn.randint(4, 11), "killed-fp16", model, 0, *options)
    stream.train("killed-fp16", model, 0, *options)
    whole, killed = stream.state("whole-fp16"), stream.state("killed-fp16")
    fates = whole["stream"]["ledger"]
    assert whole["samples"] == TOTAL - sum(fates["held_out"]) - sum(fates["thinned"])
    assert min(sum(fates["held_out"]), sum(fates["thinned"])) > 0
    assert whole["scaler"]["_growth_tracker"] > 0
    for name in ("model", "optimizer", "scaler", "rng"):
        assert_same_tensors(killed[name], whole[name])
    curves = stream.curves("whole-fp16")
    assert stream.curves("killed-fp16") == curves
    assert curves.keys() >= {"loss/validation", "loss/held_out"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_run_on_cuda_that_was_killed_is_the_one_that_was_not(stream: Stream, seed: int, amp: str) -> None:
    drawn = random.Random(seed)
    model = "tests.trainer.counting.DroppingClassifier"
    options = ["--device", "cuda", "--deterministic", "true", "--amp", amp, "--augment+", "RandomShift"]
    stream.train(f"whole-cuda-{amp}", model, 2, *options)
    stream.kill_after(drawn.randint(8, 25), f"killed-cuda-{amp}", model, 1, *options)
    stream.train(f"killed-cuda-{amp}", model, 0, *options)
    whole, killed = stream.state(f"whole-cuda-{amp}"), stream.state(f"killed-cuda-{amp}")
    assert whole["samples"] == TOTAL
    for name in ("model", "optimizer", "scaler", "rng"):
        assert_same_tensors(killed[name], whole[name])
    assert stream.curves(f"killed-cuda-{amp}") == stream.curves(f"whole-cuda-{amp}")
