"""A batch is a part of a block: it shows its own rows and knows where they come from."""

import pytest
import torch

from protocol.dealing import Dealing
from trainer.batch import Batch, Block
from trainer.origin import Span

DEALING = Dealing(2, 4)


def block() -> Block:
    """Nine records from number 2 on, in stripes of 4 over two partitions: 2 of partition 0, 4 of 1, 3 of 0."""
    made = Block({"number": torch.arange(2, 11), "x": torch.zeros(9, 2)}, 3, DEALING.ends(2))
    made.add(0, Span(0, 2, 2, 100, 200))
    made.add(2, Span(1, 0, 4, 300, 600))
    made.add(6, Span(0, 4, 3, 500, 550))
    return made


def test_it_shows_its_own_rows_by_name() -> None:
    batch = Batch(block(), 1, 3, 7)
    assert batch["number"].tolist() == [5, 6, 7]
    assert list(batch) == ["number", "x"]
    assert len(batch) == 2
    assert {name: list(column.shape) for name, column in batch.items()} == {"number": [3], "x": [3, 2]}
    assert batch["number"] is batch["number"]
    with pytest.raises(KeyError):
        batch["label"]


def test_a_last_one_is_as_long_as_there_are_rows() -> None:
    assert Batch(block(), 2, 2, 9)["number"].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("index", "spans", "newest_ns"),
    [(0, ((0, 2, 2), (1, 0, 1)), 300), (1, ((1, 1, 3),), 600), (2, ((0, 4, 3),), 550)],
)
def test_it_says_where_its_records_come_from(index: int, spans: tuple[object, ...], newest_ns: int) -> None:
    batch = Batch(block(), index, 3, index + 1)
    assert batch.spans == spans
    assert batch.positions == DEALING.ends(2 + 3 * (index + 1))
    assert batch.newest_time_ns == newest_ns


def test_the_newest_record_need_not_be_the_last() -> None:
    made = Block({"number": torch.arange(4)}, 4, DEALING.ends(0))
    made.add(0, Span(0, 0, 2, 10, 900))
    made.add(2, Span(0, 2, 2, 20, 40))
    assert Batch(made, 0, 4, 1).newest_time_ns == 900
