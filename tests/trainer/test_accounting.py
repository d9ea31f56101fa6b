"""Marks move the positions; what is marked counts as trained or skipped, and what is not is read again."""

import pytest
import torch

from protocol.dealing import Dealing
from protocol.messages import Description
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.accounting import Accounting
from trainer.batch import Batch, Block
from trainer.handed_out import HandedOut
from trainer.position import RunPosition

SIZE = 4
START = {0: 10}


@pytest.fixture
def accounting() -> Accounting:
    """Two batches and a half have been copied of one partition, and two were handed out."""
    info = StreamInfo(
        incarnation="i",
        schema=Schema((Field("x", "int64"),)),
        dealing=Dealing(partitions=1, stripe=SIZE),
    )
    description = Description(
        request=0, info=info, log_start=START, log_end={0: 1000}, ended=False, uptime_s=0.0, refused=0, groups=()
    )
    accounting = Accounting(RunPosition(description, start=START, resumed=None), HandedOut(SIZE))
    accounting.handed_out.copy(0, 2 * SIZE + 2)
    accounting.position.ledger.receive(0, 2 * SIZE + 2)
    for number in (1, 2):
        accounting.handed_out.hand(Batch(Block({"x": torch.zeros(SIZE)}, SIZE, START), 0, SIZE, number))
    return accounting


def test_the_position_has_all_that_was_marked_and_the_readers_hear_of_it(accounting: Accounting) -> None:
    accounting.mark_trained(1)
    assert accounting.position.trained == {0: 10 + SIZE}
    assert accounting.board.of((0,)).trained == {0: 10 + SIZE}


def test_the_batch_that_is_skipped_counts_alone_and_those_before_it_as_trained(accounting: Accounting) -> None:
    accounting.mark_skipped(2)
    assert accounting.position.trained == {0: 10 + 2 * SIZE}
    assert accounting.position.totals()["trained"] == accounting.position.totals()["skipped"] == SIZE


def test_each_record_that_has_come_is_somewhere(accounting: Accounting) -> None:
    accounting.mark_trained(1)
    accounting.position.ledger.receive(0, 100)
    assert accounting.in_hand({0: 100}) == ({0: 102}, {0: SIZE})
    accounting.position.ledger.check(accounting.position.trained, *accounting.in_hand({0: 100}))


def test_another_iteration_reads_what_was_not_marked_again(accounting: Accounting) -> None:
    accounting.mark_trained(1)
    assert accounting.begin() == SIZE
    assert accounting.in_hand({}) == ({}, {})
    assert accounting.position.received == SIZE
    accounting.position.ledger.check(accounting.position.trained, {}, {})
