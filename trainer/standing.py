"""How the streams of a run stand, and what each of several has of the samples: for its reports."""

from collections import Counter
from collections.abc import Sequence

from trainer.batch import AnyBatch
from trainer.loading import Loader
from trainer.report import Standing


def standing(loader: Loader, *, balanced: bool) -> Standing:
    """How the stream stands, or all of them together and each."""
    position = loader.position
    return Standing(
        state=position.state,
        lag=position.lag,
        log_end=position.log_records,
        ledger={**position.totals(), "received": position.received, **loader.in_hand()},
        balanced=balanced,
        streams=position.streams,
    )


class Shares:
    """Whose records are trained, of streams with these `names`, by number; of a single stream nothing is counted."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._records: Counter[str] = Counter()

    def count(self, batch: AnyBatch) -> None:
        """This batch was trained."""
        if self._names:
            for part in batch.parts:
                self._records[self._names[part.stream]] += part.batch.count

    def since_last(self) -> dict[str, float]:
        """Shares of the records since this was last asked; their sum is 1, and there are none without records."""
        records, self._records = self._records, Counter()
        return {name: records[name] / records.total() for name in self._names if records}
