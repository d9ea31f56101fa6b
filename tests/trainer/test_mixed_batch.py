"""A batch of several streams: its columns are those of all of them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from producer.publisher import Publisher
from protocol.schema import Field, Schema
from tests.trainer.mixing import mixed, numbered
from tests.trainer.streams import computed, serving


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    with serving(computed(numbered(900))) as much, serving(computed(numbered(300))) as little:
        yield much, little


def test_the_columns_of_a_batch_are_those_of_its_parts_one_after_the_other(streams: tuple[str, str]) -> None:
    loader = mixed(streams)
    batch = next(iter(loader))
    assert list(batch) == ["id", "payload", "label"]
    assert len(batch) == 3
    assert batch.count == 64
    for name in batch:
        assert torch.equal(batch[name], torch.cat([part.batch[name] for part in batch.parts]))
    assert batch["id"] is batch["id"]
    assert batch.newest_time_ns == max(part.batch.newest_time_ns for part in batch.parts)
    with pytest.raises(KeyError):
        batch["other"]


def test_texts_of_all_streams_are_collated_together() -> None:
    schema = Schema((Field("id", "int64"), Field("text", "uint8", (None,))))
    with Publisher("tcp://127.0.0.1:*", schema=schema) as one, Publisher("tcp://127.0.0.1:*", schema=schema) as other:
        for number in range(4):
            one.send(id=number, text=np.full(number + 1, 7, np.uint8))
            other.send(id=10 + number, text=np.full(9, 8, np.uint8))
        loader = mixed((one.address, other.address), 2, 1)
        batch = next(iter(loader))
        assert batch.parts[1].batch["text"].tolist() == [[8] * 9], "a part may be looked at first"
        assert list(batch) == ["id", "text", "text.lengths"]
        assert batch["text"].tolist() == [[7] + [0] * 8, [7, 7] + [0] * 7, [8] * 9]
        assert batch["text.lengths"].tolist() == [1, 2, 9]
        one.abandon()
        other.abandon()
