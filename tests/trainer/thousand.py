"""A stream of a thousand records in stripes of 32, and what a loader takes of one."""

import numpy as np

from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed
from trainer.batch import Batch
from trainer.loader import StreamLoader

RECORDS = 1000


def numbered(records: int = RECORDS) -> NumberedRecords:
    """Stripes of 32: a partition has several."""
    return NumberedRecords(records, validation=0)


def expected_ids() -> list[int]:
    log = computed(numbered())
    return [
        int(np.asarray(log.read(*log.info.dealing.locate(record), 1).columns["id"])[0]) for record in range(RECORDS)
    ]


def take(loader: StreamLoader, batches: int, *, mark: bool = True) -> list[Batch]:
    """The next batches; then the iteration is left."""
    taken: list[Batch] = []
    for batch in loader:
        taken.append(batch)
        if mark:
            loader.mark_trained(batch)
        if len(taken) == batches:
            break
    return taken
