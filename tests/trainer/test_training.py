"""One trainer at a time works in a run directory."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.lives import Life, Nursery, born, end, family, tail, wait, wait_until
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def stream() -> Iterator[str]:
    """Slower than any test."""
    with serving(computed(NumberedRecords(600, validation=0), passes=0, rate=200)) as url:
        yield url


def begin(nursery: Nursery, url: str, run_dir: Path, log: str = "trainer.log", workers: int = 0) -> Life:
    arguments = ["--stream", url, "--run_dir", str(run_dir), "--workers", str(workers), "--batch_size", "10"]
    arguments += ["--report_every", "50"]
    parts = ["--model", "tests.trainer.counting.CountingModel", "--task", "tests.trainer.counting.Counting"]
    (run_dir.parent / log).touch()
    return nursery.train([*arguments, *parts, "--display", "plain", "--tensorboard", "false"], run_dir.parent / log)


def test_a_second_trainer_in_a_run_directory_is_refused_with_the_pid_and_host_of_the_first(
    nursery: Nursery, stream: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    first = begin(nursery, stream, run_dir)
    wait_until((run_dir / "checkpoints" / "step-000000000000").exists, "the first checkpoint")
    second = begin(nursery, stream, run_dir, "second.log")
    assert wait(second) == 2
    who = f"process {first.pid} on {socket.gethostname()}"
    assert tail(second, 1) == f"tests.trainer: {run_dir} is in use by {who}: stop it, or give another --run_dir"
    assert first.poll() is None
    assert end(first, signal.SIGTERM) == 0, tail(first)
    assert sorted(path.name for path in run_dir.iterdir()) == ["best", "checkpoints", "metrics.jsonl", "run.lock"]
    third = begin(nursery, stream, run_dir)
    wait_until(lambda: "resumed from" in third.log.read_text(), "another life in the same directory")
    assert end(third, signal.SIGTERM) == 0, tail(third)


def test_the_directory_is_free_at_once_when_its_trainer_alone_was_killed(
    nursery: Nursery, stream: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    first = begin(nursery, stream, run_dir, workers=1)
    wait_until(lambda: "loss" in first.log.read_text() or born(first.pid) is None, "the first report")
    (worker,) = family(nursery.forkserver)
    os.kill(worker, signal.SIGSTOP)  # it cannot go with its trainer
    end(first)
    second = begin(nursery, stream, run_dir, "second.log")
    wait_until(lambda: "resumed from" in second.log.read_text() or born(second.pid) is None, "another life")
    assert born(worker) is not None
    os.kill(worker, signal.SIGKILL)
    assert end(second, signal.SIGTERM) == 0, tail(second)
