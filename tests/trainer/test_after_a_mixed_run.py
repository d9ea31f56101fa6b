"""A run that has mixed two streams without splits, and asking it afterwards: the model is one like any other."""

import csv
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from producer.source import ColumnSource
from tests.trainer.streams import computed, serving
from tests.trainer.trained_run import CLASSES, PICTURES, stripes
from trainer.commands import main
from trainer.jsonl_sink import read_lines
from trainer.predictor import Predictor

OPTIONS = ("--weights", "2,1", "--holdout", "0.2", "--batch_size", "30", "--report_every", "60", "--threads", "1")
MODEL = ("--model.classes", str(len(CLASSES)), "--device", "cpu", "--display", "none", "--tensorboard", "false")


class MixedRun(NamedTuple):
    """Its folder and its streams, still served."""

    folder: Path
    urls: list[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MixedRun]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("mixed") / "run"
    one, other = (ColumnSource("stripes", PICTURES, stripes(count, seed=count)) for count in (200, 100))
    with serving(computed(one)) as url, serving(computed(other)) as other_url:
        stream = ("--stream", f"{url},{other_url}", "--run_dir", str(folder))
        assert main(["train", *stream, *OPTIONS, *MODEL]) == 0
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield MixedRun(folder, [url, other_url])


def test_its_reports_and_validations_have_both_streams(run: MixedRun) -> None:
    lines = list(read_lines(run.folder / "metrics.jsonl"))
    *_, report = (line for line in lines if line["kind"] == "report")
    samples = {each["name"]: each["samples"] for each in report["stream"]["streams"]}
    assert list(samples) == run.urls
    assert sum(samples.values()) == report["samples"] == 300 - report["stream"]["ledger"]["held_out"]
    *_, validation = (line for line in lines if line["kind"] == "validation")
    assert list(validation["others"]) == [f"held_out {url}" for url in run.urls]
    assert sum(each["count"] for each in validation["others"].values()) == validation["metrics"]["count"]


def test_it_predicts_on_either_stream_what_its_model_says(run: MixedRun, tmp_path: Path) -> None:
    said = ("--input", *run.urls, "--run_dir", str(run.folder), "--out", str(tmp_path / "told.csv"), "--device", "cpu")
    assert main(["predict", *said]) == 0
    with (tmp_path / "told.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    predictor = Predictor(run.folder, device="cpu")
    images = [stripes(count, seed=count)["image"] for count in (200, 100)]
    expected = sorted(name for each in images for name in predictor(each).names)
    assert sorted(row["prediction"] for row in rows) == expected


@pytest.mark.long
@pytest.mark.parametrize("form", ["safetensors", "pt2"])
def test_it_is_exported_as_any_other(run: MixedRun, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"model.{form}"
    assert main(["export", "--run_dir", str(run.folder), "--format", form, "--out", str(out)]) == 0
    if form == "safetensors":
        image = stripes(5, seed=1)["image"]
        exported, own = (Predictor(source, device="cpu")(image).probabilities for source in (out, run.folder))
        assert np.array_equal(exported, own)
