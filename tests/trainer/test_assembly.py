"""Batches are cut from blocks, and whether a block was copied or is a chunk's own memory makes no difference."""

from itertools import cycle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chunk import Chunk, Column
from protocol.dealing import Dealing, Turns
from protocol.schema import Field, Schema
from trainer.assembly import Assembly
from trainer.batch import Batch
from trainer.merge import Merge

#: 64 KiB a record: a block has room for 16.
SCHEMA = Schema((Field("number", "int64"), Field("x", "uint8", (1 << 16,))))


def chunk(dealing: Dealing, partition: int, offset: int, count: int) -> Chunk:
    numbers = np.array([dealing.record(partition, offset + row) for row in range(count)])
    return Chunk(
        partition, offset, {"number": numbers, "x": np.full((count, 1 << 16), partition, np.uint8)}, 0, count - 1
    )


def assembled(dealing: Dealing, first: int, last: int, sizes: list[int], assembly: Assembly) -> list[Batch]:
    """The batches of the records `first` to `last` - 1, which come in chunks of these sizes."""
    merge, turns = Merge(Turns(dealing, dealing.ends(first))), Turns(dealing, dealing.ends(first))
    batches: list[Batch] = []
    left = last - first
    for size in cycle(sizes):
        offset = turns.positions[turns.partition]
        count = min(size, turns.turn_end - offset, left)
        if count:
            merge.add(chunk(dealing, turns.partition, offset, count))
            turns.move(count)
            left -= count
        while (waiting := merge.waiting) and (room := assembly.room(waiting)):
            piece = merge.take(room)
            assert piece is not None
            assembly.add(piece, merge.positions)
        batches += assembly.batches(len(batches) + 1)
        if not left and not merge.waiting:
            return [*batches, *assembly.rest(len(batches) + 1)]
    raise AssertionError("cycle has no end")


@settings(max_examples=60)
@given(
    dealing=st.builds(Dealing, st.integers(1, 3), st.sampled_from([4, 16, 32])),
    batch_size=st.sampled_from([1, 2, 3, 4, 8, 16, 20]),
    first=st.integers(0, 40),
    records=st.integers(0, 90),
    sizes=st.lists(st.integers(1, 32), min_size=1, max_size=4),
    owned=st.booleans(),
)
def test_every_row_is_in_its_place_however_it_came(
    *, dealing: Dealing, batch_size: int, first: int, records: int, sizes: list[int], owned: bool
) -> None:
    assembly = Assembly(SCHEMA, batch_size, owned=owned)
    batches = assembled(dealing, first, first + records, sizes, assembly)
    assert [number for batch in batches for number in batch["number"].tolist()] == list(range(first, first + records))
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    assert [batch.count for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    at = first
    for batch in batches:
        at += batch.count
        assert batch.positions == dealing.ends(at)
        named = [
            dealing.record(partition, offset + row) for partition, offset, count in batch.spans for row in range(count)
        ]
        assert named == batch["number"].tolist()
        assert batch["x"][:, 0].tolist() == [dealing.locate(number)[0] for number in named]


@pytest.mark.parametrize(("owned", "copied"), [(True, False), (False, True)])
def test_a_chunk_of_whole_batches_that_nobody_else_has_is_not_copied(*, owned: bool, copied: bool) -> None:
    dealing = Dealing(1, 16)
    assembly = Assembly(SCHEMA, 4, owned=owned)
    whole, merge = chunk(dealing, 0, 0, 16), Merge(Turns(dealing, {0: 0}))
    merge.add(whole)
    piece = merge.take(assembly.room(merge.waiting))
    assert piece is not None
    assembly.add(piece, merge.positions)
    (batch, *_) = assembly.batches(1)
    pixels = whole.columns["x"]
    assert isinstance(pixels, np.ndarray)
    assert (batch["x"].data_ptr() != pixels.ctypes.data) is copied


def test_a_column_that_torch_could_not_read_where_it_lies_is_copied() -> None:
    dealing, crooked = Dealing(1, 16), np.zeros(16 * 8 + 1, np.uint8)[1:].view(np.int64)
    crooked[:] = np.arange(16)
    columns: dict[str, Column] = {"number": crooked, "x": np.zeros((16, 1 << 16), np.uint8)}
    assembly, merge = Assembly(SCHEMA, 4, owned=True), Merge(Turns(dealing, {0: 0}))
    merge.add(Chunk(0, 0, columns, 0, 0))
    piece = merge.take(assembly.room(merge.waiting))
    assert piece is not None
    assembly.add(piece, merge.positions)
    batches = list(assembly.batches(1))
    assert torch.cat([batch["number"] for batch in batches]).tolist() == list(range(16))
    assert batches[0]["number"].data_ptr() % 8 == 0
