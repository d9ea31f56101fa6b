"""Mixes of small streams, and what came of each of them."""

from itertools import islice
from typing import Any

import numpy as np

from producer.publisher import Publisher
from tests.trainer.numbered import NumberedRecords
from trainer.loader import StreamLoader
from trainer.mixed_batch import MixedBatch
from trainer.mixed_loader import MixedLoader

NOBODY = "tcp://127.0.0.1:1"


def numbered(records: int, first: int = 0) -> NumberedRecords:
    return NumberedRecords(records, size=64, validation=0, first=first)


def live(records: int, first: int = 0) -> Publisher:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(id=np.arange(first, first + records))
    return publisher


def mixed(streams: tuple[str, str], *sizes: int, **options: Any) -> MixedLoader:
    sizes = sizes or (48, 16)
    return MixedLoader(
        [StreamLoader(url, batch_size=size) for url, size in zip(streams, sizes, strict=True)], **options
    )


def by_stream(batches: list[MixedBatch]) -> dict[int, list[int]]:
    """The ids of each stream, in the order in which they came."""
    found: dict[int, list[int]] = {}
    for batch in batches:
        for stream, part in batch.parts:
            found.setdefault(stream, []).extend(part["id"].tolist())
    return found


def alone(url: str) -> list[int]:
    """The same of a stream that is read by itself."""
    return [record for batch in StreamLoader(url, batch_size=50) for record in batch["id"].tolist()]


def trained(loader: MixedLoader, batches: int | None = None) -> list[MixedBatch]:
    found = []
    for batch in islice(loader, batches):
        loader.mark_trained(batch)
        found.append(batch)
    return found
