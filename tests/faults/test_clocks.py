"""Row 20: a wall clock is set back and forward by an hour under a run."""

import json
import re
from math import inf
from pathlib import Path

import numpy as np
import pytest

from protocol.open_reader import open_reader
from tests.faults.conftest import Row
from tests.trainer.counted_run import CountedRun
from tests.trainer.lives import Nursery, tail, wait

HOUR_S, RATE, REPORT_EVERY = 3600, 200, 500


@pytest.mark.faults
@pytest.mark.parametrize(("whose", "workers"), [("producer", 2), ("trainer", 0)])  # a worker has the right clock
def test_a_clock_that_is_set_changes_no_duration_and_makes_no_age_negative(
    tmp_path: Path, nursery: Nursery, seed: int, row: Row, whose: str, workers: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    shifted = {whose: ("tests.faults.shifted_clock", str(clock), whose)}
    producing, training = (shifted.get(name, (name,)) for name in ("producer", "trainer"))
    with CountedRun(tmp_path, nursery, seed, passes=1, workers=[workers], rate=RATE, module=producing) as run:
        life = run.train(command_line=True, module=training)
        uptimes_s = [0.0]
        for hours in (0, -1, 1, 0):
            clock.write_text(str(hours * HOUR_S))
            run.wait_for_steps(life, run.moment.steps + 25)  # two reports or more
            with open_reader(run.url) as reader:
                uptimes_s.append(reader.describe(timeout_s=60).uptime_s)
        assert wait(life) == 0, tail(life)
        run.assert_each_trained_once()
        lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
        reports = [line for line in lines if line["kind"] == "report"]
        ages_ms = [report["sample_age_ms_p50"] for report in reports]
        durations_s = [REPORT_EVERY / (report["samples_per_s"] or inf) for report in reports[1:]]
        assert min(ages_ms) >= 0
        assert max(ages_ms) > 1000 * (HOUR_S - 60), "the clock was set"
        assert 0 < min(durations_s) <= max(durations_s) < 60
        assert 0 < min(np.diff(uptimes_s)) <= max(np.diff(uptimes_s)) < 600
        shares = [share for report in reports for share in report["stages"].values()]
        assert 0 <= min(shares) <= max(shares) < 0.999, "an hour in one stage: a report has ten steps of 3 ms"
        assert re.search(r"the producer's clock is 3,[56]\d\d\.\d s ahead of this one", run.said())
        row(
            20,
            f"the {whose}'s wall clock set back an hour, forward two, and right again, at {RATE} records a second",
            f"{REPORT_EVERY} samples took {min(durations_s):.1f} to {max(durations_s):.1f} s by the reports; the least "
            f"median age is {min(ages_ms):.1f} ms; the skew is said; all counts 1",
        )
