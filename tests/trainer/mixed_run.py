"""A run that mixes two streams, 3:1, over many lives of its trainer and both producers."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from producer.passes import pass_order
from tests.trainer.counted_run import CountedRun, Scale, free_address
from tests.trainer.counting import MOMENT_FILE
from tests.trainer.lives import Life, Nursery, Started, end, tail, wait
from trainer.audit import Account
from trainer.checkpoint_files import State, load_newest

BATCH, SHARES = 64, (48, 16)


class MixedRun(CountedRun):
    """Three times as many records in the first stream as in the second, whose ids come after those of the first."""

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        seed: int,
        *,
        records: int = 600,
        workers: Sequence[int] = (0, 2),
        rate: float = 0,
        order: str = "stream",
        exact: bool = True,
    ) -> None:
        scale = Scale(records=3 * records, size=1 << 14, batch=BATCH)
        super().__init__(folder, nursery, seed, passes=1, workers=workers, rate=rate, scale=scale)
        self.records, self.order, self.exact = records, order, exact and order == "stream"
        self.other_bound = free_address()
        self.other = self.produce_other()
        self.url = f"{self.bound},{self.other_bound}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.other.poll() is None:
            end(self.other)
        super().__exit__(kind, error, trace)

    @property
    def total(self) -> int:
        return 4 * self.records

    def produce_other(self, rate: float = 0, *options: str) -> Started:
        """A life of the second producer, on the same port as the one before."""
        source = ["--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(self.records)]
        source += ["--source.size", str(self.scale.size), "--source.first", str(3 * self.records)]
        arguments = ["--bind", self.other_bound, "--until", "committed", "--rate", str(rate), "--passes", "1"]
        return Started("producer", [*arguments, *source, *options], self.folder / "other.log")

    def train(self, *options: str, command_line: bool = False, module: Sequence[str] = ("trainer",)) -> Life:
        """A life of the trainer; where the mix shall be exact, a batch of another one would end it."""
        mix = ["--model.records", str(self.total), "--order", self.order]
        if self.order == "stream":
            mix += ["--weights", "3,1"]
        if self.exact:
            mix += ["--task", "tests.trainer.counting.CountingShares", "--task.first", str(3 * self.records)]
        return super().train(*mix, *options, command_line=command_line, module=module)

    def kill_other(self, rate: float = 0) -> None:
        """Kill the second producer and start it again."""
        end(self.other)
        self.killed["other"] += 1
        self.other = self.produce_other(rate)

    def finish(self, *options: str, command_line: bool = False) -> State:
        state = super().finish(*options, command_line=command_line)
        assert wait(self.other) == 0, tail(self.other)
        return state

    def assert_each_trained_once(self) -> State:
        """Counts, and the places of all records: those of a run that nothing has stopped."""
        state = self.assert_each_counted_once()
        assert int(state["model"]["placed"]) == self.in_order()
        return state

    def assert_each_counted_once(self) -> State:
        """Counts and ledgers."""
        found = load_newest(self.run_dir, pytest.fail)
        assert found is not None
        state = found[1]
        assert Counter(state["model"]["counts"].tolist()) == {1: self.total}, "records by how often each was trained"
        assert state["samples"] == self.total
        account = Account(state)
        account.check()
        assert [sum(each.positions.values()) for each in account.streams] == [3 * self.records, self.records]
        assert account.totals["trained"] == self.total
        return state

    def in_order(self) -> int:
        """Each id times its place, where each batch has first its share of the one stream and then of the other."""
        first, second = pass_order(3 * self.records, 0, 0), pass_order(self.records, 0, 0) + 3 * self.records
        batches = range(-(-self.total // BATCH))
        one, other = SHARES
        parts = [part for batch in batches for part in (first[batch * one :][:one], second[batch * other :][:other])]
        order = np.concatenate(parts)
        return int((order * np.arange(len(order))).sum())


class PictureRun(MixedRun):
    """The same of pictures, with a model whose bits tell everything that was done."""

    MODEL = "tests.trainer.counting.DroppingClassifier"

    def produce(self, rate: float | None = None) -> Started:
        return self._pictures(self.bound, 1500, 0)

    def produce_other(self, rate: float = 0, *options: str) -> Started:
        return self._pictures(self.other_bound, 500, 1500)

    def train(self, *options: str, command_line: bool = False, module: Sequence[str] = ("trainer",)) -> Life:
        arguments = ["--stream", self.url, "--run_dir", str(self.run_dir), "--weights", "3,1", "--model", self.MODEL]
        arguments += ["--task", "tests.trainer.counting.WatchedClassification", "--batch_size", str(BATCH)]
        arguments += ["--display", "plain", "--report_every", "500", "--checkpoint_every", "300", "--seed", "7"]
        arguments += ["--tensorboard", "false", "--workers", str(self.drawn.choice([0, 2])), *options]
        self.moment.begin()
        self.trainer = self.nursery.train(arguments, self._log, **{MOMENT_FILE: str(self.folder / "moment")})
        return self.trainer

    def finish_run(self, *options: str) -> State:
        """Train the rest; gives back the last state."""
        life = self.train(*options)
        assert wait(life) == 0, tail(life)
        found = load_newest(self.run_dir, pytest.fail)
        assert found is not None
        (account := Account(found[1])).check()
        assert account.totals["trained"] + account.totals["held_out"] == 2000
        return found[1]

    def _pictures(self, bound: str, records: int, first: int) -> Started:
        source = ["--source", "tests.trainer.numbered.NumberedPictures", "--source.records", str(records)]
        source += ["--source.first", str(first), "--passes", "1", "--rate", "0", "--until", "committed"]
        return Started("producer", ["--bind", bound, *source], self.folder / f"producer-{first}.log")


class CaptureRun(MixedRun):
    """Two live sources with logs in memory: the first one ends, each life of the second gives `LIFE` records of its
    own, and then falls silent.
    """

    LIFE = 3000

    def produce(self, rate: float | None = None) -> Started:
        return self._capture(self.bound, 0, self.scale.records, ends=True)

    def produce_other(self, rate: float = 0, *options: str) -> Started:
        first = self.scale.records + self.killed["other"] * self.LIFE
        return self._capture(self.other_bound, first, self.LIFE, ends=False)

    def produce_last(self, life: int) -> Started:
        """A life of the second one that ends."""
        return self._capture(self.other_bound, 3 * self.records + life * self.LIFE, self.records, ends=True)

    @property
    def total(self) -> int:
        return 3 * self.records + 10 * self.LIFE

    def _capture(self, bound: str, first: int, count: int, *, ends: bool) -> Started:
        source = ["--source", "tests.trainer.capture.Capture", "--source.first", str(first), "--until", "committed"]
        source += ["--source.count", str(count), "--source.ends", str(ends).lower()]
        return Started("producer", ["--bind", bound, *source], self.folder / f"producer-{first}.log")
