"""Two producers and a trainer as processes: whatever dies, batches keep their shares and each record comes once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.lives import Nursery
from tests.trainer.mixed_run import MixedRun


@pytest.fixture
def run(tmp_path: Path, nursery: Nursery, seed: int) -> Iterator[MixedRun]:
    with MixedRun(tmp_path, nursery, seed) as run:
        yield run


@pytest.mark.slow
def test_over_kills_of_the_trainer_every_batch_has_its_shares_and_every_record_comes_once(run: MixedRun) -> None:
    for moment in run.drawn.sample(["step", "save", "anywhere"], 2):
        run.kill_trainer(moment)
    run.finish()
    assert "records in a batch: 48 of" in run.said()
