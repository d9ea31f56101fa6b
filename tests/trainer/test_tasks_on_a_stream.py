"""Each ready-made task learns on a stream, bit for bit, what the same loss learns in a plain loop in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from producer.computed_log import ComputedLog
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from tests.protocol.serving import serving
from tests.trainer.plain import Columns, in_stream_order, learn
from trainer.loader import StreamLoader
from trainer.step import train_step
from trainer.task import Task
from trainer.tasks import Classification, Distribution, MultiLabel, Regression

RECORDS, BATCH, PARTITIONS, CLASSES, PASSES = 400, 32, 4, 3, 4
CPU = torch.device("cpu")
WEIGHTS = [1.0, 2.0, 0.5]
Loss = Callable[[torch.Tensor, Columns], torch.Tensor]


def columns() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """Points of which everything to be told follows by one linear map."""
    drawn = np.random.default_rng(5)
    x = drawn.normal(size=(RECORDS, 4)).astype(np.float32)
    scores = x @ drawn.normal(size=(4, CLASSES)).astype(np.float32)
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    label = scores.argmax(axis=1)
    return {
        "x": x,
        "y": scores,
        "one": np.ascontiguousarray(scores[:, 0]),
        "label": label,
        "some": np.where(np.arange(RECORDS) % 5, label, -7),
        "labels": (scores > 0).astype(np.uint8),
        "probabilities": (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32),
    }


def log() -> ComputedLog:
    made = columns()
    fields = tuple(Field(name, column.dtype.name, column.shape[1:]) for name, column in made.items())
    source = ColumnSource("points", Schema(fields), made)
    return ComputedLog(source, Dealing(PARTITIONS, 8), passes=PASSES, seed=3)


def ignoring(scores: torch.Tensor, record: Columns) -> torch.Tensor:
    return functional.cross_entropy(scores, record["some"], ignore_index=-7)


@dataclass
class Case:
    """A task, what anybody would write in its place, and how many numbers the model gives."""

    task: Task
    loss: Loss
    answers: int = CLASSES


CASES = {
    "classification": Case(
        Classification(input="x"), lambda scores, record: functional.cross_entropy(scores, record["label"])
    ),
    "class weights and smoothing": Case(
        Classification(input="x", class_weights=WEIGHTS, label_smoothing=0.1),
        lambda scores, record: functional.cross_entropy(
            scores, record["label"], torch.tensor(WEIGHTS), label_smoothing=0.1
        ),
    ),
    "labels that are ignored": Case(Classification(input="x", target="some", ignore_index=-7), ignoring),
    "mse": Case(Regression(input="x", target="y"), lambda scores, record: functional.mse_loss(scores, record["y"])),
    "l1": Case(
        Regression(input="x", target="y", loss="l1"), lambda scores, record: functional.l1_loss(scores, record["y"])
    ),
    "huber of one number": Case(
        Regression(input="x", target="one", loss="huber", delta=0.5),
        lambda scores, record: functional.huber_loss(scores[:, 0], record["one"], delta=0.5),
        answers=1,
    ),
    "several labels": Case(
        MultiLabel(input="x", pos_weight=WEIGHTS),
        lambda scores, record: functional.binary_cross_entropy_with_logits(
            scores, record["labels"].float(), pos_weight=torch.tensor(WEIGHTS)
        ),
    ),
    "distribution": Case(
        Distribution(input="x"),
        lambda scores, record: functional.kl_div(
            scores.log_softmax(dim=1), record["probabilities"], reduction="batchmean"
        ),
    ),
}


def fresh(answers: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = nn.Linear(4, answers)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@cache
def records() -> Columns:
    """All of the stream, which is made once."""
    return in_stream_order(log(), RECORDS * PASSES)


def in_memory(case: Case) -> tuple[Columns, list[float]]:
    """The weights of the plain loop over the same order, and the loss of each of its steps."""
    model, optimizer = fresh(case.answers)
    losses = learn(lambda record: case.loss(model(record["x"]), record), optimizer, records(), BATCH)
    return model.state_dict(), losses


@pytest.mark.parametrize("name", CASES)
def test_a_task_learns_on_a_stream_what_its_loss_learns_in_memory(name: str) -> None:
    case = CASES[name]
    model, optimizer = fresh(case.answers)
    losses = []
    with serving(log()) as server:
        loader = StreamLoader(server.address, batch_size=BATCH)
        for batch in loader:
            losses.append(train_step(model, optimizer, case.task, case.task.prepare(batch, CPU)).loss.item())
            loader.mark_trained(batch)
    weights, expected = in_memory(case)
    assert losses == expected
    assert all(torch.equal(model.state_dict()[each], weights[each]) for each in weights)
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) / 2, "it has learnt something"
