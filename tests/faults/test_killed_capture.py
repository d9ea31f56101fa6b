"""Rows 3 and 5 of the fault table, with a log on disk: what `flush` has reported durable is trained exactly once."""

import random
import socket
import time
from pathlib import Path

import pytest
import torch

from tests.faults.conftest import Row
from tests.trainer.lives import Forked, Nursery, Started, end, tail, wait, wait_until
from trainer.checkpoint_files import load_newest

pytestmark = pytest.mark.slow


PER_LIFE, LAST = 4000, 300
#: So many trainers are killed after they have begun, which they say with this word.
LATER, BEGINS = 0.8, b"model CountingModel"


class Capture:
    """One capture program over many lives, each with records of its own, and the run that trains on them."""

    def __init__(self, folder: Path, nursery: Nursery, lives: int, drawn: random.Random) -> None:
        self._folder, self._nursery, self._drawn, self._lives = folder, nursery, drawn, lives
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.life = 0
        self.program = self._start()
        self.trainer = self._train()

    def kill_it(self) -> None:
        """In the midst of sending; the next life begins at once."""
        wait_until(lambda: self.durable(self.life) > 0, "the first records to be durable")
        time.sleep(self._drawn.uniform(0, 0.2))
        end(self.program)
        self.life += 1
        self.program = self._start()

    def kill_the_trainer(self) -> None:
        """While it starts, or later: it saves several times in a second, as far as there are records."""
        if self._drawn.random() < LATER:
            wait_until(lambda: BEGINS in self.trainer.log.read_bytes()[self._said :], "a trainer to begin")
        time.sleep(self._drawn.uniform(0, 1.0))
        end(self.trainer)
        self.trainer = self._train()

    def close(self) -> None:
        """Leave nothing running."""
        for life in (self.program, self.trainer):
            if life.poll() is None:
                end(life)

    def durable(self, life: int) -> int:
        """How many records of a life were reported durable."""
        file = self._folder / f"durable-{life}"
        lines = file.read_text().splitlines() if file.exists() else []
        return int(lines[-1]) if lines else 0

    def counts(self) -> torch.Tensor:
        """How often each record was trained, [lives, PER_LIFE], once the stream has ended."""
        # The trainer first: the program waits for one that has failed.
        assert wait(self.trainer, patience_s=100) == 0, tail(self.trainer)
        assert wait(self.program) == 0, tail(self.program)
        found = load_newest(self._folder / "run", print)
        assert found is not None
        counts: torch.Tensor = found[1]["model"]["counts"]
        return counts.reshape(-1, PER_LIFE)

    def _start(self) -> Started:
        count = LAST if self.life == self._lives else PER_LIFE
        arguments = [self._url, str(self._folder / "log"), str(self.life * PER_LIFE), str(count)]
        return Started(
            "tests.faults.capture",
            [*arguments, str(self._folder / f"durable-{self.life}")],
            self._folder / "capture.log",
        )

    def _train(self) -> Forked:
        records = (self._lives + 1) * PER_LIFE
        arguments = ["--stream", self._url, "--run_dir", str(self._folder / "run"), "--batch_size", "32"]
        arguments += ["--workers", str(self._drawn.choice([0, 2])), "--model", "tests.trainer.counting.CountingModel"]
        arguments += ["--model.records", str(records), "--model.ballast", "1024", "--tensorboard", "false"]
        arguments += ["--task", "tests.trainer.counting.Counting", "--task.step_s", "0", "--display", "plain"]
        arguments += ["--checkpoint_every", "100", "--report_every", "5000"]
        log = self._folder / "trainer.log"
        self._said = log.stat().st_size if log.exists() else 0
        return self._nursery.train(arguments, log)


@pytest.mark.parametrize(
    ("kills", "both"),
    [
        (1, True),
        pytest.param(50, False, marks=[pytest.mark.faults, pytest.mark.timeout(900)]),
        pytest.param(50, True, marks=[pytest.mark.faults, pytest.mark.timeout(900)]),
    ],
)
def test_what_was_durable_is_trained_once_whatever_is_killed(
    tmp_path: Path, nursery: Nursery, row: Row, seed: int, *, kills: int, both: bool
) -> None:
    capture = Capture(tmp_path, nursery, kills, random.Random(seed))
    try:
        for _ in range(kills):
            # The trainer first: the last life ends its stream, and a trainer that starts later would wait for another.
            if both:
                capture.kill_the_trainer()
            capture.kill_it()
        counts = capture.counts()
    finally:
        capture.close()
    assert counts.max() == 1, "trained twice"
    for life in range(kills + 1):
        durable = capture.durable(life)
        assert counts[life, :durable].min() == 1, f"of life {life}, {durable} were durable"
        trained = int(counts[life].sum())
        assert counts[life, :trained].min() == 1, "what was not durable is missing at the end, if at all"
    assert counts[kills, :LAST].min() == 1, "the last life has ended its stream"
    durable = sum(capture.durable(life) for life in range(kills + 1))
    caused = f"capture program (disk log) SIGKILLed {kills} times" + (", trainer as often" if both else "")
    row(5 if both else 3, caused, f"{durable:,} records that `flush` reported durable trained once each, none twice")
