"""The merge gives records in stream order, whatever the readers, the chunks and the slots; or as they come."""

import random
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions, Turns
from protocol.errors import LedgerUnbalanced, Lost
from protocol.subscription import Absent
from trainer.arrivals import Arrivals
from trainer.merge import Merge

DEALT = Dealing(2, 8)


def chunk_of(dealing: Dealing, partition: int, offset: int, count: int) -> Chunk:
    """A chunk whose records are their numbers in the stream."""
    numbers = np.array([dealing.record(partition, offset + row) for row in range(count)])
    return Chunk(partition, offset, {"number": numbers}, 0, 0)


def chunks_of(dealing: Dealing, owned: range, start: Positions, end: Positions, cuts: list[int]) -> deque[Chunk]:
    """What a reader of these partitions hands over: their stripes in stream order, cut at will."""
    positions = {partition: start[partition] for partition in owned}
    chunks: deque[Chunk] = deque()
    while positions:
        partition = Turns(dealing, positions).partition
        offset = positions[partition]
        count = min(dealing.stripe_end(offset), end[partition]) - offset
        if count == 0:
            break
        cut = min(count, cuts[len(chunks) % len(cuts)])
        chunks.append(chunk_of(dealing, partition, offset, cut))
        positions[partition] += cut
    return chunks


@settings(max_examples=150)
@given(data=st.data())
def test_the_order_is_the_dealings_from_every_start_with_any_readers_and_few_slots(data: st.DataObject) -> None:
    dealing = Dealing(data.draw(st.integers(1, 11), "partitions"), data.draw(st.integers(1, 9), "stripe"))
    first = data.draw(st.integers(0, 200), "first")
    last = first + data.draw(st.integers(0, 120), "records")
    readers = data.draw(st.integers(1, 8), "readers")
    slots = data.draw(st.integers(1, 3), "slots")
    cuts = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5), "cuts")
    quick = data.draw(st.randoms(use_true_random=False))
    start, end = dealing.ends(first), dealing.ends(last)
    owned = [dealing.owned(reader, readers) for reader in range(min(readers, dealing.partitions))]
    coming = [chunks_of(dealing, partitions, start, end, cuts) for partitions in owned]
    free = [slots] * len(owned)
    merge = Merge(Turns(dealing, start))
    found: list[int] = []

    def give(reader: int) -> None:
        free[reader] += 1

    while len(found) < last - first:
        ready = [reader for reader, chunks in enumerate(coming) if chunks and free[reader]]
        if ready and quick.random() < 0.6:
            reader = quick.choice(ready)
            free[reader] -= 1
            merge.add(coming[reader].popleft(), lambda reader=reader: give(reader))  # type: ignore[misc]
            continue
        piece = merge.take(quick.randint(1, 10))
        if piece is None:
            assert ready, "every slot is full and nothing can be taken"
            continue
        found += piece.chunk.columns["number"][piece.start : piece.stop].tolist()  # type: ignore[union-attr]
        if piece.release is not None:
            piece.release()
    assert found == list(range(first, last))
    assert merge.positions == end
    assert merge.take(1) is None
    assert free == [slots] * len(owned)


def test_what_is_buffered_is_counted_and_can_be_thrown_away() -> None:
    dealing = Dealing(2, 4)
    merge = Merge(Turns(dealing, {0: 0, 1: 0}))
    freed: list[int] = []
    merge.add(chunk_of(dealing, 0, 0, 4), lambda: freed.append(0))
    merge.add(chunk_of(dealing, 1, 0, 3), lambda: freed.append(1))
    piece = merge.take(3)
    assert piece is not None
    assert piece.release is None
    assert merge.buffered() == {0: 1, 1: 3}
    assert merge.clear() == {0: 1, 1: 3}
    assert sorted(freed) == [0, 1]
    assert merge.buffered() == {0: 0, 1: 0}
    assert merge.take(1) is None


@pytest.mark.parametrize("offset", [0, 2, 5])
def test_a_gap_or_a_repetition_is_never_handed_out(offset: int) -> None:
    dealing = Dealing(1, 4)
    merge = Merge(Turns(dealing, {0: 3}))
    merge.add(chunk_of(dealing, 0, offset, 1))
    with pytest.raises(LedgerUnbalanced, match=f"partition 0 is at 3, but offset {offset} was handed over"):
        merge.take(1)


