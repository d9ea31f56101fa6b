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
from tests.trainer.lives import Nursery, end

#: One line a report for as long as a run lives: the one file that is meant to grow.
GROWING = "metrics.jsonl"


def weeks(run: CountedRun, kills: int, *, producers: int, row: Row) -> None:
    """Kill the trainer so often, each time after its share of all records, and the producer `producers` times in
    between. Then every record was trained once, and nothing has grown.
    """
    trainers: defaultdict[int, list[Footprint]] = defaultdict(list)
    servers: list[list[Footprint]] = [[]]
    files: list[tuple[int, int]] = []
    began_s = time.monotonic()
    for kill in range(1, kills + 1):
        life = run.train()
        run.wait_for_steps(life, run.total // kills // run.scale.batch)
        os.kill(life.pid, signal.SIGSTOP)  # it is looked at as it stands
        own = run.family(life)
        trainers[run.workers].append(footprint([life.pid, *own]))
        servers[-1].append(footprint([run.producer.pid]))
        end(life)
        run.assert_nothing_left(own)
        files.append(files_in(run.run_dir, but=[GROWING]))
        print(f"{kill} kills in {time.monotonic() - began_s:.0f} s: {trainers[run.workers][-1]}", flush=True)
        if kill % (kills // (producers + 1)) == 0 and len(servers) <= producers:
            run.kill_producer()
            servers.append([])
    run.finish()
    took_s = time.monotonic() - began_s
    seen = [f"trainer with {workers} workers {_flat(trainers[workers])}" for workers in sorted(trainers)]
    seen.append(f"producer {_flat(max(servers, key=len))}")
    assert_no_more([count for count, _ in files], "files")
    assert_no_more([nbytes for _, nbytes in files], "bytes in files")
    row(
        22,
        f"{run.total:,} records in {took_s:.0f} s, trainer SIGKILLed {kills} times, producer {producers} times",
        f"all counts 1 in each of {run.passes} passes; {'; '.join(seen)}; {files[-1][0]} files",
    )


def _flat(footprints: list[Footprint]) -> str:
    early, late = assert_flat(footprints)
    return f"{early} → {late}"


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_a_hundred_million_records_with_a_kill_each_million(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row
) -> None:
    scale = Scale(
        records=1_000_000, size=8, batch=4096, step_s=0, report=250_000, validate=1_000_000, checkpoint=100_000
    )
    with CountedRun(tmp_path, nursery, seed, passes=100, workers=(0, 2), scale=scale) as run:
        weeks(run, 100, producers=3, row=row)


@pytest.mark.faults
def test_the_same_in_a_day_of_them(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    scale = Scale(records=100_000, size=8, batch=1024, step_s=0, report=25_000, validate=100_000, checkpoint=10_000)
    with CountedRun(tmp_path, nursery, seed, passes=30, workers=(0, 2), scale=scale) as run:
        weeks(run, 30, producers=1, row=row)
