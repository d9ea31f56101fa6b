"""Recordings to and from Parquet (parquet.apache.org), by the package `pyarrow`, a row group at a time.

Beside the fields stand three columns with each record's place and event time, and in the file's metadata, under
`headrace`, what the stream is (`info`, protocol/SPEC.md). A split lies in a file of its own: `x.test.parquet` beside
`x.parquet`. A file without that metadata is a stream of its own, in the order of its rows.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from protocol.chunk import Chunk, Column
from protocol.dealing import Dealing, Positions, distance, stripe_for
from protocol.errors import PeerError, UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.parquet_columns import arrow_type, field_of, from_arrow, to_arrow
from protocol.schema import Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from protocol.values import flag, number

METADATA = b"headrace"
PLACE = (
    ("headrace.partition", pa.int32()),
    ("headrace.offset", pa.int64()),
    ("headrace.time", pa.timestamp("ns", "UTC")),
)
ANEW = "write the file anew without the metadata 'headrace', and its rows become a stream of their own"
#: What a row group holds, and what is in memory, at least.
GROUP_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class ParquetSettings:
    """How a file of another program's becomes a stream."""

    columns: tuple[str, ...] = ()
    """the columns that are fields of a record; all of them if none is given"""
    label: str = ""
    """the column that holds the class"""
    partitions: int = 8
    """partitions of the stream"""

    def __post_init__(self) -> None:
        try:
            Dealing(self.partitions, 1)
        except ValueError as error:
            raise UsageError(f"--partitions: {error}") from error


# --- to Parquet --------------------------------------------------------------------------------------------------


def to_parquet(folder: LogFolder, path: Path) -> int:
    """Write everything that is in the folder; the stream's number of records."""
    info = folder.info(STREAM)
    if info is None:
        raise UsageError(f"{folder.path} holds no stream")
    for split in info.splits:
        _write(StoredLog(folder, split), file_of(path, split))
    return _write(StoredLog(folder, STREAM), path)


def file_of(path: Path, split: str) -> Path:
    """Where a split lies, beside the stream's file."""
    return path.with_name(f"{path.stem}.{split}{path.suffix}") if split else path


def _write(log: StoredLog, path: Path) -> int:
    fields = log.info.schema.fields
    ended = log.ended  # asked first: of a log that grows and ends after that, the file has not the last record
    start, end = log.log_start(), log.log_end()
    about = {"info": log.info.to_wire(), "start": list(start.items()), "end": list(end.items()), "ended": ended}
    columns = [*((each.name, arrow_type(each)) for each in fields), *PLACE]
    kind = pa.schema(columns, metadata={METADATA: json.dumps(about)})
    waiting: list[pa.RecordBatch] = []
    records = size = 0
    with _open(path, partial(pq.ParquetWriter, path, kind)) as writer:
        for chunk in log.in_order(start, end):
            batch = pa.record_batch(
                [*(to_arrow(each, chunk.columns[each.name]) for each in fields), *_places(log, chunk)], kind
            )
            waiting.append(batch)
            records, size = records + chunk.count, size + chunk.nbytes
            if size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting, size = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return records


def _places(log: StoredLog, chunk: Chunk) -> list[pa.Array]:
    times_ns = log.times_ns(chunk.partition, chunk.offset, chunk.end)
    partitions, offsets = np.full(chunk.count, chunk.partition), np.arange(chunk.offset, chunk.end)
    return [pa.array(each, kind) for each, (_, kind) in zip((partitions, offsets, times_ns), PLACE, strict=True)]


# --- from Parquet ------------------------------------------------------------------------------------------------


def from_parquet(path: Path, folder_path: Path, settings: ParquetSettings) -> int:
    """Make a recording of a file, in a new folder; the stream's number of records. Raises `UsageError`."""
    with _open(path, partial(pq.ParquetFile, path)) as file, LogFolder(folder_path, write=True) as folder:
        if folder.info(STREAM) is not None:
            raise UsageError(f"{folder_path} holds a stream already, or a part of one: give another folder")
        try:
            return _fill(folder, file, path, settings)
        except BaseException:
            folder.remove_logs()  # so that the same command may follow once the file is mended
            raise