@given(data=st.data())
def test_what_is_lost_is_passed_over_in_its_turn(data: st.DataObject) -> None:
    dealing = Dealing(data.draw(st.integers(1, 5), "partitions"), data.draw(st.integers(1, 6), "stripe"))
    end = dealing.ends(data.draw(st.integers(1, 100), "records"))
    merge = Merge(Turns(dealing, dealing.ends(0)))
    kept: list[int] = []
    for partition, last in end.items():
        cuts = sorted({0, last, *data.draw(st.lists(st.integers(0, last), max_size=4), "cuts")})
        for start, stop in pairwise(cuts):
            if data.draw(st.booleans(), "lost"):
                merge.add_hole(Lost(partition, start, stop))
                continue
            kept += [dealing.record(partition, offset) for offset in range(start, stop)]
            for first in range(start, stop):
                merge.add(chunk_of(dealing, partition, first, 1))
    assert merge.received() == end
    found: list[int] = []
    lost = 0
    while merge.waiting:
        if (gone := merge.pass_over()) is not None:
            lost += gone.records
        else:
            piece = merge.take(1)
            assert piece is not None
            found += piece.chunk.columns["number"].tolist()  # type: ignore[union-attr]
    assert found == sorted(kept)
    assert len(kept) + lost == sum(end.values())
    assert merge.positions == end


def test_a_loss_that_does_not_begin_where_a_partition_stands_is_never_passed_over() -> None:
    merge = Merge(Turns(Dealing(1, 4), {0: 3}))
    merge.add_hole(Lost(0, 2, 5))
    with pytest.raises(LedgerUnbalanced, match="partition 0 is at 3, but partition 0 lost 3 records: offsets 2 to 4"):
        merge.pass_over()


# --- order of arrival -------------------------------------------------------------------------------------------------

pieces = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9), st.sampled_from(["chunk", "lost", "absent"])))


@given(pieces, st.randoms(use_true_random=False), st.integers(1, 5))
def test_what_came_first_goes_first_and_those_of_a_partition_by_offset(
    coming: list[tuple[int, int, str]], drawn: random.Random, known: int
) -> None:
    """Chunks and holes of any length come while rows are taken; a partition is added when its first record comes."""
    merge = Merge(Arrivals({partition: 10 * partition for partition in range(known)}))
    reached = dict(merge.positions)
    arrived: list[tuple[int, int]] = []
    found: list[tuple[int, int]] = []

    def take() -> None:
        if (hole := merge.pass_over()) is not None:
            found.extend((hole.partition, offset) for offset in range(hole.first, hole.end))
        elif (piece := merge.take(drawn.randint(1, 4))) is not None:
            found.extend((piece.chunk.partition, offset) for offset in range(piece.end - piece.count, piece.end))

    for partition, count, kind in coming:
        if partition not in reached:
            merge.grow({partition: 7})
            reached[partition] = 7
        first, end = reached[partition], reached[partition] + count
        match kind:
            case "chunk":
                merge.add(Chunk(partition, first, {"x": np.zeros(count)}, 0, 0))
            case "lost":
                merge.add_hole(Lost(partition, first, end))
            case _:
                merge.add_hole(Absent(partition, first, end))
        arrived += [(partition, offset) for offset in range(first, end)]
        reached[partition] = end
        assert merge.received() == reached
        assert merge.waiting > 0
        while drawn.random() < 0.4:
            take()
        assert found == arrived[: len(found)]
    while merge.waiting:
        take()
    assert found == arrived
    assert merge.positions == reached
    assert merge.take(1) is None
    assert merge.pass_over() is None


def test_what_was_thrown_away_comes_again_in_any_order() -> None:
    merge = Merge(Arrivals({0: 0, 1: 0}))
    merge.add(chunk_of(DEALT, 1, 0, 3))
    merge.add(chunk_of(DEALT, 0, 0, 3))
    assert merge.take(2) is not None
    assert merge.clear() == {0: 3, 1: 1}
    assert merge.waiting == 0
    merge.add(chunk_of(DEALT, 0, 0, 3))
    merge.add(chunk_of(DEALT, 1, 2, 1))
    taken = [merge.take(5), merge.take(5)]
    assert [(piece.chunk.partition, piece.end) for piece in taken if piece is not None] == [(0, 3), (1, 3)]


@pytest.mark.parametrize("offset", [0, 2, 5])
def test_a_gap_or_a_repetition_is_never_handed_out_in_order_of_arrival_either(offset: int) -> None:
    merge = Merge(Arrivals({0: 3}))
    merge.add(chunk_of(DEALT, 0, offset, 1))
    with pytest.raises(LedgerUnbalanced, match=f"partition 0 is at 3, but offset {offset} was handed over"):
        merge.take(1)
