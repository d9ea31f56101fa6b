"""Row 22: what weeks would do, in minutes: records at full speed, kill after kill, and nothing may grow."""

import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.conftest import Row
from tests.faults.footprint import Footprint, assert_flat, assert_no_more, files_in, footprint
from tests.trainer.counted_run import CountedRun, Scale
from tests.trainer.lives import Life, Nursery, end
from trainer.tensorboard_sink import event_files

#: What is meant to grow: a line a report for as long as a run lives, and TensorBoard's file a life with the same.
GROWING = ("metrics.jsonl", "events.out.tfevents.*")
#: How often a life is looked at that goes on.
LOOKS = 40


class Weeks:
    """A run of many lives, each of which is looked at.

    Lives that end young show what a run leaves to the next one, in its files and in the producer; two that grow old
    show what a trainer gathers: a descriptor that each save left open would be as many in all lives of one age.
    """

    def __init__(self, run: CountedRun) -> None:
        self._run, self._began_s = run, time.monotonic()
        self._trainers: defaultdict[str, list[Footprint]] = defaultdict(list)
        self._producers: list[list[Footprint]] = [[]]
        self._files: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._growing: list[int] = []
        self._lives = 0

    @property
    def took_s(self) -> float:
        """Since the first life began."""
        return time.monotonic() - self._began_s

    def die_young(self, records: int) -> None:
        """A life that is killed after so many records."""
        life = self._live()
        own = self._look(life, records, "young")
        self.kill(life, own)
        self._growing.append(sum(path.stat().st_size for name in GROWING for path in self._run.run_dir.rglob(name)))

    def grow_old(self, records: int) -> tuple[Life, dict[int, str]]:
        """A life of so many records, that goes on; gives back it and its family."""
        life, own = self._live(), {}
        for look in range(1, LOOKS + 1):
            own = self._look(life, look * records // LOOKS, "old")
        return life, own

    def kill(self, life: Life, own: dict[int, str]) -> None:
        """The trainer's pid alone; nothing of it stays."""
        end(life)
        self._run.assert_nothing_left(own)

    def kill_producer(self) -> None:
        """While there is no trainer."""
        self._run.kill_producer()
        self._producers.append([])

    def flat(self) -> str:
        """Nothing has grown; says what was seen."""
        seen = [assert_flat(looks, f"trainer {kind}") for kind, looks in sorted(self._trainers.items())]
        seen.append(assert_flat(max(self._producers, key=len), "producer"))
        for age, files in self._files.items():
            assert_no_more([count for count, _ in files], f"files, {age}")
            assert_no_more([nbytes for _, nbytes in files], f"bytes in files, {age}")
        assert len(event_files(self._run.run_dir / "tensorboard")) == self._lives, "a life writes one for TensorBoard"
        first, middle, last = (self._growing[at] for at in (0, len(self._growing) // 2, -1))
        assert last - middle <= 1.5 * (middle - first), f"reports take ever more: {self._growing} bytes"
        count, nbytes = self._files["old"][-1]
        each = (last - first) // (len(self._growing) - 1)
        return f"{'; '.join(seen)}; {count} files of {nbytes:,} bytes, and of reports {each:,} bytes a life"

    def _live(self) -> Life:
        """With TensorBoard, as trainers have by default."""
        self._lives += 1
        return self._run.train("--tensorboard", "true")

    def _look(self, life: Life, records: int, age: str) -> dict[int, str]:
        """What is there once this life has trained so many records; gives back its family."""
        run = self._run
        run.wait_for_steps(life, records // run.scale.batch)
        os.kill(life.pid, signal.SIGSTOP)  # it is looked at as it stands
        own = run.family(life)
        trainer, producer = footprint([life.pid, *own]), footprint([run.producer.pid])
        files, nbytes = files_in(run.run_dir, but=GROWING)
        os.kill(life.pid, signal.SIGCONT)
        kind = f"{age} with {run.workers} workers"
        self._trainers[kind].append(trainer)
        self._producers[-1].append(producer)
        self._files[age].append((files, nbytes))
        print(
            f"life {self._lives}, {kind}, {self.took_s:.0f} s: {trainer}; producer {producer}; {files} files",
            flush=True,
        )
        return own


def weeks(run: CountedRun, row: Row, *, kills: int, producers: int, share: int, age: int) -> None:
    """Kill the trainer so often, each time after about its share of the records, and the producer `producers` times.

    Then it has two lives of `age` records, with the one number of workers and the other. Every record was trained once,
    in its place, and nothing has grown.
    """
    weeks = Weeks(run)
    for kill in range(1, kills + 1):
        weeks.die_young(run.drawn.randint(share * 4 // 5, share * 6 // 5))
        if kill % (kills // (producers + 1)) == 0 and run.killed["producer"] < producers:
            weeks.kill_producer()
    weeks.kill(*weeks.grow_old(age))
    _, own = weeks.grow_old(age)
    run.finish()
    run.assert_nothing_left(own)
    row(
        22,
        f"{run.total:,} records in {weeks.took_s:.0f} s, trainer SIGKILLed {kills + 1} times, producer {producers}",
        f"all counts 1 in each of {run.passes} passes, all in their place; {weeks.flat()}",
    )


@pytest.mark.long
def test_a_hundred_million_records_with_a_kill_each_million(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    scale = Scale(records=250_000, size=8, batch=1024, step_s=0, report=250_000, validate=1_000_000, checkpoint=100_000)
    with CountedRun(tmp_path, nursery, seed, passes=640, workers=(0, 2), scale=scale) as run:
        weeks(run, row, kills=100, producers=3, share=1_000_000, age=20_000_000)


@pytest.mark.faults
def test_the_same_in_a_day_of_them(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    scale = Scale(records=50_000, size=8, batch=1024, step_s=0, report=25_000, validate=100_000, checkpoint=10_000)
    with CountedRun(tmp_path, nursery, seed, passes=60, workers=(0, 2), scale=scale) as run:
        weeks(run, row, kills=12, producers=1, share=100_000, age=600_000)
