"""Whatever dies in between, every record is trained exactly once."""

import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from protocol.dealing import Dealing, distance
from tests.trainer.counting import ELSEWHERE, IN_STEP, IN_VALIDATION, MOMENT_FILE, Moment
from tests.trainer.lives import (
    Forked,
    Life,
    Nursery,
    Started,
    end,
    family,
    orphaned,
    shared_memory,
    survivors,
    tail,
    wait,
    wait_until,
)
from trainer.checkpoint_files import load_newest
from trainer.ledger import Ledger

RECORDS, PASSES, BATCH = 6000, 5, 50
WORKERS = (0, 1, 3)
#: What is going on when a trainer is killed. A life that misses its moment is killed all the same and tried again.
KILLED_IN = {"start": 4, "step": 6, "validation": 3, "save": 5, "idle": 2, "anywhere": 4}
MOST_LIVES = 40


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


class Run:
    """A stream and a run on it, each over many lives."""

    def __init__(self, folder: Path, nursery: Nursery, drawn: random.Random) -> None:
        self.nursery, self.drawn = nursery, drawn
        self.folder, self.run_dir = folder, folder / "run"
        self.moment = Moment(folder / "moment")
        self.before = shared_memory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.producer = self.produce(rate=0)
        self.workers = 0
        self.killed: Counter[str] = Counter()
        self.producers_killed = 0

    # --- the two programs ----------------------------------------------------------------------------------------

    def produce(self, rate: float) -> Started:
        """A life of the producer, on the same port as the one before."""
        arguments = ["--bind", self.url, "--rate", str(rate), "--passes", str(PASSES), "--until", "committed"]
        source = ["--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(RECORDS)]
        return Started("producer", [*arguments, *source], self.folder / "producer.log")

    def kill_producer(self, rate: float = 0) -> None:
        """Kill it and start it again."""
        end(self.producer)
        self.producers_killed += 1
        self.producer = self.produce(rate)

    def train(self, *, command_line: bool) -> Life:
        """A life of the trainer, each with other workers than the one before."""
        self.workers = self.drawn.choice([number for number in WORKERS if number != self.workers])
        arguments = ["--stream", self.url, "--run_dir", str(self.run_dir), "--workers", str(self.workers)]
        arguments += ["--model", "tests.trainer.counting.CountingModel", "--model.records", str(RECORDS)]
        arguments += ["--task", "tests.trainer.counting.Counting", "--batch_size", str(BATCH), "--display", "plain"]
        arguments += ["--report_every", "500", "--validate_every", "800", "--checkpoint_every", "300"]
        log, moment = self.folder / "trainer.log", {MOMENT_FILE: str(self.folder / "moment")}
        self.moment.begin()
        if command_line:
            return Started("trainer", ["train", *arguments], log, **moment)
        return self.nursery.train(arguments, log, **moment)

    # --- killing -------------------------------------------------------------------------------------------------

    def kill_trainer(self, kind: str, *, command_line: bool = False) -> None:
        """One life of the trainer, up to a moment of this kind."""
        life = self.train(command_line=command_line)
        wait_until(lambda: self.reached(kind) or life.poll() is not None, f"{kind}:\n{tail(life)}")
        assert life.poll() is None, f"the trainer ended by itself, with {life.poll()}:\n{tail(life)}"
        own = self.processes(life)
        end(life)
        if self.killed_in(kind):
            self.killed[kind] += 1
        else:
            self.killed["missed"] += 1
        wait_until(lambda: not survivors(own), "the workers of a killed trainer to go", patience_s=5.0)
        wait_until(lambda: not orphaned(shared_memory() - self.before), "shared memory to be free", patience_s=5.0)

    def reached(self, kind: str) -> bool:
        raise NotImplementedError

    def processes(self, life: Life) -> dict[int, str]:
        """Workers, resource tracker and, for a life of its own command line, the forkserver."""
        return family(life.pid, self.nursery.forkserver) if isinstance(life, Forked) else family(life.pid)
