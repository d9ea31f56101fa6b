"""Test, then train: against the paper's recursions record by record, and against River on the same stream."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from producer.computed_log import ComputedLog
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from tests.trainer.states import assert_same, outcome, through_a_checkpoint
from tests.trainer.streams import serving
from trainer.batch import Batch, Block
from trainer.commands import main
from trainer.origin import ShuffledRows, Span
from trainer.prequential import ADDED_UP, Prequential, PrequentialSettings, is_test
from trainer.task import Outcome

WINDOW, FACTOR = 50, 0.97


def fresh(window: int = WINDOW) -> Prequential:
    return Prequential(PrequentialSettings(prequential_window=window, fading_factor=FACTOR))


def record_by_record(losses: list[float], window: int = WINDOW) -> tuple[float, float, float]:
    """Of a window, fading and of all records, as the paper has them."""
    total = weight = 0.0
    for loss in losses:
        total, weight = loss + FACTOR * total, 1 + FACTOR * weight
    newest = losses[-window:]
    return math.fsum(newest) / len(newest), total / weight, math.fsum(losses) / len(losses)


def figures(read: dict[str, float], name: str) -> tuple[float, float, float]:
    return read[f"{name}_window"], read[f"{name}_fading"], read[f"{name}_since_start"]


# --- the figures --------------------------------------------------------------------------------------------------


def test_records_one_by_one_give_the_figures_of_the_papers_recursions(seed: int) -> None:
    drawn, prequential = random.Random(seed), fresh()
    losses, hits = [], []
    for number in range(2 * ADDED_UP + 7):
        losses.append(drawn.uniform(0, 5))
        hits.append(drawn.randint(0, 1))
        prequential.add(Outcome(torch.tensor(losses[-1], dtype=torch.float64), 1, {"correct": torch.tensor(hits[-1])}))
        if number % 13 == 0:
            read = prequential.read()
            assert figures(read, "loss") == pytest.approx(record_by_record(losses), rel=1e-12)
            assert figures(read, "accuracy") == pytest.approx(record_by_record(list(map(float, hits))), rel=1e-12)
            assert read["count"] == number + 1


def repeated(pattern: list[int], times: int) -> list[int]:
    return pattern * times


#: More batches than are added up at once, in some.
sizes = st.builds(repeated, st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 60))


@given(sizes, st.integers(1, 300))
def test_each_record_of_a_batch_counts_with_the_batchs_mean(counts: list[int], window: int) -> None:
    prequential, losses = fresh(window), [float(count % 7) for count in counts]
    for loss, count in zip(losses, counts, strict=True):
        prequential.add(outcome(loss, count, correct=count // 2))
    whole, needed = 0, 0  # the window is as many whole batches as it takes
    for count in reversed(counts):
        if needed < window:
            needed, whole = needed + count, whole + 1
    records = [loss for loss, count in zip(losses, counts, strict=True) for _ in range(count)]
    hits = [(count // 2) / count for count in counts for _ in range(count)]
    read = prequential.read()
    assert figures(read, "loss") == pytest.approx(record_by_record(records, needed), rel=1e-9)
    assert figures(read, "accuracy") == pytest.approx(record_by_record(hits, needed), rel=1e-9)


def test_what_is_kept_is_bounded_by_the_window() -> None:
    prequential = fresh(100)
    for number in range(1000):
        prequential.add(outcome(float(number), 10))
        assert len(prequential.state_dict()["batches"]["counts"]) <= ADDED_UP + 100 / 10
    assert prequential.read()["loss_window"] == np.mean(range(990, 1000))


def test_without_news_nothing_is_told_again() -> None:
    prequential = fresh()
    assert prequential.read() == {}
    prequential.add(outcome(1.0, 2, 1))
    assert figures(prequential.read(), "accuracy") == (0.5, 0.5, 0.5)
    assert prequential.read() == {}


def test_sums_that_not_every_outcome_has_are_counted_too() -> None:
    prequential = fresh()
    for number in range(40):
        prequential.add(Outcome(torch.tensor(1.0), 1, {"error": torch.tensor(0.5)} if number % 2 else {}))
    read = prequential.read()
    assert (read["error_window"], read["error_since_start"]) == (0.25, 0.25)


@given(sizes, st.data())
def test_saved_anywhere_and_restored_it_gives_the_same_bits(counts: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(counts)))
    outcomes = [outcome(math.sin(number), count, number % count) for number, count in enumerate(counts)]
    whole, first, second = fresh(), fresh(), fresh()
    for each in outcomes:
        whole.add(each)
    for each in outcomes[:cut]:
        first.add(each)
    second.load_state_dict(through_a_checkpoint(first.state_dict()))
    first.read()  # changes nothing but that it was read
    for each in outcomes[cut:]:
        second.add(each)
    assert second.read() == whole.read()
    assert_same(second.state_dict(), whole.state_dict())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adding_never_waits_for_the_device() -> None:
    prequential = fresh()
    each = Outcome(torch.ones((), device="cuda"), 4, {"correct": torch.ones((), dtype=torch.int64, device="cuda")})
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3 * ADDED_UP):
            prequential.add(each)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert figures(prequential.read(), "accuracy") == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prequential_window": 0}, "--prequential_window 0: give a number of records from 1 up"),
        ({"fading_factor": 1.0}, "--fading_factor 1.0: give a number above 0 and below 1"),
        ({"fading_factor": 0.0}, "--fading_factor 0.0: give a number above 0 and below 1"),
    ],
)
def test_what_makes_no_sense_is_the_users_mistake(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PrequentialSettings(**settings)


# --- what is a test -----------------------------------------------------------------------------------------------

DEALING = Dealing(2, 4)


def info(records_per_pass: int | None) -> StreamInfo:
    schema = Schema((Field("id", "int64"),))
    return StreamInfo(incarnation="x", schema=schema, dealing=DEALING, records_per_pass=records_per_pass)


def batch(first: int, count: int) -> Batch:
    """These records of the stream."""
    block = Block({"id": torch.arange(count)}, count, DEALING.ends(first))
    row = 0
    while row < count:
        records = min(count - row, DEALING.stripe - (first + row) % DEALING.stripe)
        block.add(row, Span(*DEALING.locate(first + row), records, 0, 0))
        row += records
    return Batch(block, 0, count, 1)


def test_records_that_come_again_are_no_test_nor_is_a_batch_over_the_end_of_the_first_pass() -> None:
    assert [is_test(batch(first, 5), info(23)) for first in range(0, 40, 5)] == [True] * 4 + [False] * 4
    assert is_test(batch(15, 5), info(20))
    assert not is_test(batch(20, 4), info(22))


def test_of_a_shuffled_batch_the_highest_record_tells() -> None:
    numbers = [3, 22, 8, 1]
    partitions, offsets = np.array([DEALING.locate(number) for number in numbers], np.int64).T
    rows = ShuffledRows(partitions=partitions, offsets=offsets, times_ns=np.zeros(4, np.int64), before=DEALING.ends(0))
    block = Block({"id": torch.tensor(numbers)}, 2, DEALING.ends(0))
    block.add(0, rows)
    first, second = Batch(block, 0, 2, 1), Batch(block, 1, 2, 2)
    assert [is_test(first, info(per_pass)) for per_pass in (22, 23)] == [False, True]
    assert is_test(second, info(9))


def test_on_a_live_stream_every_batch_is_one() -> None:
    assert is_test(batch(1 << 40, 5), info(None))


# --- the real trainer, beside River -------------------------------------------------------------------------------

RECORDS, EVERY, FEATURES, RATE = 240, 5, 3, 0.5


class Logistic(nn.Module):
    """Logistic regression in float64 from zero on, with a score for each of its two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 1, dtype=torch.float64)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.linear(x.double())
        return torch.cat([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def log(seed: int) -> ComputedLog:
    """Points on two sides of a plane, a few of them on the wrong one; twice."""
    drawn = np.random.default_rng(seed)
    x = drawn.normal(size=(RECORDS, FEATURES)).astype(np.float32)
    label = (x @ drawn.normal(size=FEATURES) + drawn.normal(size=RECORDS) > 0).astype(np.int64)
    schema = Schema((Field("x", "float32", (FEATURES,)), Field("label", "int64")))
    return ComputedLog(ColumnSource("points", schema, {"x": x, "label": label}), Dealing(4, 8), passes=2, seed=3)


def first_pass(log: ComputedLog) -> Iterator[tuple[dict[int, float], bool]]:
    """Features and label of each record, in stream order."""
    for record in range(RECORDS):
        columns = log.read(*log.info.dealing.locate(record), 1).columns
        yield dict(enumerate(np.asarray(columns["x"])[0].astype(float).tolist())), bool(np.asarray(columns["label"])[0])


@pytest.mark.usefixtures("signals_as_they_were")
def test_a_run_that_was_resumed_reports_what_river_finds_on_the_same_stream(log: ComputedLog, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("river.evaluate", reason="River, of the extra dev, is what is compared with")
    from river import linear_model, metrics, optim, utils

    def of_river(metric: Any, every: int = EVERY) -> list[float]:
        model = linear_model.LogisticRegression(optimizer=optim.SGD(RATE), intercept_lr=RATE)
        steps = evaluate.iter_progressive_val_score(list(first_pass(log)), model, metric, step=every)
        return [metric.get() for _ in steps]

    with serving(log) as url:
        arguments = ["--stream", url, "--run_dir", str(tmp_path), "--display", "none", "--tensorboard", "false"]
        arguments += ["--batch_size", "1", "--report_every", str(EVERY), "--device", "cpu", "--task.input", "x"]
        arguments += ["--model", f"{__name__}.Logistic", "--optimizer", "torch.optim.SGD", "--optimizer.lr", str(RATE)]
        arguments += ["--optimizer.momentum", "0"]
        arguments += ["--prequential_window", str(WINDOW), "--fading_factor", str(FACTOR)]
        for life in (["--max_samples", "100"], []):
            assert main(["train", *arguments, *life]) == 0
    facts = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    told = [fact["prequential"] for fact in facts if fact["kind"] == "report"]
    last = RECORDS // EVERY
    assert told[last:] == [{}] * last, "what comes again is no test"
    for name, kind in (("loss", metrics.LogLoss), ("accuracy", metrics.Accuracy)):
        window, fading, since_start = zip(*(figures(each, name) for each in told[:last]), strict=True)
        assert since_start == pytest.approx(of_river(kind()), abs=1e-6)
        assert window == pytest.approx(of_river(utils.Rolling(kind, window_size=WINDOW)), abs=1e-6)
        each = of_river(utils.Rolling(kind, window_size=1), 1)  # it has no fading metric: the paper's, of its records
        expected = [record_by_record(each[:end])[1] for end in range(EVERY, RECORDS + 1, EVERY)]
        assert fading == pytest.approx(expected, abs=1e-6)