def _fill(folder: LogFolder, file: pq.ParquetFile, path: Path, settings: ParquetSettings) -> int:
    if METADATA not in (file.schema_arrow.metadata or {}):
        info, groups = _dealt(file, path, settings)
        folder.create(STREAM, info)
        return _keep(folder, STREAM, _Whole(info), groups)
    whole = _Whole.of(file, path)
    folder.create(STREAM, whole.info)
    for split in whole.info.splits:
        beside = file_of(path, split)
        with _open(beside, partial(pq.ParquetFile, beside)) as other:
            of = _Whole.of(other, beside)
            folder.create(split, of.info)
            _keep(folder, split, of, _placed(other, beside, of.info))
    return _keep(folder, STREAM, whole, _placed(file, path, whole.info))


@dataclass(frozen=True)
class _Whole:
    """What a file should hold: the stream, and from where to where. Of another program's nobody knows the end."""

    info: StreamInfo
    start: Positions | None = None
    end: Positions | None = None
    ended: bool = True

    @classmethod
    def of(cls, file: pq.ParquetFile, path: Path) -> Self:
        """What it says of itself; raises `UsageError`."""
        try:
            said = json.loads((file.schema_arrow.metadata or {})[METADATA])
            start, end = ({number(p): number(offset) for p, offset in said[which]} for which in ("start", "end"))
            return cls(StreamInfo.from_wire(said["info"]), start, end, flag(said["ended"]))
        except (ValueError, TypeError, KeyError, PeerError) as error:
            raise UsageError(f"{path} does not say what its stream is ({error}): {ANEW}") from error


def _keep(folder: LogFolder, split: str, whole: _Whole, groups: Iterable[Sequence[Chunk]]) -> int:
    """Write the chunks; nothing is there for readers before all are."""
    log = StoredLog(folder, split)
    start = whole.start or dict.fromkeys(range(whole.info.dealing.partitions), 0)
    end = dict(start)
    for chunks in groups:
        with folder.writing() as transaction:
            for chunk in chunks:
                if chunk.offset != end.get(chunk.partition):
                    raise UsageError(
                        f"rows are missing before offset {chunk.offset} of partition {chunk.partition}: {ANEW}"
                    )
                log.put(transaction, chunk)
                end[chunk.partition] = chunk.end
    if whole.end not in (None, end):
        raise UsageError(f"rows are missing at the end: {ANEW}")
    with folder.writing() as transaction:
        log.put_state(transaction, start=start, end=end, ended=whole.ended)
    return distance(start, end)


def _placed(file: pq.ParquetFile, path: Path, info: StreamInfo) -> Iterator[Sequence[Chunk]]:
    """The chunks of a file that headrace has written."""
    for batch in _batches(file, path, [*(each.name for each in info.schema.fields), *(name for name, _ in PLACE)]):
        columns = {each.name: from_arrow(each, batch.column(each.name)) for each in info.schema.fields}
        partitions, offsets, times_ns = (batch.column(name).cast(pa.int64()).to_numpy() for name, _ in PLACE)
        apart = (np.diff(partitions) != 0) | (np.diff(offsets) != 1) | (offsets[1:] % info.dealing.stripe == 0)
        bounds = [0, *(np.flatnonzero(apart) + 1).tolist(), len(offsets)]
        yield [
            _chunk(int(partitions[first]), int(offsets[first]), columns, slice(first, end), times_ns)
            for begin, stop in pairwise(bounds)
            for first, end in straight(times_ns, begin, stop)
        ]


