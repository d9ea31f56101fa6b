"""What the real trainer leaves for TensorBoard, through a stop and a resume, and what a browser shows of it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # type: ignore[import-untyped]

from tests.trainer.browser import Browser, chromium
from tests.trainer.numbered import NumberedPictures
from tests.trainer.streams import computed, serving
from trainer.commands import main
from trainer.jsonl_sink import read_lines
from trainer.telemetry import tensorboard_dir
from trainer.tensorboard_sink import event_files

EVERY = ("--report_every", "320", "--validate_every", "640", "--checkpoint_every", "640")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2,000 samples that was stopped after 960 and went on."""
    run_dir = tmp_path_factory.mktemp("run")
    source = computed(NumberedPictures(2000, padding=1), passes=1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with serving(source, splits={"validation": computed(NumberedPictures(300, padding=1, first=2000))}) as url:
        arguments = ["train", "--stream", url, "--run_dir", str(run_dir), "--device", "cpu", "--display", "none"]
        for limit in (960, 0):
            assert main([*arguments, *EVERY, "--clip_norm", "0.01", "--max_samples", str(limit)]) == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return run_dir


@pytest.fixture(scope="module")
def events(run_dir: Path) -> Any:
    """What TensorBoard reads."""
    accumulator = EventAccumulator(str(tensorboard_dir(run_dir)), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def facts(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_lines(run_dir / "metrics.jsonl") if line["kind"] == kind]


def test_the_charts_have_the_numbers_of_metrics_jsonl_each_step_once(run_dir: Path, events: Any) -> None:
    charts: dict[str, list[tuple[int, Any]]] = {}
    for fact in facts(run_dir, "report"):
        charts.setdefault("loss/train", []).append((fact["samples"], fact["train"]["loss"]))
        for name in ("gradient", "weight"):
            charts.setdefault(f"norm/{name}", []).append((fact["samples"], fact["norms"][name]))
    for fact in facts(run_dir, "validation"):
        charts.setdefault("loss/validation", []).append((fact["samples"], fact["metrics"]["loss"]))
        for name, share in fact["per_class"].items():
            charts.setdefault(f"accuracy_by_class/{name}", []).append((fact["samples"], share))
    assert len(charts) == 4 + 10
    for tag, points in charts.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(step, pytest.approx(value)) for step, value in points], tag
    steps = [step for step, _ in charts["loss/train"]]
    assert steps == sorted(set(steps))
    assert len(steps) >= 2000 // 320


def test_the_norm_of_the_gradients_is_the_one_before_they_were_clipped(run_dir: Path) -> None:
    found = [fact["norms"]["gradient"] for fact in facts(run_dir, "report")]
    assert min(found) > 0.011, "else it was not clipped, or is said as it was after that"


def test_the_confusion_and_the_classes_add_up_to_the_figures_of_their_validation(run_dir: Path) -> None:
    for fact in facts(run_dir, "validation"):
        rows = fact["confusion"]
        right = sum(rows[number][number] for number in range(10))
        assert sum(map(sum, rows)) == fact["metrics"]["count"] == 300
        assert right / 300 == pytest.approx(fact["metrics"]["accuracy"])
        assert fact["per_class"]["3"] == pytest.approx(rows[3][3] / sum(rows[3]))


def test_the_first_validation_and_the_last_one_of_each_life_are_shown_as_pictures(run_dir: Path, events: Any) -> None:
    steps = [fact["samples"] for fact in facts(run_dir, "validation")]
    for name in ("validation/confusion", "validation/most_wrong"):
        shown = [event.step for event in events.Images(name)]
        assert {steps[0], 960, 2000} <= set(shown) <= set(steps)
        assert len(shown) == len(set(shown))


def test_graph_layout_and_settings_are_written_once_in_a_run(run_dir: Path) -> None:
    files = event_files(tensorboard_dir(run_dir))
    assert len(files) == 2, "a file for each life"
    written = [event for path in files for event in EventFileLoader(str(path)).Load()]
    tags = [value.tag for event in written for value in event.summary.value]
    for tag in ("custom_scalars__config__", "_hparams_/experiment", "_hparams_/session_start_info"):
        assert tags.count(tag) == 1, tag
    assert sum(event.HasField("graph_def") for event in written) == 1


def test_where_each_life_ran_is_in_metrics_jsonl(run_dir: Path) -> None:
    first, second = facts(run_dir, "start")
    assert first["environment"] == second["environment"]
    assert "torch" in first["environment"]
    assert second["resumed"]


# --- in a browser -------------------------------------------------------------------------------------------------


@contextmanager
def served(log_dir: Path) -> Iterator[str]:
    """TensorBoard's own server; its URL."""
    program = Path(sys.executable).parent / "tensorboard"
    command = [str(program), "--logdir", str(log_dir), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            yield next(found[0] for line in server.stderr if (found := re.search(r"http://\S+/", line)))
        finally:
            server.terminate()


@pytest.mark.long
@pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_shows_every_page_of_the_run(run_dir: Path, tmp_path: Path) -> None:
    program = chromium()
    assert program is not None
    with served(tensorboard_dir(run_dir)) as url, Browser(program, tmp_path / "profile") as browser:
        for page, words in {
            "custom_scalars": ("loss/train", "loss/validation", "accuracy/validation", "accuracy_by_class/3",
                               "learning_rate", "norm/gradient", "norm/weight", "sample_age_ms/p50", "lag"),
            "timeseries": ("accuracy /best", "accuracy_by_class 10 cards", "ledger", "stages 9 cards", "weights 10"),
            "images": ("validation/confusion", "validation/most_wrong", "loader"),
            "histograms": ("weights/conv1.weight", "gradients/conv1.weight"),
            "graphs": ("GarmentClassifier", "64×1×28×28"),
            "hparams": ("optimizer.lr", "batch_size", "clip_norm", "loss/best", "accuracy/best"),
            "text": ("run/environment", "Python", "run/settings", "optimizer.init_args.lr", "run/stream", "events"),
        }.items():  # fmt: skip
            browser.open(f"{url}#{page}")
            browser.wait_for(*words)
            browser.screenshot(tmp_path / f"{page}.png")
