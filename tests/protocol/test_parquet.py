"""A recording that went through Parquet is the same, and what other programs write comes in."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.__main__ import main
from protocol.chunk import Chunk, Ragged
from protocol.dealing import Dealing, Positions, Turns
from protocol.errors import UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from tests.protocol.drawn_columns import columns, rows, schemas

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow.parquet as pq  # noqa: E402  (after it was looked for)

from protocol.parquet import ParquetSettings, from_parquet, straight, to_parquet  # noqa: E402


def record(path: Path, info: StreamInfo, split: str, chunks: Sequence[Chunk], *, first: int = 0, ended: bool) -> None:
    with LogFolder(path, write=True) as folder:
        folder.create(split, info)
        log, start = StoredLog(folder, split), info.dealing.ends(first)
        end = start | {chunk.partition: chunk.end for chunk in chunks}
        with folder.writing() as transaction:
            for chunk in chunks:
                log.put(transaction, chunk)
            log.put_state(transaction, start=start, end=end, ended=ended)


def content(path: Path, split: str = STREAM) -> list[Any]:
    """Everything about a log: what it is, where it ends, and each record with its place, its time and its bytes."""
    with LogFolder(path) as folder:
        log = StoredLog(folder, split)
        records = [
            (chunk.partition, chunk.offset + row, chunk.time_ns(row), *values)
            for chunk in log.chunks()
            for row, values in enumerate(zip(*map(rows, chunk.columns.values()), strict=True))
        ]
        return [log.info, log.log_start(), log.log_end(), log.ended, records]


@st.composite
def logs(draw: st.DrawFn) -> tuple[StreamInfo, int, list[Chunk]]:
    """Some records of a stream, from anywhere on, in chunks of any size."""
    schema, dealing = draw(schemas), Dealing(draw(st.integers(1, 3)), draw(st.sampled_from([2, 8])))
    begin = draw(st.integers(0, 20))
    turns = Turns(dealing, dealing.ends(begin))
    chunks: list[Chunk] = []
    for _ in range(draw(st.integers(0, 5))):
        offset = turns.positions[turns.partition]
        count = turns.turn_end - offset if chunks else draw(st.integers(1, turns.turn_end - offset))
        first, span = draw(st.integers(-(10**18), 10**18)), draw(st.integers(0, 10**16))
        chunks.append(Chunk(turns.partition, offset, draw(columns(schema, count)), first, first + span))
        turns.move(count)
    return StreamInfo(incarnation="i", schema=schema, dealing=dealing, source="s"), begin, chunks


@settings(max_examples=10)
@given(drawn=logs())
def test_a_recording_comes_back_bit_for_bit(drawn: tuple[StreamInfo, int, list[Chunk]]) -> None:
    info, first, chunks = drawn
    with TemporaryDirectory() as folder:
        path = Path(folder)
        record(path / "a", info, STREAM, chunks, first=first, ended=True)
        with LogFolder(path / "a") as there:
            to_parquet(there, path / "x.parquet")
        from_parquet(path / "x.parquet", path / "b", ParquetSettings())
        assert content(path / "b") == content(path / "a")


def test_of_a_log_that_is_being_written_the_file_holds_what_was_there_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = StreamInfo(incarnation="i", schema=Schema((Field("id", "int64"),)), dealing=Dealing(1, 64))
    record(tmp_path / "a", info, STREAM, [Chunk(0, 0, {"id": np.arange(9)}, 0, 8)], ended=False)
    before = content(tmp_path / "a")
    look = StoredLog.log_end

    def look_before_it_grows(log: StoredLog) -> Positions:
        end = look(log)
        with folder.writing() as transaction:
            log.put(transaction, Chunk(0, end[0], {"id": np.arange(3)}, 9, 9))
            log.put_state(transaction, start={0: 0}, end={0: end[0] + 3}, ended=True)
        return end

    with LogFolder(tmp_path / "a", write=True) as folder, monkeypatch.context() as patch:
        patch.setattr(StoredLog, "log_end", look_before_it_grows)
        assert to_parquet(folder, tmp_path / "x.parquet") == 9
    assert content(tmp_path / "a")[2] == {0: 12}
    from_parquet(tmp_path / "x.parquet", tmp_path / "b", ParquetSettings())
    assert content(tmp_path / "b") == before


def test_splits_lie_beside_and_come_back(tmp_path: Path) -> None:
    schema = Schema((Field("id", "int64"),), label="id", class_names=("a", "b"), label_range=(0, 1))
    info = StreamInfo(incarnation="i", schema=schema, dealing=Dealing(2, 4), splits={"test": 3}, records_per_pass=7)
    record(tmp_path / "a", info, STREAM, [Chunk(0, 0, {"id": np.array([1, 0])}, 5, 9)], ended=False)
    split = replace(info, incarnation="t", splits={}, dealing=Dealing(1, 4))
    record(tmp_path / "a", split, "test", [Chunk(0, 0, {"id": np.arange(3)}, 1, 1)], ended=True)
    file = str(tmp_path / "x.parquet")
    assert main(["to-parquet", str(tmp_path / "a"), file]) == 0
    assert main(["from-parquet", file, str(tmp_path / "b")]) == 0
    for name in (STREAM, "test"):
        assert content(tmp_path / "b", name) == content(tmp_path / "a", name)
    assert pq.read_table(file).column("id").to_pylist() == [1, 0]
    (tmp_path / "x.test.parquet").unlink()
    with pytest.raises(UsageError, match=r"x.test.parquet cannot be opened as Parquet"):
        main(["from-parquet", file, str(tmp_path / "c")])


def test_a_file_of_another_program_becomes_a_stream_in_the_order_of_its_rows(tmp_path: Path) -> None:
    count = 1000
    boxes = [[[float(n), 2.0]] * (n % 3) for n in range(count)]
    table = pa.table(
        {
            "number": pa.array(range(count), pa.int32()),
            "text": [f"line {n} ü" for n in range(count)],
            "raw": pa.array([b"ab"] * count, pa.binary(2)),
            "pixels": pa.array([[n % 256] * 6 for n in range(count)], pa.list_(pa.uint8(), 6)),
            "boxes": pa.array(boxes, pa.list_(pa.list_(pa.float32(), 2))),
            "when": pa.array([0] * count, pa.timestamp("s")),
            "label": pa.array([n % 7 for n in range(count)], pa.int8()),
        }
    )  # fmt: skip
    file = tmp_path / "other.parquet"
    pq.write_table(table, file, row_group_size=300)
    with pytest.raises(
        UsageError, match=r"column 'when' is timestamp\[ms\], which no record holds: cast it .*--columns"
    ):
        main(["from-parquet", str(file), str(tmp_path / "no")])
    wanted = "number,text,raw,pixels,boxes,label"
    arguments = ["--columns", wanted, "--label", "label", "--partitions", "3"]
    assert main(["from-parquet", str(file), str(tmp_path / "log"), *arguments]) == 0
    with LogFolder(tmp_path / "log") as folder:
        log = StoredLog(folder, STREAM)
        chunks = list(log.in_order(log.log_start(), log.log_end()))
        assert log.info.schema.label_range == (0, 6)
        assert [(f.dtype, f.shape) for f in log.info.schema.fields] == [
            ("int32", ()), ("uint8", (None,)), ("uint8", (2,)), ("uint8", (6,)), ("float32", (None, 2)), ("int8", ()),
        ]  # fmt: skip
    assert np.concatenate([np.asarray(chunk.columns["number"]) for chunk in chunks]).tolist() == list(range(count))
    texts = b"".join(
        chunk.columns["text"].values.tobytes() for chunk in chunks if isinstance(chunk.columns["text"], Ragged)
    )
    assert texts.decode() == "".join(table.column("text").to_pylist())
    found = [chunk.columns["boxes"] for chunk in chunks]
    assert sum(len(each) for each in found) == count
    assert np.asarray(chunks[0].columns["pixels"])[5].tolist() == [5] * 6
    assert np.asarray(chunks[0].columns["raw"])[0].tobytes() == b"ab"


def test_rows_that_were_taken_out_are_said(tmp_path: Path) -> None:
    info = StreamInfo(incarnation="i", schema=Schema((Field("id", "int64"),)), dealing=Dealing(1, 64))
    record(tmp_path / "a", info, STREAM, [Chunk(0, 0, {"id": np.arange(9)}, 0, 8)], ended=True)
    file = tmp_path / "x.parquet"
    main(["to-parquet", str(tmp_path / "a"), str(file)])
    table = pq.read_table(file)
    for name, left, where in (("b", [0, 1, 3], "before offset 3 of partition 0"), ("c", [0, 1, 2], "at the end")):
        pq.write_table(table.take(left), file)
        with pytest.raises(UsageError, match=f"rows are missing {where}: write the file anew without the metadata"):
            main(["from-parquet", str(file), str(tmp_path / name)])
    pq.write_table(table.take([0, 1, 3]).replace_schema_metadata({}), file)
    main(["from-parquet", str(file), str(tmp_path / "d")])
    assert content(tmp_path / "d")[2] == dict.fromkeys(range(8), 0) | {0: 3}


def test_after_a_refusal_nothing_is_there_and_the_mended_file_becomes_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.parquet.GROUP_BYTES", 1 << 10)  # so that much is written before the last row is seen
    file, log = tmp_path / "x.parquet", tmp_path / "log"
    schema = pa.schema([("x", pa.int64())])
    with pq.ParquetWriter(file, schema) as writer:
        for values in (range(1000), [1, None]):
            writer.write_table(pa.table({"x": list(values)}, schema))
    with pytest.raises(UsageError, match="column 'x' has values that are not there"):
        main(["from-parquet", str(file), str(log), "--partitions", "1"])
    with pytest.raises(UsageError, match="holds no stream"):
        main(["info", f"file://{log}"])
    pq.write_table(pa.table({"x": [7, 8]}), file)
    assert main(["from-parquet", str(file), str(log), "--partitions", "1"]) == 0
    assert [(offset, value) for _, offset, _, value in content(log)[4]] == [
        (0, np.int64(7).tobytes()),
        (1, np.int64(8).tobytes()),
    ]


def test_a_file_without_its_split_leaves_neither(tmp_path: Path) -> None:
    info = StreamInfo(
        incarnation="i", schema=Schema((Field("id", "int64"),)), dealing=Dealing(1, 4), splits={"test": 3, "val": 3}
    )
    for split in (STREAM, *info.splits):
        record(tmp_path / "a", info, split, [Chunk(0, 0, {"id": np.arange(3)}, 1, 1)], ended=True)
    file = str(tmp_path / "x.parquet")
    main(["to-parquet", str(tmp_path / "a"), file])
    (tmp_path / "x.val.parquet").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"x.val.parquet cannot be opened"):
        main(["from-parquet", file, str(tmp_path / "b")])
    with LogFolder(tmp_path / "b") as folder:
        assert [folder.info(split) for split in (STREAM, *info.splits)] == [None] * 3
    (tmp_path / "elsewhere").rename(tmp_path / "x.val.parquet")
    main(["from-parquet", file, str(tmp_path / "b")])
    for split in (STREAM, *info.splits):
        assert content(tmp_path / "b", split) == content(tmp_path / "a", split)


def test_the_same_file_is_the_same_stream(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3]}), file)
    for name in ("a", "b"):
        main(["from-parquet", str(file), str(tmp_path / name)])
    main(["from-parquet", str(file), str(tmp_path / "c"), "--partitions", "2"])
    identities = [content(tmp_path / name)[0].incarnation for name in ("a", "b", "c")]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("table", "arguments", "said"),
    [
        ({"x": [1, None]}, [], "column 'x' has values that are not there: fill them"),
        ({"x": [[1], [None]]}, [], "column 'x' has values that are not there"),
        ({"x": [{"a": 1}]}, [], "column 'x' is struct<a: int64>, which no record holds"),
        ({"x": [[[1], [2, 3]]]}, [], "column 'x' is list<.*which no record holds"),
        ({"x": [1]}, ["--columns", "y"], "has no column 'y': it has x"),
        ({"x": [1]}, ["--label", "y"], "has no column 'y': it has x"),
        ({"x": ["a"]}, ["--label", "x"], "column 'x' holds no classes: give a column of integers"),
        ({"x": [0.5, 2.5]}, ["--label", "x"], "column 'x' holds no classes: give a column of integers"),
        ({"x": [[1]]}, ["--label", "x"], "column 'x' holds no classes: give a column of integers"),
        ({"x": [1], "y": [1]}, ["--columns", "x", "--label", "y"], r"the label field 'y' is not among the fields x"),
        ({"x": [1]}, ["--columns", "x,x"], r"make no record \(two fields have the same name: x, x\): rename them, or"),
        ({"x" * 129: [1]}, [], r"make no record \(a field's name has 1 to 128 characters, not 129\): rename them"),
        ({f"x{n}": [1] for n in range(65)}, [], r"make no record \(a record has 1 to 64 fields, not 65\)"),
        ({"x": pa.array([[]], pa.list_(pa.int8(), 0))}, [], r"make no record \(field 'x': a dimension is at least 1\)"),
        ({"x": [1]}, ["--partitions", "0"], "--partitions: a stream has 1 to 4096"),
    ],
)
def test_what_is_no_stream_is_one_line(tmp_path: Path, table: Any, arguments: list[str], said: str) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table(table), file)
    with pytest.raises(UsageError, match=said):
        main(["from-parquet", str(file), str(tmp_path / "log"), *arguments])


def test_a_file_that_is_none_a_folder_that_is_taken_and_a_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, log = tmp_path / "x.parquet", str(tmp_path / "log")
    file.write_bytes(b"PAR1 or not")
    with pytest.raises(UsageError, match=r"x.parquet cannot be opened as Parquet .*: give another file"):
        main(["from-parquet", str(file), log])
    assert not Path(log).exists()
    pq.write_table(pa.table({"x": [1]}), file)
    main(["from-parquet", str(file), log])
    with pytest.raises(UsageError, match="log holds a stream already, or a part of one: give another folder"):
        main(["from-parquet", str(file), log])
    with pytest.raises(UsageError, match=r"/nowhere/x\.parquet cannot be opened"):
        main(["to-parquet", log, "/nowhere/x.parquet"])
    for name in ("protocol.parquet", "protocol.parquet_columns"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delattr(sys.modules["protocol"], "parquet")
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow: pip install 'headrace\[parquet\]'"):
        main(["to-parquet", log, str(file)])


@settings(max_examples=30)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30))
def test_rows_are_parted_into_straight_lines(steps: list[int]) -> None:
    times_ns = np.cumsum(np.repeat(steps, 3))
    parts = list(straight(times_ns, 0, len(times_ns)))
    assert [parts[0][0], parts[-1][1]] == [0, len(times_ns)]
    assert all(end == begin for (_, end), (begin, _) in pairwise(parts))
    for begin, end in parts:
        chunk = Chunk(0, 0, {"x": np.zeros(end - begin)}, int(times_ns[begin]), int(times_ns[end - 1]))
        assert [chunk.time_ns(row) for row in range(end - begin)] == times_ns[begin:end].tolist()
