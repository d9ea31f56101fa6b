"""Whatever dies in between, every record is trained exactly once."""

import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from protocol.dealing import Dealing
from tests.trainer.counting import ELSEWHERE, IN_STEP, IN_VALIDATION, MOMENT_FILE, Moment
from tests.trainer.lives import (
    Forked,
    Life,
    Nursery,
    Started,
    born,
    end,
    family,
    orphaned,
    shared_memory,
    survivors,
    tail,
    wait,
    wait_until,
)
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import Ledger

RECORDS, PASSES, BATCH = 6000, 5, 50
WORKERS = (0, 1, 3)
#: How many lives of a trainer end in which moment. One that misses its moment is killed as well, and tried again.
MOMENTS = {"start": 4, "step": 6, "validation": 3, "save": 5, "idle": 2, "anywhere": 4}
#: More than what the readers have ahead: a trainer that gets so far has heard of the next life of its producer.
AHEAD_STEPS = 25


class Run:
    """A stream and a run on it, over many lives of both."""

    def __init__(self, folder: Path, nursery: Nursery, seed: int) -> None:
        self.nursery, self.drawn = nursery, random.Random(seed)
        self.folder, self.run_dir = folder, folder / "run"
        self.moment = Moment(folder / "moment")
        self.memory_before = shared_memory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.producer = self.produce()
        self.workers = 0
        self.trainer: Life | None = None
        self.killed: Counter[str] = Counter()

    def produce(self, rate: float = 0) -> Started:
        """A life of the producer, on the same port as the one before."""
        arguments = ["--bind", self.url, "--rate", str(rate), "--passes", str(PASSES), "--until", "committed"]
        source = ["--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(RECORDS)]
        return Started("producer", [*arguments, *source], self.folder / "producer.log")

    def train(self, *, command_line: bool = False) -> Life:
        """A life of the trainer, with other workers than the one before."""
        self.workers = self.drawn.choice([number for number in WORKERS if number != self.workers])
        arguments = ["--stream", self.url, "--run_dir", str(self.run_dir), "--workers", str(self.workers)]
        arguments += ["--model", "tests.trainer.counting.CountingModel", "--model.records", str(RECORDS)]
        arguments += ["--task", "tests.trainer.counting.Counting", "--batch_size", str(BATCH), "--display", "plain"]
        arguments += ["--report_every", "500", "--validate_every", "800", "--checkpoint_every", "300"]
        log, moment = self.folder / "trainer.log", {MOMENT_FILE: str(self.folder / "moment")}
        self.moment.begin()
        if command_line:
            # A later event file waits for a later second, so only these lives write one.
            self.trainer = Started("trainer", ["train", *arguments], log, **moment)
        else:
            self.trainer = self.nursery.train([*arguments, "--tensorboard", "false"], log, **moment)
        return self.trainer

    def close(self) -> None:
        """Leave nothing running behind a test that has failed."""
        for life in (self.trainer, self.producer):
            if life is not None and life.poll() is None:
                end(life)

    def kill_producer(self, rate: float = 0) -> None:
        """Kill it and start it again."""
        end(self.producer)
        self.killed["producer"] += 1
        self.producer = self.produce(rate)

    def kill_trainer(self, moment: str, *, command_line: bool = False, with_producer: bool = False) -> None:
        """One life of the trainer, which ends in such a moment if it can be caught."""
        if moment == "idle":
            self.kill_producer(rate=2 * BATCH)
        life = self.train(command_line=command_line)
        if with_producer:
            self._wait_for_steps(life, self.drawn.randint(1, 6))
            self.kill_producer()
            self._wait_for_steps(life, self.moment.steps + AHEAD_STEPS)
        getattr(self, f"_await_{moment}")(life)
        assert life.poll() is None, f"the trainer ended by itself, with {life.poll()}:\n{tail(life)}"
        own = self._family(life)
        end(life)
        self.killed[moment if self._died_in(moment) else "missed"] += 1
        if moment == "idle":
            self.kill_producer()
        wait_until(lambda: not survivors(own), "the workers of a killed trainer to be gone", patience_s=5)
        wait_until(lambda: not orphaned(shared_memory() - self.memory_before), "shared memory to be free", patience_s=5)

    def _family(self, life: Life) -> dict[int, str]:
        """Workers, resource tracker and, where it was not forked, the forkserver."""
        return family(life.pid, self.nursery.forkserver) if isinstance(life, Forked) else family(life.pid)

    # --- moments -------------------------------------------------------------------------------------------------

    def _await_start(self, life: Life) -> None:
        time.sleep(self.drawn.uniform(0, 0.4))

    def _await_step(self, life: Life) -> None:
        self._wait_for_steps(life, self.drawn.randint(1, 12))
        self._wait(life, lambda: self.moment.now == IN_STEP)

    def _await_validation(self, life: Life) -> None:
        self._wait(life, lambda: self.moment.now == IN_VALIDATION)
        time.sleep(self.drawn.uniform(0, 0.01))

    def _await_save(self, life: Life) -> None:
        self._wait_for_steps(life, 1)  # what an earlier life left unfinished has been removed by then
        self._wait(life, self._saving)

    def _await_idle(self, life: Life) -> None:
        self._wait_for_steps(life, 1)
        self._wait(life, lambda: self.moment.now == ELSEWHERE)
        time.sleep(self.drawn.uniform(0, 0.3))

    def _await_anywhere(self, life: Life) -> None:
        self._wait_for_steps(life, self.drawn.randint(1, 12))
        time.sleep(self.drawn.uniform(0, 0.05))

    def _wait_for_steps(self, life: Life, steps: int) -> None:
        self._wait(life, lambda: self.moment.steps >= steps)

    def _wait(self, life: Life, condition: Callable[[], bool]) -> None:
        try:
            wait_until(lambda: condition() or born(life.pid) is None, "its moment")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tail(life)}\n{tail(self.producer)}") from error

    def _saving(self) -> bool:
        return any(self.run_dir.glob("*/step-*.tmp"))

    def _died_in(self, moment: str) -> bool:
        """As the files show that it left."""
        match moment:
            case "start":
                return self.moment.steps == 0
            case "step":
                return self.moment.now == IN_STEP
            case "validation":
                return self.moment.now == IN_VALIDATION
            case "save":
                return self._saving()
            case "idle":
                return self.moment.now == ELSEWHERE
            case _:
                return True


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def run(tmp_path: Path, nursery: Nursery, seed: int) -> Iterator[Run]:
    run = Run(tmp_path, nursery, seed)
    yield run
    run.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_record_is_trained_once_a_pass_over_more_than_20_kills(run: Run) -> None:
    lives = [moment for moment, count in MOMENTS.items() for _ in range(count)]
    run.drawn.shuffle(lives)
    by_command_line = set(run.drawn.sample(range(len(lives)), 2))
    with_producer = set(run.drawn.sample([at for at, moment in enumerate(lives) if moment in ("step", "anywhere")], 3))
    for at, moment in enumerate(lives):
        run.kill_trainer(moment, command_line=at in by_command_line, with_producer=at in with_producer)
    for moment in MOMENTS:
        while not run.killed[moment]:
            assert run.killed["missed"] < len(lives), run.killed
            run.kill_trainer(moment)
    _stop_by_signal(run)
    last = run.train(command_line=True)
    assert wait(last) == 0, tail(last)
    assert wait(run.producer) == 0, tail(run.producer)

    print(f"killed: {dict(run.killed)}")
    assert run.killed.total() - run.killed["producer"] >= 20
    state = _last_state(run)
    counts = state["model"]["counts"]
    assert counts.unique(return_counts=True)[0].tolist() == [PASSES], torch.bincount(counts)
    assert state["samples"] == RECORDS * PASSES
    _assert_balanced(state)


def _stop_by_signal(run: Run) -> None:
    """One life is asked to stop: it saves, and ends with 0."""
    life = run.train()
    run._wait_for_steps(life, 3)
    assert end(life, signal.SIGTERM) == 0, tail(life)


def _last_state(run: Run) -> State:
    damaged: list[str] = []
    found = load_newest(run.run_dir, damaged.append)
    assert found is not None
    assert damaged == []
    return found[1]


def _assert_balanced(state: State) -> None:
    stream = state["stream"]
    assert stream["positions"] == Dealing(stream["partitions"], stream["stripe"]).ends(RECORDS * PASSES)
    ledger = Ledger.from_state(stream["ledger"])
    ledger.check(stream["positions"], {}, {})
    assert ledger.totals()["trained"] == RECORDS * PASSES
