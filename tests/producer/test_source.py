"""Sources are read by index, divided by seed, and known by their content."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.source import ColumnSource, Source, Subset, content_digest, divide, divided_indices, held_out_count
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


@given(st.integers(1, 200), st.data(), st.integers(0, 2**32 - 1))
def test_a_division_loses_no_record_and_doubles_none(count: int, data: st.DataObject, seed: int) -> None:
    held_out = data.draw(st.integers(0, count - 1))
    source = divide(numbered(count), held_out, seed)
    held = ids(source.splits()["validation"]) if held_out else []
    assert len(held) == held_out
    assert sorted(ids(source) + held) == list(range(count))


def test_divisions_are_drawn_alike_for_ever() -> None:
    kept, held = divided_indices(20, 6, seed=3)
    assert held.tolist() == [2, 4, 8, 13, 14, 19]
    assert kept.tolist() == [0, 1, 3, 5, 6, 7, 9, 10, 11, 12, 15, 16, 17, 18]
    assert divided_indices(20, 6, seed=4)[1].tolist() != held.tolist()


def test_other_splits_stay_beside_the_validation_split() -> None:
    source = Subset(numbered(10), np.arange(10), splits={"test": numbered(2)})
    assert set(divide(source, 3, 0).splits()) == {"validation", "test"}
    assert divide(source, 0, 0) is source


@pytest.mark.parametrize(("held_out", "count"), [(0, 0), (3, 3), (0.25, 5), (5000.0 / 1000, 5), (0.0, 0), (19, 19)])
def test_a_share_below_one_and_a_number_both_say_how_many(held_out: float, count: int) -> None:
    assert held_out_count(20, held_out) == count


@pytest.mark.parametrize("held_out", [-1, 20, 21, 1.5, 0.99, float("nan")])
def test_what_cannot_be_held_out_is_the_users_mistake(held_out: float) -> None:
    with pytest.raises(UsageError, match="cannot hold out"):
        held_out_count(20, held_out)


def test_a_source_with_a_validation_split_is_not_divided_again() -> None:
    with pytest.raises(UsageError, match="brings a validation split"):
        divide(divide(numbered(10), 2, 0), 2, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_the_users_mistake(seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        divided_indices(10, 2, seed)


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
