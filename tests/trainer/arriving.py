"""A loader, and a data set, of a stream that many write (tests/protocol/topic.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protocol.reader import Reader
from tests.protocol.topic import TopicReader
from trainer.dataset import StreamDataset
from trainer.loader import StreamLoader
from trainer.reading import Reading


@dataclass(frozen=True, kw_only=True)
class TopicReading(Reading):
    """How a loader reads such a folder."""

    @property
    def open(self) -> Callable[[], Reader]:
        return partial(TopicReader, Path(self.url))


def loader_of(folder: Path, **options: object) -> StreamLoader:
    """A loader that reads such a folder."""
    loader = StreamLoader(f"file://{folder}", **{"batch_size": 5, **options})  # type: ignore[arg-type]
    loader.reading = TopicReading(url=str(folder))
    return loader


def dataset_of(folder: Path, **options: object) -> StreamDataset:
    """A data set that reads such a folder."""
    dataset = StreamDataset(f"file://{folder}", **options)  # type: ignore[arg-type]
    dataset._reading = TopicReading(url=str(folder))
    return dataset
