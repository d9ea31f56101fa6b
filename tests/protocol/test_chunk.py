import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunk import Chunk, Ragged, from_frames, to_frames
from protocol.errors import MalformedMessage, OversizedMessage
from protocol.schema import Field, Schema
from tests.allocations import at_most
from tests.protocol.drawn_columns import chunks, rows

MUCH = 1 << 20
TEXT = Schema((Field("text", "uint8", (None,)),))
NUMBERS = Schema((Field("id", "int64"), Field("pair", "float32", (2,))))


def ragged(*texts: bytes) -> Ragged:
    return Ragged(np.array([len(text) for text in texts], "<u4"), np.frombuffer(b"".join(texts), np.uint8))


@given(chunks())
def test_columns_come_out_of_their_frames_as_they_went_in(drawn: tuple[Schema, Chunk]) -> None:
    schema, chunk = drawn
    again = from_frames(schema, chunk.count, to_frames(schema, chunk.columns), MUCH)
    assert list(again) == [field.name for field in schema.fields]
    for field in schema.fields:
        column, expected = again[field.name], chunk.columns[field.name]
        values = column.values if isinstance(column, Ragged) else column
        assert rows(column) == rows(expected)
        assert values.dtype == field.numpy_dtype
        assert values.shape[1:] == field.item_shape


@given(chunks(), st.data())
def test_a_part_holds_exactly_its_rows(drawn: tuple[Schema, Chunk], data: st.DataObject) -> None:
    _, chunk = drawn
    start = data.draw(st.integers(0, chunk.count - 1))
    stop = data.draw(st.integers(start + 1, chunk.count))
    part = chunk.part(start, stop)
    assert (part.partition, part.offset, part.end, part.count) == (
        chunk.partition,
        chunk.offset + start,
        chunk.offset + stop,
        stop - start,
    )
    for name, column in chunk.columns.items():
        assert rows(part.columns[name]) == rows(column)[start:stop]
    assert (part.first_time_ns, part.last_time_ns) == (chunk.time_ns(start), chunk.time_ns(stop - 1))


@given(chunks())
def test_the_parts_together_are_the_chunk(drawn: tuple[Schema, Chunk]) -> None:
    _, chunk = drawn
    halves = [chunk.part(0, chunk.count // 2)] if chunk.count > 1 else []
    halves.append(chunk.part(chunk.count // 2, chunk.count))
    assert sum(half.nbytes for half in halves) == chunk.nbytes
    for name, column in chunk.columns.items():
        assert [row for half in halves for row in rows(half.columns[name])] == rows(column)


@given(chunks())
def test_event_times_lie_on_the_line_between_the_first_and_the_last(drawn: tuple[Schema, Chunk]) -> None:
    _, chunk = drawn
    times = [chunk.time_ns(row) for row in range(chunk.count)]
    assert times == sorted(times)
    assert times[0] == chunk.first_time_ns
    assert times[-1] == (chunk.last_time_ns if chunk.count > 1 else chunk.first_time_ns)


def test_a_part_of_a_part_shows_the_same_memory() -> None:
    column = np.arange(10)
    part = Chunk(0, 0, {"id": column}, 0, 0).part(2, 9).part(1, 3)
    assert part.offset == 3
    assert np.shares_memory(np.asarray(part.columns["id"]), column)


def test_frames_are_shown_and_not_copied() -> None:
    raw = bytearray(32)
    columns = from_frames(NUMBERS, 2, [memoryview(raw)[:16], memoryview(raw)[16:]], MUCH)
    raw[0] = 7
    assert np.asarray(columns["id"]).tolist() == [7, 0]


def test_what_lies_otherwise_in_memory_travels_in_little_endian_rows() -> None:
    scattered = np.arange(12, dtype=">f4").reshape(2, 6).T[::3]
    frames = to_frames(NUMBERS, {"id": np.array([1, 2], ">i8"), "pair": scattered})
    assert bytes(frames[0]) == b"\x01" + bytes(7) + b"\x02" + bytes(7)
    assert bytes(frames[1]) == np.array([[0, 6], [3, 9]], "<f4").tobytes()


def test_a_ragged_field_travels_as_lengths_and_values() -> None:
    frames = to_frames(TEXT, {"text": ragged(b"ab", b"", b"cde")})
    assert [bytes(frame) for frame in frames] == [b"\2\0\0\0\0\0\0\0\3\0\0\0", b"abcde"]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [bytes(16)],
        [bytes(16), bytes(16), b""],
        [bytes(15), bytes(16)],
        [bytes(16), bytes(17)],
        [bytes(24), bytes(24)],
    ],
    ids=["none", "one too few", "one too many", "a byte too few", "a byte too many", "another count"],
)
def test_frames_of_another_number_or_size_are_malformed(frames: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        from_frames(NUMBERS, 2, frames, MUCH)


@pytest.mark.parametrize(
    ("lengths", "values"),
    [([2], b"ab"), ([2, 1], b"ab"), ([2, 0], b"abc"), ([0xFFFFFFFF, 3], b"ab"), ([0xFFFFFFFF] * 2, b"")],
)
def test_lengths_that_do_not_fit_their_values_are_malformed(lengths: list[int], values: bytes) -> None:
    with pytest.raises(MalformedMessage, match="text"):
        from_frames(TEXT, 2, [np.array(lengths, "<u4").tobytes(), values], MUCH)


def test_more_bytes_than_allowed_are_refused_before_anything_is_made_of_them() -> None:
    frames = [memoryview(bytes(1 << 20)), memoryview(bytes(1 << 20))]
    with at_most(1 << 17), pytest.raises(OversizedMessage, match="2097152 bytes, over the 2097151"):
        from_frames(NUMBERS, 1 << 17, frames, (2 << 20) - 1)


def test_lengths_that_promise_much_allocate_nothing() -> None:
    count = 1000
    lengths = np.full(count, 0xFFFFFFFF, "<u4").tobytes()
    with at_most(1 << 17), pytest.raises(MalformedMessage):
        from_frames(TEXT, count, [lengths, b"x"], MUCH)


def test_a_bool_is_0_or_1() -> None:
    flags = Schema((Field("flag", "bool"),))
    assert np.asarray(from_frames(flags, 2, [b"\0\1"], MUCH)["flag"]).tolist() == [False, True]
    with pytest.raises(MalformedMessage, match="flag"):
        from_frames(flags, 2, [b"\0\2"], MUCH)
