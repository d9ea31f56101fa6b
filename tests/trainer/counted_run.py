"""A stream of numbered records and a run that counts them, over many lives of both: what the fault tests break."""

import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from producer.passes import pass_order
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
    wait_until_none,
)
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import Ledger

RECORDS, BATCH = 6000, 50
#: More than what the readers have ahead: a trainer that gets so far has heard of the next life of its producer.
AHEAD_STEPS = 25
#: A life takes so many steps at most before it is killed: time for four checkpoints, so that lives go on from others.
LIFE_STEPS = 24
MOMENTS = ("start", "step", "validation", "save", "idle", "anywhere")


def free_address() -> str:
    """An address that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much there is: `records` with `size` bytes each, and the samples of a batch and between what a run does."""

    records: int = RECORDS
    size: int = 1 << 16
    batch: int = BATCH
    step_s: float = 0.003
    report: int = 500
    validate: int = 800
    checkpoint: int = 300


class CountedRun:
    """`passes` over the records, trained in batches of 50; `workers` are those that a life may have, and `orders`.

    With `log_bytes` the records are live: the log holds so much, and what was committed is gone. `url` is where the
    trainer looks for the producer; a test may put something between the two. `module` is
    what runs the producer, with what stands before its options.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        seed: int,
        *,
        passes: int = 5,
        workers: Sequence[int] = (0, 1, 3),
        rate: float = 0,
        log_bytes: int | None = None,
        module: Sequence[str] = ("producer",),
        scale: Scale | None = None,
        orders: Sequence[str] = ("stream",),
    ) -> None:
        self.nursery, self.drawn = nursery, random.Random(seed)
        self.folder, self.run_dir = folder, folder / "run"
        self.scale = scale or Scale()
        self.passes, self._choice, self._rate, self._log_bytes = passes, workers, rate, log_bytes
        self._orders = orders
        self.moment = Moment(folder / "moment")
        self._log = folder / "trainer.log"
        self._log.touch()
        self._said = 0
        self.memory_before = shared_memory()
        self.url = self.bound = free_address()
        self.module = module
        self.producer = self.produce()
        self.workers = -1
        self.trainer: Life | None = None
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing running behind a test that has failed."""
        for life in (self.trainer, self.producer):
            if life is not None and life.poll() is None:
                end(life)

    @property
    def total(self) -> int:
        """Records of all passes."""
        return self.scale.records * self.passes

    # --- lives ---------------------------------------------------------------------------------------------------

    def produce(self, rate: float | None = None) -> Started:
        """A life of the producer, on the same port as the one before."""
        if self._log_bytes is None:
            rate = self._rate if rate is None else rate
            kind = "NumberedRecords"
            options = ["--rate", str(rate), "--passes", str(self.passes)]
        else:
            kind = "NumberedCamera"
            options = ["--log.bytes", str(self._log_bytes), "--source.passes", str(self.passes)]
        source = ["--source", f"tests.trainer.numbered.{kind}", "--source.records", str(self.scale.records)]
        source += ["--source.size", str(self.scale.size)]
        arguments = ["--bind", self.bound, "--until", "committed", *source, *options]
        return Started(self.module[0], [*self.module[1:], *arguments], self.folder / "producer.log")

    def train(self, *options: str, command_line: bool = False, module: Sequence[str] = ("trainer",)) -> Life:
        """A life of the trainer, with other workers than the one before where there is a choice.

        `command_line` starts it as a program of its own, run by `module`.
        """
        self.workers = self.drawn.choice([each for each in self._choice if each != self.workers] or self._choice)
        arguments = ["--stream", self.url, "--run_dir", str(self.run_dir), "--workers", str(self.workers)]
        arguments += ["--order", self.drawn.choice(self._orders)] if self._orders != ("stream",) else []
        scale = self.scale
        arguments += ["--model", "tests.trainer.counting.CountingModel", "--model.records", str(scale.records)]
        arguments += ["--task", "tests.trainer.counting.Counting", "--task.step_s", str(scale.step_s)]
        arguments += ["--batch_size", str(scale.batch), "--display", "plain", "--report_every", str(scale.report)]
        arguments += ["--validate_every", str(scale.validate), "--checkpoint_every", str(scale.checkpoint), *options]
        moment = {MOMENT_FILE: str(self.folder / "moment")}
        self.moment.begin()
        self._said = self._log.stat().st_size
        if command_line:
            # A later event file waits for a later second, so only these lives write one, unless `options` ask for it.
            self.trainer = Started(module[0], [*module[1:], "train", *arguments], self._log, **moment)
        else:
            self.trainer = self.nursery.train(["--tensorboard", "false", *arguments], self._log, **moment)
        return self.trainer

    def said(self) -> str:
        """What this life of the trainer has said."""
        return self._log.read_bytes()[self._said :].decode(errors="replace")

    def family(self, life: Life) -> dict[int, str]:
        """Workers, resource tracker and, where it was not forked, the forkserver."""
        return family(life.pid, self.nursery.forkserver) if isinstance(life, Forked) else family(life.pid)

    def wait_for_steps(self, life: Life, steps: int) -> None:
        """Until this life has begun so many steps."""
        self.wait(life, lambda: self.moment.steps >= steps)

    def hear(self, life: Life, words: str, times: int = 1) -> None:
        """Until this life has said these words so often."""
        self.wait(life, lambda: self.said().count(words) >= times, words)

    def wait(self, life: Life, condition: Callable[[], bool], what: str = "its moment") -> None:
        """Until a condition holds; fails where the life ends before."""
        try:
            wait_until(lambda: condition() or born(life.pid) is None, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tail(life)}\n{tail(self.producer)}") from error
        assert life.poll() is None, f"the trainer ended by itself, with {life.poll()}:\n{tail(life)}"

    # --- kills ---------------------------------------------------------------------------------------------------

    def kill_producer(self, rate: float | None = None) -> None:
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
            self.wait_for_steps(life, self.drawn.randint(1, 6))
            self.kill_producer()
            self.wait_for_steps(life, self.moment.steps + AHEAD_STEPS)
        getattr(self, f"_await_{moment}")(life)
        assert life.poll() is None, f"the trainer ended by itself, with {life.poll()}:\n{tail(life)}"
        os.kill(life.pid, signal.SIGSTOP)  # it stays in its moment while its workers are looked for
        own = self.family(life)
        end(life)
        self.killed[moment if self._died_in(moment) else "missed"] += 1
        if moment == "idle":
            self.kill_producer()
        self.assert_nothing_left(own)

    def assert_nothing_left(self, own: dict[int, str]) -> None:
        """The processes of a life are gone within 5 s, and so is what it had in shared memory."""
        wait_until_none(lambda: survivors(own), "the workers of a trainer that has ended to be gone", patience_s=5)
        wait_until_none(
            lambda: orphaned(shared_memory() - self.memory_before), "shared memory to be free", patience_s=5
        )

    def _await_start(self, life: Life) -> None:
        time.sleep(self.drawn.uniform(0, 0.4))

    def _await_step(self, life: Life) -> None:
        self.wait_for_steps(life, self.drawn.randint(1, LIFE_STEPS))
        self.wait(life, lambda: self.moment.now == IN_STEP)

    def _await_validation(self, life: Life) -> None:
        self.wait(life, lambda: self.moment.now == IN_VALIDATION)
        time.sleep(self.drawn.uniform(0, 0.01))

    def _await_save(self, life: Life) -> None:
        # What an earlier life left unfinished has been removed when the first step begins.
        self.wait_for_steps(life, self.drawn.randint(1, LIFE_STEPS))
        self.wait(life, self._saving)

    def _await_idle(self, life: Life) -> None:
        self.wait_for_steps(life, 1)
        self.wait(life, lambda: self.moment.now == ELSEWHERE)
        time.sleep(self.drawn.uniform(0, 0.3))

    def _await_anywhere(self, life: Life) -> None:
        self.wait_for_steps(life, self.drawn.randint(1, LIFE_STEPS))
        time.sleep(self.drawn.uniform(0, 0.05))

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

    # --- the end -------------------------------------------------------------------------------------------------

    def finish(self, *options: str, command_line: bool = False) -> State:
        """Train the rest, in a life of its own unless one is under way; then every record was trained once a pass.

        Gives back the last state.
        """
        life = self.trainer
        if life is None or life.poll() is not None:
            life = self.train(*options, command_line=command_line)
        assert wait(life, patience_s=300) == 0, tail(life)
        assert wait(self.producer) == 0, tail(self.producer)
        return self.assert_each_trained_once()

    def assert_each_trained_once(self) -> State:
        """The oracle: counts and order in the last checkpoint, its positions and its ledger; gives back its state.

        Where a life may have read in order of arrival, nobody knows the order.
        """
        found = load_newest(self.run_dir, pytest.fail)
        assert found is not None
        state = found[1]
        counts = state["model"]["counts"]
        assert Counter(counts.tolist()) == {self.passes: self.scale.records}, "records by how often each was trained"
        known = self._orders == ("stream",)
        assert not known or (self._placed() - int(state["model"]["placed"])) % 2**64 == 0, (
            "each pass has its records, in its order"
        )
        assert state["samples"] == self.total
        stream = state["stream"]
        assert stream["positions"] == Dealing(stream["partitions"], stream["stripe"]).ends(self.total)
        ledger = Ledger.from_state(stream["ledger"])
        ledger.check(stream["positions"], {}, {})
        assert ledger.totals()["trained"] == self.total
        return state

    def _placed(self) -> int:
        """What `CountingModel` has added up of the whole stream: each id times its place."""
        per_pass = self.scale.records
        total = 0
        for number in range(self.passes):
            ids = pass_order(per_pass, 0, number) if self._log_bytes is None else np.arange(per_pass)
            total += int((ids * np.arange(number * per_pass, (number + 1) * per_pass)).sum())
        return total
