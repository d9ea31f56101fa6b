"""Reading a stream as a user's loop does."""

from collections.abc import Generator, Iterator, Mapping

import torch

from benchmarks.cell import Numbers
from benchmarks.measure import Columns, InOrder, measure, stream_order
from trainer.batch import Batch
from trainer.loader import StreamLoader


def marked(loader: StreamLoader) -> Generator[Batch, None, None]:
    """Each batch once it was marked as trained."""
    for batch in loader:
        loader.mark_trained(batch)
        yield batch


def read(url: str, columns: Columns, *, batch_size: int, workers: int, seconds: float, warm_s: float) -> Numbers:
    """Batches of an endless stream of these columns, each marked; also `bytes_per_s`."""
    loader = StreamLoader(url, batch_size=batch_size, num_workers=workers)
    check = InOrder(columns, batch_size, stream_order(len(columns["id"])))
    return pull(marked(loader), check, loader, batch_size=batch_size, seconds=seconds, warm_s=warm_s)


def pull(
    batches: Iterator[Mapping[str, torch.Tensor]],
    check: InOrder,
    loader: StreamLoader,
    *,
    batch_size: int,
    seconds: float,
    warm_s: float,
) -> Numbers:
    """Measure a loop over a loader, look into its ledger and end it."""
    numbers = measure(batches.__next__, check, records=batch_size, seconds=seconds, warm_s=warm_s)
    loader.check_ledger()
    if isinstance(batches, Generator):
        batches.close()
    return {**numbers, "bytes_per_s": numbers["rate"] * loader.info.schema.record_bytes}
