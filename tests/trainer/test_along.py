"""Streams that get partitions while somebody reads them along who keeps no positions."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from protocol.chunk import Chunk
from protocol.errors import StreamError
from protocol.messages import STREAM
from protocol.subscription import Subscription
from tests.protocol.topic import Topic
from tests.trainer.arriving import TopicReading, dataset_of
from trainer.along import Along

Sample = dict[str, torch.Tensor]


@pytest.fixture
def topic(tmp_path: Path) -> Topic:
    """Two partitions of ten records."""
    topic = Topic(tmp_path, 2)
    topic.write(0, range(10))
    topic.write(1, range(10, 20))
    return topic


def grow(topic: Topic) -> None:
    """It gets two more, the first of which has forgotten some already; then it ends."""
    topic.forget(2, 5)  # before anybody can see the partition
    topic.add(2)
    topic.write(2, range(20, 40))
    topic.write(3, range(40, 50))
    topic.write(0, range(50, 60))
    topic.end()


ALL = [*range(20), *range(25, 60)]


def test_a_data_set_goes_on_with_what_is_added(topic: Topic) -> None:
    samples = iter(dataset_of(topic.folder))
    found = [int(sample["id"]) for sample in islice(samples, 12)]
    grow(topic)
    found += [int(sample["id"]) for sample in samples]
    assert sorted(found) == ALL


def test_whoever_waits_to_hear_of_it_is_given_signs_of_life_and_what_is_added_begins_with_its_first_record(
    topic: Topic,
) -> None:
    reading = TopicReading(url=str(topic.folder))
    with reading.open() as reader:
        said = reader.describe()
        events = Along(reading, reader, said, Subscription(split=STREAM, positions=said.log_end)).events()
        topic.tell(0)
        grow(topic)
        while next(events):
            continue
        topic.tell(None)
        chunks = [event for together in events for event in together if isinstance(event, Chunk)]
    assert sorted(record for chunk in chunks for record in np.asarray(chunk.columns["id"])) == [*range(25, 60)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_each_worker_reads_its_share_of_what_is_added(topic: Topic) -> None:
    loader: DataLoader[Sample] = DataLoader(dataset_of(topic.folder), batch_size=5, num_workers=2)
    batches = iter(loader)
    found = next(batches)["id"].tolist()
    grow(topic)
    found += [record for batch in batches for record in batch["id"].tolist()]
    assert sorted(found) == ALL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_where_a_worker_without_a_share_has_ended_what_is_added_is_an_error(topic: Topic) -> None:
    loader: DataLoader[Sample] = DataLoader(dataset_of(topic.folder), batch_size=5, num_workers=3)
    batches = iter(loader)
    next(batches)
    grow(topic)
    with pytest.raises(StreamError, match=r"and had 2, fewer than the 3 workers .* with 2 workers"):
        list(batches)
