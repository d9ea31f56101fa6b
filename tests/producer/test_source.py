"""Sources are read by index, divided by seed, and known by their content."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.source import ColumnSource, Source, Subset, content_digest, divide, divided_indices, split_counts
from protocol.chunk import Ragged
from protocol.errors import UsageError
from protocol.schema import Field, Schema

TEXT = Schema((Field("id", "int64"), Field("text", "uint8", (None,))))


def numbered(count: int) -> ColumnSource:
    return ColumnSource("numbers", Schema((Field("id", "int64"),)), {"id": np.arange(count)})


def texts(*values: bytes) -> ColumnSource:
    lengths = np.array([len(value) for value in values], np.uint32)
    ragged = Ragged(lengths, np.frombuffer(b"".join(values), np.uint8))
    return ColumnSource("texts", TEXT, {"id": np.arange(len(values)), "text": ragged})


def ids(source: Source) -> list[int]:
    column = source.take(np.arange(len(source)))["id"]
    assert isinstance(column, np.ndarray)
    return list(column.tolist())


def test_taken_records_come_in_the_order_that_was_asked_and_are_the_callers_own() -> None:
    source = numbered(5)
    taken = source.take(np.array([4, 0, 4]))["id"]
    assert isinstance(taken, np.ndarray)
    assert taken.tolist() == [4, 0, 4]
    taken[:] = 7
    assert ids(source) == [0, 1, 2, 3, 4]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=12), st.data())
def test_ragged_records_are_gathered_whole(values: list[bytes], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=15))
    column = texts(*values).take(np.array(asked, np.int64))["text"]
    assert isinstance(column, Ragged)
    assert [column[row : row + 1].values.tobytes() for row in range(len(asked))] == [values[index] for index in asked]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"id": np.arange(3)}, "text"),
        ({"id": np.arange(2), "text": Ragged(np.zeros(3, np.uint32), np.empty(0, np.uint8))}, "length"),
        ({"id": np.arange(3), "text": np.empty((3, 2), np.uint8)}, "text"),
        ({"id": np.arange(3, dtype=np.int32), "text": Ragged(np.zeros(3, np.uint32), np.empty(0, np.uint8))}, "int32"),
    ],
)
def test_columns_that_are_not_what_the_schema_says_are_refused(columns: dict[str, np.ndarray], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ColumnSource("wrong", TEXT, columns)


def test_a_subset_of_a_subset_reads_through_both() -> None:
    inner = Subset(numbered(10), np.array([9, 7, 5, 3]))
    assert ids(Subset(inner, np.array([2, 0]))) == [5, 9]


@pytest.mark.parametrize("indices", [[-1], [3], [[0]]])
def test_a_subset_lies_inside_its_source(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="0 to 2"):
        Subset(numbered(3), np.array(indices))


@given(st.integers(3, 200), st.data(), st.integers(0, 2**32 - 1))
def test_a_division_loses_no_record_and_doubles_none(count: int, data: st.DataObject, seed: int) -> None:
    first = data.draw(st.integers(1, count - 2))
    sizes = {"first": first, "second": data.draw(st.integers(1, count - first - 1))}
    source = divide(numbered(count), sizes, seed)
    held = {name: ids(split) for name, split in source.splits().items()}
    assert {name: len(each) for name, each in held.items()} == sizes
    assert sorted(ids(source) + held["first"] + held["second"]) == list(range(count))


def test_divisions_are_drawn_alike_for_ever() -> None:
    kept, held = divided_indices(20, [6], seed=3)
    assert held.tolist() == [2, 4, 8, 13, 14, 19]
    assert kept.tolist() == [0, 1, 3, 5, 6, 7, 9, 10, 11, 12, 15, 16, 17, 18]
    assert divided_indices(20, [6], seed=4)[1].tolist() != held.tolist()


def test_a_split_has_the_same_records_whatever_is_named_after_it() -> None:
    alone, among = (divide(numbered(20), sizes, 3).splits() for sizes in ({"a": 6}, {"a": 0.3, "b": 0.2, "c": 1}))
    assert ids(among["a"]) == ids(alone["a"]) == [2, 4, 8, 13, 14, 19]
    assert [len(split) for split in among.values()] == [6, 4, 1]


def test_other_splits_stay_beside_those_that_are_drawn() -> None:
    source = Subset(numbered(10), np.arange(10), splits={"test": numbered(2)})
    assert set(divide(source, {"validation": 3}, 0).splits()) == {"validation", "test"}
    assert divide(source, {}, 0) is source


@pytest.mark.parametrize(("size", "count"), [(3, 3), (0.25, 5), (5000.0 / 1000, 5), (19, 19), (0.03, 1)])
def test_a_share_below_one_and_a_number_both_say_how_many(size: float, count: int) -> None:
    assert split_counts(20, {"validation": size}) == {"validation": count}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"dark": -1}, "cannot hold out -1 records as the split 'dark': give a number of records or a share"),
        ({"dark": 1.5}, "cannot hold out 1.5 records as the split 'dark': give"),
        ({"dark": float("nan")}, "cannot hold out nan records as the split 'dark': give"),
        ({"dark": 0}, "the split 'dark' would hold none of 20 records: give it more, or leave it out"),
        ({"dark": 0.01}, "the split 'dark' would hold none of 20 records"),
        ({"dark": 20}, "cannot hold out 20 of 20 records: nothing would be left to train on"),
        ({"dark": 0.5, "light": 0.5}, "cannot hold out 20 of 20 records: nothing would be left"),
        ({"dark": 12, "light": 12}, "cannot hold out 24 of 20 records"),
        ({"dark room": 3}, "a split cannot be called 'dark room': give a name of letters, digits and _"),
        ({"": 3}, "a split cannot be called ''"),
        ({"../x": 3}, "a split cannot be called '../x'"),
        ({"é": 3}, "a split cannot be called 'é'"),
        ({"a" * 65: 3}, "a split cannot be called 'aaa"),
    ],
)
def test_what_cannot_be_held_out_is_the_users_mistake(sizes: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        divide(numbered(20), sizes, 0)


def test_a_split_of_the_sources_own_is_not_drawn_again() -> None:
    source = divide(numbered(10), {"validation": 2}, 0)
    with pytest.raises(UsageError, match=r"numbers brings a split 'validation' of its own: .*--source.validation"):
        divide(source, {"dark": 2, "validation": 2}, 0)
    assert [len(split) for split in divide(source, {"dark": 2}, 0).splits().values()] == [2, 2]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_the_users_mistake(seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        divided_indices(10, [2], seed)


def test_the_fingerprint_tells_contents_apart_and_nothing_else() -> None:
    assert numbered(5).fingerprint() == numbered(5).fingerprint()
    assert texts(b"ab", b"c").fingerprint() == texts(b"ab", b"c").fingerprint()
    different = [
        numbered(5),
        numbered(6),
        texts(b"ab", b"c"),
        texts(b"a", b"bc"),
        Subset(numbered(6), np.arange(5)),
        Subset(numbered(6), np.arange(5)[::-1]),
        Subset(numbered(7), np.arange(5)),
    ]
    assert len({source.fingerprint() for source in different}) == len(different)


def test_digests_stay_what_they_are_and_frame_their_parts() -> None:
    assert content_digest("a", 1, b"c", np.array([1, 2], np.int64)) == "a00fb4ed4ed9e215d67c88da8058b909"
    assert content_digest("ab") != content_digest("a", "b")
    assert content_digest("1") != content_digest(1)
    big_endian = np.array([1, 2], ">i8")
    assert content_digest(big_endian) == content_digest(big_endian.astype("<i8"))
    assert content_digest(big_endian) != content_digest(big_endian.reshape(2, 1))