def _dealt(file: pq.ParquetFile, path: Path, settings: ParquetSettings) -> tuple[StreamInfo, Iterator[Sequence[Chunk]]]:
    """What another program has written: the stream that it is, and its rows dealt in their order."""
    there = {each.name: each.type for each in file.schema_arrow if each.name not in dict(PLACE)}
    names = settings.columns or tuple(there)
    if missing := [name for name in (*names, *filter(None, [settings.label])) if name not in there]:
        raise UsageError(f"{path} has no column {missing[0]!r}: it has {', '.join(there)}")
    label_range = _label_range(file, path, settings.label, there[settings.label]) if settings.label else None
    try:
        fields = tuple(field_of(name, there[name]) for name in names)
        schema = Schema(fields, label=settings.label or None, label_range=label_range)
    except ValueError as error:
        raise UsageError(
            f"the columns of {path} make no record ({error}): rename them, or choose others (--columns)"
        ) from error
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    digest.update(f"{settings}".encode())
    dealing = Dealing(settings.partitions, stripe_for(schema.record_bytes, ragged=schema.ragged))
    info = StreamInfo(incarnation=digest.hexdigest()[:32], schema=schema, dealing=dealing, source=path.name)
    return info, _in_rows(file, path, info, time.time_ns())


def _label_range(file: pq.ParquetFile, path: Path, name: str, kind: pa.DataType) -> tuple[int, int] | None:
    """The lowest and the highest class in a column; None where there is none. Raises `UsageError`."""
    if not pa.types.is_integer(kind):
        raise UsageError(f"column {name!r} holds no classes: give a column of integers as --label")
    column = pa.chunked_array([batch.column(0) for batch in _batches(file, path, [name])], kind)
    low, high = pc.min_max(column).as_py().values()
    return None if low is None else (low, high)


def _in_rows(file: pq.ParquetFile, path: Path, info: StreamInfo, time_ns: int) -> Iterator[Sequence[Chunk]]:
    record, stripe = 0, info.dealing.stripe
    for batch in _batches(file, path, [each.name for each in info.schema.fields]):
        columns = {each.name: from_arrow(each, batch.column(each.name)) for each in info.schema.fields}
        times_ns = np.full(batch.num_rows, time_ns)
        chunks, row = [], 0
        while row < batch.num_rows:
            count = min(stripe - record % stripe, batch.num_rows - row)
            chunks.append(_chunk(*info.dealing.locate(record), columns, slice(row, row + count), times_ns))
            record, row = record + count, row + count
        yield chunks


def _batches(file: pq.ParquetFile, path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows, some at a time: so many that they are about as large as a row group that this module writes."""
    size = sum(file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups))
    rows = max(1, min(file.metadata.num_rows, GROUP_BYTES * file.metadata.num_rows // max(1, size)))
    try:
        yield from file.iter_batches(rows, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is damaged or no Parquet file: {error}") from error


def _chunk(
    partition: int, offset: int, columns: dict[str, Column], rows: slice, times_ns: npt.NDArray[np.int64]
) -> Chunk:
    part = {name: column[rows] for name, column in columns.items()}
    return Chunk(partition, offset, part, int(times_ns[rows.start]), int(times_ns[rows.stop - 1]))


def straight(times_ns: npt.NDArray[np.int64], first: int, end: int) -> Iterator[tuple[int, int]]:
    """The rows from `first` to `end` in parts whose times lie on a straight line each, as in a chunk.

    A part that does not is taken apart where it is farthest from the line (Douglas and Peucker, 1973).
    """
    left = [(first, end)]
    while left:
        begin, stop = left.pop()
        last = max(1, stop - begin - 1)
        origin, span = int(times_ns[begin]), int(times_ns[stop - 1]) - int(times_ns[begin])
        away = [abs(int(times_ns[begin + row]) - origin - span * row // last) for row in range(stop - begin)]
        farthest = max(range(len(away)), key=away.__getitem__)
        if away[farthest] == 0:
            yield begin, stop
        else:
            left += [(begin + farthest, stop), (begin, begin + farthest)]


def _open(path: Path, opening: Callable[[], Any]) -> Any:
    try:
        return opening()
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition(". Detail")[0]
        raise UsageError(f"{path} cannot be opened as Parquet ({why}): give another file") from error
