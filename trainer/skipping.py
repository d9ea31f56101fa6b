"""Batches that cannot be trained on are passed over, as long as others are better."""

import time
from collections.abc import Iterable
from typing import Final

from torch import nn

from protocol.errors import DataFault
from protocol.rate_limit import RateLimit
from trainer.batch import AnyBatch
from trainer.loading import Loader
from trainer.metrics import all_finite
from trainer.telemetry import Telemetry

#: That batches are skipped is said at most this often, and so many of them in a row end the run.
SAID_S: Final = 10.0
MOST_IN_A_ROW: Final = 100


class Skipping:
    """The loss or a gradient of a batch is no number: its records have passed, and nothing else has happened.

    Samples are those that were trained, so nothing falls due. Skipping helps only where other batches are better.
    """

    def __init__(self, loader: Loader, telemetry: Telemetry) -> None:
        self._loader, self._telemetry = loader, telemetry
        self._said = RateLimit(SAID_S)
        self._in_a_row = 0

    def skip(self, batch: AnyBatch, parameters: Iterable[nn.Parameter], samples: int) -> None:
        """Pass over a batch, after so many samples. Raises `DataFault` where it is not the data."""
        self._loader.mark_skipped(batch)
        self._in_a_row += 1
        if not all_finite(parameters):
            raise DataFault(f"the weights are not numbers any more at {samples} samples")
        if self._in_a_row >= MOST_IN_A_ROW:
            raise DataFault(f"the loss was no number in {self._in_a_row} batches in a row at {samples} samples")
        if self._said.allows(time.monotonic()):
            count = self._loader.position.totals()["skipped"]
            self._telemetry.notice(
                f"batch {batch.number} was skipped: its loss or a gradient is no number; {count:,} records so far"
            )

    def trained(self) -> None:
        """Another batch was better."""
        self._in_a_row = 0
