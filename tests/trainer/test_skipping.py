"""Batches that are passed over: a hundred in a row end a run, a better one in between does not."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from protocol.errors import DataFault
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer.batch import Batch
from trainer.loader import StreamLoader
from trainer.skipping import MOST_IN_A_ROW, Skipping
from trainer.telemetry import Telemetry

WEIGHTS = nn.Linear(1, 1).parameters


@pytest.fixture
def loader() -> Iterator[StreamLoader]:
    with serving(computed(NumberedRecords(2 * MOST_IN_A_ROW - 1, size=64, validation=0))) as url:
        yield StreamLoader(url, batch_size=1)


def skip_all(loader: StreamLoader, skipping: Skipping, *, better_at: int) -> Batch:
    """Every batch but one; the last that was passed over."""
    for batch in loader:
        if batch.number == better_at:
            loader.mark_trained(batch)
            skipping.trained()
        else:
            skipping.skip(batch, WEIGHTS(), 0)
    return batch


def test_so_many_in_a_row_are_not_the_data(loader: StreamLoader) -> None:
    with pytest.raises(DataFault, match="no number in 100 batches in a row"):
        skip_all(loader, Skipping(loader, Telemetry([])), better_at=MOST_IN_A_ROW + 1)
    assert loader.position.totals()["skipped"] == MOST_IN_A_ROW


def test_a_better_one_in_between_begins_the_count_anew(loader: StreamLoader) -> None:
    skip_all(loader, Skipping(loader, Telemetry([])), better_at=MOST_IN_A_ROW)
    assert loader.position.totals()["skipped"] == 2 * MOST_IN_A_ROW - 2


def test_weights_that_are_no_numbers_end_the_run_at_once(loader: StreamLoader) -> None:
    spoilt = nn.Parameter(torch.tensor(float("nan")))
    batch = next(iter(loader))
    with pytest.raises(DataFault, match="the weights are not numbers any more at 7 samples"):
        Skipping(loader, Telemetry([])).skip(batch, [spoilt], 7)
