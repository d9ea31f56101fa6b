"""Several trainers on one stream, each with a group of its own: what one does costs the others nothing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.trainer.lives import Started, end, tail, wait, wait_until
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, group, ids, serving
from trainer.batch import Batch
from trainer.loader import StreamLoader

RECORDS = 30_000


def marked(loader: StreamLoader) -> Iterator[Batch]:
    """Each batch once it was marked as trained."""
    for batch in loader:
        loader.mark_trained(batch)
        yield batch


def test_a_trainer_that_stands_still_holds_no_other_back_and_misses_nothing(tmp_path: Path) -> None:
    # More than one reader has in flight, so the one that is stopped has not everything in its socket.
    with serving(computed(NumberedRecords(RECORDS, size=1 << 10, validation=0), rate=60_000)) as url:
        stalled = Started("tests.trainer.stalled", [url, "stalled"], tmp_path / "stalled.log")
        try:
            wait_until(lambda: "reading" in tail(stalled), "its first records")
            os.kill(stalled.pid, signal.SIGSTOP)
            loaders = [StreamLoader(url, batch_size=500, group=name) for name in ("one", "two")]
            for loader in loaders:
                assert sorted(ids(marked(loader))) == list(range(RECORDS))
                loader.check_ledger()
            assert sum(group(url, "one").trained.values()) == RECORDS
            assert stalled.poll() is None
            assert tail(stalled).splitlines() == ["reading"]
            os.kill(stalled.pid, signal.SIGCONT)
            assert wait(stalled) == 0
            assert tail(stalled).splitlines() == ["reading", str(RECORDS)]
        finally:
            if stalled.poll() is None:
                end(stalled)
