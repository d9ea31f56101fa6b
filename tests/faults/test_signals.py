"""Row 21: SIGINT and SIGTERM, once and twice, at any point from start-up on."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.trainer.counted_run import MOMENTS, CountedRun, free_address
from tests.trainer.lives import ROOT, Life, Nursery, Started, end, family, survivors, tail, wait, wait_until
from trainer.checkpoint_files import load_newest

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What a life of a trainer has printed once signals are its own business.
FIRST_WORDS = "importing torch"


def catches(life: Life) -> bool:
    """Whether a program has taken its signals in hand: the interpreter itself takes a while to start."""
    try:
        lines = Path(f"/proc/{life.pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = int(next(line for line in lines if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def samples_saved(run: CountedRun) -> int:
    found = load_newest(run.run_dir, pytest.fail)
    return 0 if found is None else int(found[1]["samples"])


@pytest.mark.faults
def test_a_signal_at_any_point_saves_ends_with_0_and_leaves_nothing(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    asked, saved = Counter[str](), 0
    with CountedRun(tmp_path, nursery, seed, passes=10, workers=(0, 1, 2)) as run:
        for number in range(60):
            moment, asking = MOMENTS[number % len(MOMENTS)], run.drawn.choice(SIGNALS)
            before, life = samples_saved(run), run.train()
            run.hear(life, FIRST_WORDS)
            getattr(run, f"_await_{moment}")(life)
            os.kill(life.pid, signal.SIGSTOP)
            own, steps = run.family(life), run.moment.steps
            os.kill(life.pid, asking)
            os.kill(life.pid, signal.SIGCONT)
            assert wait(life) == 0, tail(life)
            run.assert_nothing_left(own)
            if told := re.findall(rf"stopped by {asking.name}: saved at ([\d,]+) samples", run.said()):
                assert samples_saved(run) == int(told[0].replace(",", "")) >= before
                saved += 1
            else:
                assert steps == 0, tail(life)
            asked[moment] += 1
        run.finish()
        row(
            21,
            f"trainer got SIGINT or SIGTERM {asked.total()} times ("
            f"{', '.join(f'{count} {moment}' for moment, count in asked.items())}), 0 to 2 workers",
            f"status 0 each time; {saved} lives had begun and saved what they had trained; no child, nothing in "
            f"/dev/shm; all counts 1 in each of {run.passes} passes",
        )


@pytest.mark.faults
def test_a_second_signal_ends_at_once(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    took_s = []
    with CountedRun(tmp_path, nursery, seed, passes=2, workers=(0, 2)) as run:
        for asking in SIGNALS:
            life = run.train("--keep", "1")  # with more the oldest one's positions are known to the producer already
            run.wait_for_steps(life, 10)
            own = run.family(life)
            os.kill(run.producer.pid, signal.SIGSTOP)  # so that the commit of the last checkpoint takes its time
            os.kill(life.pid, asking)
            time.sleep(run.drawn.uniform(0.5, 2))
            asked_s = time.monotonic()
            assert life.poll() is None
            assert end(life, asking) == 128 + asking
            took_s.append(time.monotonic() - asked_s)
            run.assert_nothing_left(own)
            os.kill(run.producer.pid, signal.SIGCONT)
        run.finish()
        assert max(took_s) < 1
        row(
            21,
            "the same signal again while a trainer saves and commits (its producer suspended)",
            f"ended after {max(took_s):.2f} s at most; no child, nothing in /dev/shm; all counts 1",
        )


def _trainer(folder: Path) -> Started:
    arguments = ["train", "--stream", free_address(), "--run_dir", str(folder / "run"), "--workers", "2"]
    return Started("trainer", arguments, folder / "trainer.log")


def _producer(folder: Path) -> Started:
    source = ["--source", "tests.trainer.numbered.NumberedRecords"]
    return Started("producer", ["--bind", f"ipc://{folder}/socket", *source], folder / "producer.log")


def stop_while_it_starts(life: Started, asking: signal.Signals, after_s: float) -> None:
    """It ends with 0, without complaint, and takes its children along."""
    wait_until(lambda: catches(life), "its signals to be caught")
    time.sleep(after_s)
    own = family(life.pid)
    assert end(life, asking) == 0, tail(life)
    assert "Traceback" not in tail(life)
    if survivors(own):  # a child looks up once it has imported what it was to: however long that takes here
        subprocess.run([sys.executable, "-c", "import torch, trainer.dataset"], cwd=ROOT, check=True)
    wait_until(lambda: not survivors(own), "its children to be gone", patience_s=5)


@pytest.mark.faults
@pytest.mark.parametrize(("start", "longest_s"), [(_trainer, 6.0), (_producer, 1.0)], ids=["trainer", "producer"])
def test_a_program_that_starts_can_be_stopped(
    tmp_path: Path, seed: int, row: Row, start: Callable[[Path], Started], longest_s: float
) -> None:
    drawn, times = random.Random(seed), 10
    for number in range(times):
        stop_while_it_starts(start(tmp_path), SIGNALS[number % 2], drawn.uniform(0, longest_s))
        assert not (tmp_path / "socket").exists()
    name = start.__name__.removeprefix("_")
    caused = f"a {name} that starts or waits got SIGINT or SIGTERM {times} times"
    row(21, caused, "status 0; no child, no socket file left")
