"""The real trainer with `--on_nan skip`: which records were trained, and that nothing but them was."""

import signal
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

from producer.computed_log import ComputedLog
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from tests.trainer.counting import MOMENT_FILE, Moment
from tests.trainer.lives import Forked, Nursery, end, tail, wait, wait_until
from tests.trainer.streams import serving
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import Ledger

pytestmark = pytest.mark.slow

RECORDS, BATCH = 3000, 20
SCHEMA = Schema((Field("id", "int64"), Field("value", "float32")))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def numbers(spoilt: Collection[int]) -> ComputedLog:
    """Records in the order of their ids; the value of the spoilt ones is NaN."""
    values = np.ones(RECORDS, np.float32)
    values[list(spoilt)] = np.nan
    source = ColumnSource("numbers", SCHEMA, {"id": np.arange(RECORDS), "value": values})
    return ComputedLog(source, Dealing(4, 32), passes=1, shuffle=False)


def begin(nursery: Nursery, folder: Path, url: str, *options: str) -> Forked:
    arguments = [
        "--stream", url, "--run_dir", str(folder / "run"), "--display", "plain", "--tensorboard", "false",
        "--device", "cpu", "--batch_size", str(BATCH), "--on_nan", "skip", "--checkpoint_every", "200",
        "--model", "tests.trainer.counting.CountingModel", "--model.records", str(RECORDS), "--model.ballast", "1",
        "--task", "tests.trainer.counting.CountingNumbers", *options,
    ]  # fmt: skip
    return nursery.train(arguments, folder / "trainer.log", **{MOMENT_FILE: str(folder / "moment")})


def newest(folder: Path) -> State:
    found = load_newest(folder / "run", pytest.fail)
    assert found is not None
    return found[1]


def test_batches_without_a_number_are_skipped_and_counted_over_a_kill(nursery: Nursery, tmp_path: Path) -> None:
    spoilt = [0, 601, 615, 1700, RECORDS - 1]  # in the first batch, two in one batch, and in the last
    skipped = {record for each in spoilt for record in range(each // BATCH * BATCH, each // BATCH * BATCH + BATCH)}
    moment = Moment(tmp_path / "moment")
    with serving(numbers(spoilt)) as url:
        life = begin(nursery, tmp_path, url)
        wait_until(lambda: moment.steps >= 100, "100 steps")
        assert end(life, signal.SIGKILL) == -signal.SIGKILL
        life = begin(nursery, tmp_path, url)
        assert wait(life) == 0, tail(life)
    state, said = newest(tmp_path), life.log.read_text()
    counts = state["model"]["counts"].tolist()
    assert [record for record, count in enumerate(counts) if count != 1] == sorted(skipped)
    assert sum(counts) == state["samples"] == RECORDS - len(skipped)
    ledger = Ledger.from_state(state["stream"]["ledger"])
    ledger.check(state["stream"]["positions"], {}, {})
    assert ledger.totals()["trained"] == state["samples"]
    assert ledger.totals()["skipped"] == len(skipped)
    assert state["batches"] == RECORDS // BATCH
    assert "batch 1 was skipped: its loss or a gradient is no number; 20 records so far" in said
    assert f"skipped {len(skipped)}" in said
    assert f"all of it was trained, {state['samples']:,} samples" in said


def test_a_run_that_would_skip_everything_ends_with_its_last_good_checkpoint(nursery: Nursery, tmp_path: Path) -> None:
    with serving(numbers(range(400, RECORDS))) as url:
        life = begin(nursery, tmp_path, url)
        assert wait(life) == 1, tail(life)
    said = life.log.read_text()
    assert said.count("was skipped: ") == 1, "said at most once in ten seconds"
    last = tail(life, 1)
    assert "no number in 100 batches in a row at 400 samples; the last good checkpoint is " in last
    assert newest(tmp_path)["samples"] == 400
