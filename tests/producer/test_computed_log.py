"""A dataset is a log: every life replays the same stream, record for record."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.computed_log import ComputedLog, split_log
from producer.pace import NS_PER_S, Pace
from producer.passes import pass_order
from producer.source import ColumnSource, Indices, Subset, divide
from protocol.chunk import Column, Ragged
from protocol.dealing import Dealing, Positions, Turns
from protocol.errors import BeyondLogEnd, UsageError
from protocol.schema import Field, Schema

ID = Schema((Field("id", "int64"),))


def numbered(count: int) -> ColumnSource:
    return ColumnSource("numbers", ID, {"id": np.arange(count)})


def ids_of(log: ComputedLog, positions: Positions, records: int, sizes: Iterator[int]) -> list[int]:
    """The next records in stream order, read in pieces of the given sizes."""
    found: list[int] = []
    while len(found) < records:
        p = Turns(log.info.dealing, positions).partition
        chunk = log.read(p, positions[p], min(next(sizes), records - len(found)))
        assert (chunk.partition, chunk.offset) == (p, positions[p])
        assert log.info.dealing.stripe_end(chunk.offset) >= chunk.end
        positions[p] = chunk.end
        column = chunk.columns["id"]
        assert isinstance(column, np.ndarray)
        found += column.tolist()
    return found


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def log(self, rate: float, passes: int = 0, count: int = 10, partitions: int = 3, stripe: int = 2) -> ComputedLog:
        pace = Pace(rate, lambda: self.now_s, self.wall_ns)
        return ComputedLog(numbered(count), Dealing(partitions, stripe), passes=passes, pace=pace)

    def wall_ns(self) -> int:
        return int(self.now_s * NS_PER_S)


shapes = {
    "count": st.integers(1, 40),
    "partitions": st.integers(1, 8),
    "stripe": st.integers(1, 16),
    "seed": st.integers(0, 2**32 - 1),
}


@given(**shapes, passes=st.integers(1, 4), data=st.data())
def test_the_stream_is_one_permutation_after_the_other(
    count: int, partitions: int, stripe: int, seed: int, passes: int, data: st.DataObject
) -> None:
    log = ComputedLog(numbered(count), Dealing(partitions, stripe), seed=seed, passes=passes)
    sizes = iter(lambda: data.draw(st.integers(1, 20)), 0)
    stream = ids_of(log, log.log_start(), passes * count, sizes)
    for number in range(passes):
        one_pass = stream[number * count : (number + 1) * count]
        assert one_pass == pass_order(count, seed, number).tolist()
        assert sorted(one_pass) == list(range(count))
    assert log.ended
    assert sum(log.log_end().values()) == passes * count


@given(**shapes, start=st.integers(0, 200), data=st.data())
def test_a_restarted_log_goes_on_from_any_position(
    count: int, partitions: int, stripe: int, seed: int, start: int, data: st.DataObject
) -> None:
    dealing = Dealing(partitions, stripe)
    whole = ids_of(ComputedLog(numbered(count), dealing, seed=seed), dealing.ends(0), start + 50, iter(lambda: 7, 0))
    again = ComputedLog(numbered(count), dealing, seed=seed)
    again.reach(dealing.ends(start))
    sizes = iter(lambda: data.draw(st.integers(1, 20)), 0)
    assert ids_of(again, dealing.ends(start), 50, sizes) == whole[start:]


def test_the_order_of_a_pass_is_drawn_alike_for_ever() -> None:
    assert pass_order(10, 0, 0).tolist() == [4, 8, 3, 5, 6, 2, 9, 1, 0, 7]
    assert pass_order(10, 0, 1).tolist() == [9, 4, 0, 8, 7, 2, 5, 1, 3, 6]
    assert pass_order(10, 7, 0).tolist() == [9, 3, 6, 7, 1, 5, 2, 8, 0, 4]
    assert pass_order(10, 0, 1 << 32).tolist() == [7, 4, 6, 3, 0, 8, 2, 9, 1, 5]


def test_the_incarnation_is_what_it_was() -> None:
    assert ComputedLog(numbered(10), Dealing(2, 4)).info.incarnation == "e8630b4b959b5a8ab52cfde5fa5bb3d6"


def test_the_incarnation_changes_with_all_that_the_content_depends_on() -> None:
    named = Schema(ID.fields, class_names=("a",))
    logs = [
        ComputedLog(numbered(10), Dealing(2, 4)),
        ComputedLog(numbered(11), Dealing(2, 4)),
        ComputedLog(ColumnSource("numbers", ID, {"id": np.arange(10)[::-1]}), Dealing(2, 4)),
        ComputedLog(ColumnSource("numbers", named, {"id": np.arange(10)}), Dealing(2, 4)),
        ComputedLog(divide(numbered(20), {"validation": 10}, 0), Dealing(2, 4)),
        ComputedLog(divide(numbered(20), {"validation": 10}, 1), Dealing(2, 4)),
        ComputedLog(numbered(10), Dealing(4, 4)),
        ComputedLog(numbered(10), Dealing(2, 2)),
        ComputedLog(numbered(10), Dealing(2, 4), seed=1),
        ComputedLog(numbered(10), Dealing(2, 4), shuffle=False),
    ]
    assert len({log.info.incarnation for log in logs}) == len(logs)


def test_passes_rate_and_name_are_no_part_of_the_incarnation() -> None:
    plain = ComputedLog(numbered(10), Dealing(2, 4))
    renamed = ColumnSource("elsewhere", ID, {"id": np.arange(10)})
    other = ComputedLog(renamed, Dealing(2, 4), passes=3, pace=Pace(100))
    assert plain.info.incarnation == other.info.incarnation
    in_order = ComputedLog(numbered(10), Dealing(1, 4), shuffle=False)
    assert ComputedLog(numbered(10), Dealing(1, 4), seed=5, shuffle=False).info.incarnation == in_order.info.incarnation


def test_it_announces_its_splits_and_the_size_of_a_pass() -> None:
    source = Subset(numbered(10), np.arange(8), splits={"test": numbered(3)})
    info = ComputedLog(source, Dealing(2, 4)).info
    assert (info.splits, info.records_per_pass, info.schema, info.source) == ({"test": 3}, 8, ID, "numbers")


def test_a_split_is_complete_at_once_and_in_the_sources_order() -> None:
    log = split_log(numbered(2500))
    assert log.ended
    assert log.log_end() == {0: 2500}
    assert log.info.dealing == Dealing(1, 4096)
    assert ids_of(log, {0: 0}, 2500, iter(lambda: 999, 0)) == list(range(2500))
    assert split_log(numbered(2500), stripe=16).info.dealing.stripe == 16


def test_the_stripe_of_a_ragged_split_follows_the_size_of_its_records() -> None:
    lengths = np.full(20, 50_000, np.uint32)
    column = Ragged(lengths, np.zeros(1_000_000, np.uint8))
    source = ColumnSource("texts", Schema((Field("text", "uint8", (None,)),)), {"text": column})
    assert split_log(source).info.dealing.stripe == 64


def test_the_log_end_advances_with_the_clock_and_stays_at_the_streams_end() -> None:
    clock = Clock()
    log = clock.log(rate=2, passes=1)
    seen = []
    for _ in range(7):
        seen.append((sum(log.log_end().values()), log.ended))
        clock.now_s += 1
    assert seen == [(0, False), (2, False), (4, False), (6, False), (8, False), (10, True), (10, True)]
    assert log.log_end() == {0: 4, 1: 4, 2: 2}


def test_nothing_beyond_the_log_end_is_read() -> None:
    clock = Clock()
    log = clock.log(rate=2, stripe=8)
    with pytest.raises(BeyondLogEnd, match="partition 0 has no offset 0"):
        log.read(0, 0, 8)
    clock.now_s += 1.5
    assert log.read(0, 0, 8).count == 3
    assert log.read(0, 2, 8).count == 1
    with pytest.raises(BeyondLogEnd):
        log.read(0, 3, 8)
    with pytest.raises(BeyondLogEnd):
        log.read(1, 0, 8)


def test_a_reader_that_was_further_finds_the_log_end_where_it_was() -> None:
    clock = Clock()
    log = clock.log(rate=2, passes=100)
    asked = {0: 7, 1: 0, 2: 2}  # partition 0 has the last: offset 6 is record 18
    log.reach(asked)
    assert log.log_end() == log.info.dealing.ends(19)
    clock.now_s += 1
    assert log.log_end() == log.info.dealing.ends(21)
    log.reach({0: 0})
    assert log.log_end() == log.info.dealing.ends(21)
    log.reach({0: 10**9})  # beyond the stream's end: whoever asks is refused, and the others keep their pace
    assert log.log_end() == log.info.dealing.ends(21)
    log.reach(log.info.dealing.ends(1000))
    assert sum(log.log_end().values()) == 1000
    assert log.ended
    last = log.info.dealing.locate(999)
    assert log.read(*last, 1).last_time_ns == clock.wall_ns()  # the stream's end is of now, not of long ago


@given(**shapes, rate=st.sampled_from([0.0, 5.0]), positions=st.lists(st.integers(0, 500), min_size=8, max_size=8))
def test_the_log_end_covers_every_position_that_was_reached(
    count: int, partitions: int, stripe: int, seed: int, rate: float, positions: list[int]
) -> None:
    log = Clock().log(rate, count=count, partitions=partitions, stripe=stripe)
    asked = dict(enumerate(positions[:partitions]))
    log.reach(asked)
    end = log.log_end()
    assert all(end[p] >= offset for p, offset in asked.items())


@given(**shapes, read=st.integers(0, 1000))
def test_an_endless_stream_ends_one_or_two_passes_beyond_what_was_read(
    count: int, partitions: int, stripe: int, seed: int, read: int
) -> None:
    dealing = Dealing(partitions, stripe)
    log = ComputedLog(numbered(count), dealing)
    log.reach(dealing.ends(read))
    ahead = sum(log.log_end().values()) - read
    turns = 2 * partitions * stripe
    assert max(count, turns) <= ahead <= turns + 2 * count
    assert all(log.log_end()[p] > dealing.ends(read)[p] for p in range(partitions))
    assert not log.ended


def test_a_position_that_nobody_can_have_reached_is_refused_and_not_followed_for_ever() -> None:
    clock = Clock()
    log = clock.log(rate=2)
    log.reach({0: 1 << 70})
    assert sum(log.log_end().values()) == 0
    with pytest.raises(BeyondLogEnd):
        log.read(0, 1 << 70, 1)


def test_it_says_when_the_log_end_moves_next() -> None:
    clock = Clock()
    log = clock.log(rate=4, passes=1)
    assert log.log_end() == {0: 0, 1: 0, 2: 0}
    assert log.due_in_s() == 0.25
    clock.now_s += 0.25
    assert log.due_in_s() == 0
    other = threading.Thread(target=log.log_end)
    other.start()
    other.join()
    assert log.due_in_s() == 0  # what another thread was told is no news to this one
    log.log_end()
    assert log.due_in_s() == 0.25
    clock.now_s += 60
    log.log_end()
    assert log.due_in_s() is None
    assert clock.log(rate=0).due_in_s() is None


def test_event_times_are_those_of_the_release() -> None:
    clock = Clock()
    log = clock.log(rate=2, stripe=4)
    clock.now_s += 6
    chunk = log.read(1, 1, 100)  # records 5 to 7
    assert (chunk.first_time_ns, chunk.last_time_ns) == (53 * NS_PER_S, 54 * NS_PER_S)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(-4, 70), st.integers(0, 60))
def test_the_offset_at_a_time_is_the_first_that_is_not_before_it(
    partitions: int, stripe: int, at: int, passed: int
) -> None:
    clock = Clock()
    log = clock.log(rate=4, passes=5, partitions=partitions, stripe=stripe)
    clock.now_s += passed / 4
    time_ns = int((50 + at / 4) * NS_PER_S)
    for p, end in log.log_end().items():
        times = [log.read(p, offset, 1).first_time_ns for offset in range(end)]
        assert times == sorted(times)
        assert log.offset_at(p, time_ns) == next((o for o, each in enumerate(times) if each >= time_ns), end)


def test_without_a_pace_all_offsets_are_of_now() -> None:
    clock = Clock()
    log = clock.log(rate=0, passes=2)
    assert log.offset_at(1, clock.wall_ns() - 1) == 0
    assert log.offset_at(1, clock.wall_ns() + 1) == log.log_end()[1]


def test_readers_in_many_passes_do_not_grow_the_memory() -> None:
    log = ComputedLog(numbered(100), Dealing(2, 10))
    for offset in range(0, 50 * 100, 50):
        log.read(0, offset, 10)
    assert len(log._passes._orders) <= 8


def test_it_can_be_read_from_many_threads() -> None:
    log = ComputedLog(numbered(50), Dealing(4, 8), passes=40)
    expected = ids_of(log, log.log_start(), 2000, iter(lambda: 8, 0))
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(ids_of(log, log.log_start(), 2000, iter(lambda: 5, 0))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


@pytest.mark.parametrize(
    ("settings", "count", "says"), [({"passes": -1}, 3, "passes"), ({"seed": -1}, 3, "seed"), ({}, 0, "empty")]
)
def test_impossible_settings_are_the_users_mistake(settings: dict[str, int], count: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ComputedLog(numbered(count), Dealing(2, 2), **settings)  # type: ignore[arg-type]


def test_a_stripe_is_gathered_at_once_also_across_passes() -> None:
    gathered: list[int] = []

    class Counted(ColumnSource):
        def take(self, indices: Indices) -> dict[str, Column]:
            gathered.append(len(indices))
            return super().take(indices)

    log = ComputedLog(Counted("numbers", ID, {"id": np.arange(100)}), Dealing(2, 64))
    for partition in (0, 1):
        log.read(partition, 0, 1024)
    assert gathered == [64, 64]
