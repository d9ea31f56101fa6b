import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dealing import MAX_PARTITIONS, MAX_STRIPE, Dealing, Positions, Turns, distance, stripe_for

dealings = st.builds(Dealing, st.integers(1, 9), st.integers(1, 16))
records = st.integers(0, 500)


@given(dealings, st.integers(0, 1 << 60))
def test_a_record_is_found_where_it_was_dealt(dealing: Dealing, record: int) -> None:
    partition, offset = dealing.locate(record)
    assert 0 <= partition < dealing.partitions
    assert dealing.record(partition, offset) == record


@given(dealings, st.integers(0, 8), st.integers(0, 1 << 40))
def test_every_offset_belongs_to_one_record(dealing: Dealing, partition: int, offset: int) -> None:
    partition %= dealing.partitions
    assert dealing.locate(dealing.record(partition, offset)) == (partition, offset)


@given(dealings, records)
def test_the_ends_count_what_was_dealt_to_each_partition(dealing: Dealing, dealt: int) -> None:
    counted = dict.fromkeys(range(dealing.partitions), 0)
    for record in range(dealt):
        partition, offset = dealing.locate(record)
        assert offset == counted[partition]
        counted[partition] += 1
    assert dealing.ends(dealt) == counted


@given(dealings, records, st.integers(0, 200))
def test_the_order_of_positions_is_the_order_of_records(dealing: Dealing, first: int, count: int) -> None:
    positions = dealing.ends(first)
    for record in range(first, first + count):
        partition = Turns(dealing, positions).partition
        assert dealing.locate(record) == (partition, positions[partition])
        positions[partition] += 1


@given(dealings, records, records)
def test_advancing_all_partitions_deals_so_many_more(dealing: Dealing, first: int, count: int) -> None:
    assert dealing.advance(dealing.ends(first), count) == dealing.ends(first + count)


@st.composite
def some_positions(draw: st.DrawFn) -> tuple[Dealing, Positions]:
    """Any positions of any of the partitions: a reader owns some, and each may stand anywhere."""
    dealing = draw(dealings)
    owned = draw(st.sets(st.integers(0, dealing.partitions - 1), min_size=1))
    return dealing, {partition: draw(st.integers(0, 100)) for partition in sorted(owned)}


@given(some_positions(), st.integers(0, 150))
def test_advancing_takes_one_record_after_the_other(start: tuple[Dealing, Positions], count: int) -> None:
    dealing, positions = start
    one_by_one = dict(positions)
    for _ in range(count):
        one_by_one[min(one_by_one, key=lambda p: dealing.record(p, one_by_one[p]))] += 1
    assert dealing.advance(positions, count) == one_by_one
    assert distance(positions, one_by_one) == count


@given(some_positions(), st.integers(0, 80), st.integers(0, 80))
def test_credit_never_shrinks_as_records_are_taken(start: tuple[Dealing, Positions], taken: int, window: int) -> None:
    dealing, positions = start
    before = dealing.advance(positions, window)
    after = dealing.advance(dealing.advance(positions, taken), window)
    assert all(after[partition] >= offset for partition, offset in before.items())


@given(dealings, st.integers(0, 1 << 40))
def test_a_stripe_ends_where_the_next_record_lies_in_another_block(dealing: Dealing, offset: int) -> None:
    end = dealing.stripe_end(offset)
    assert offset < end <= offset + dealing.stripe
    blocks = {dealing.record(0, inside) // dealing.stripe for inside in (offset, end - 1)}
    assert len(blocks) == 1
    assert dealing.record(0, end) // dealing.stripe not in blocks


@pytest.mark.parametrize("readers", range(1, 9))
@pytest.mark.parametrize("partitions", range(1, 20))
def test_the_readers_share_the_partitions_out_among_themselves(partitions: int, readers: int) -> None:
    shares = [set(Dealing(partitions, 4).owned(reader, readers)) for reader in range(readers)]
    assert set().union(*shares) == set(range(partitions))
    assert sum(map(len, shares)) == partitions
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("record_bytes", "stripe"),
    [(0, 4096), (1, 4096), (800, 4096), (1024, 4096), (1025, 2048), (3 * 1024, 1024), (4 << 20, 1), (1 << 30, 1)],
)
def test_a_stripe_is_the_power_of_two_nearest_under_four_mebibytes(record_bytes: int, stripe: int) -> None:
    assert stripe_for(record_bytes) == stripe


@pytest.mark.parametrize(
    ("partitions", "stripe"), [(0, 1), (-1, 1), (MAX_PARTITIONS + 1, 1), (1, 0), (1, MAX_STRIPE + 1)]
)
def test_an_impossible_dealing_is_refused(partitions: int, stripe: int) -> None:
    with pytest.raises(ValueError, match=r"a (stream|stripe) has"):
        Dealing(partitions, stripe)


def test_a_distance_may_be_that_of_some_partitions_alone() -> None:
    assert distance({0: 3, 1: 5}, {0: 4, 1: 15}) == 11
    assert distance({0: 3, 1: 5}, {0: 4, 1: 15}, [0]) == 1


def test_a_partition_whose_next_records_will_never_come_waits_for_its_turn_behind_them() -> None:
    turns = Turns(Dealing(2, 4), {0: 0, 1: 0})
    turns.skip(0, 9)
    order = []
    for _ in range(5):
        order.append((turns.partition, turns.positions[turns.partition]))
        turns.move(turns.turn_end - turns.positions[turns.partition])
    assert order == [(1, 0), (1, 4), (0, 9), (1, 8), (0, 12)]
