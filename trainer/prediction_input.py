"""What `predict` is asked about, as batches: pictures in files and folders, arrays, a stream."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocol.beginning import Beginning
from protocol.chunk import Chunk
from protocol.errors import AccessDenied, DataFault, StreamTimeout, UsageError, ranges
from protocol.messages import STREAM
from protocol.open_reader import check_url
from protocol.schema import Field, Schema
from protocol.subscription import Expired, Subscription, Undecodable
from trainer.along import Along
from trainer.columns import Column, check_pictures, column_of, described, read_picture
from trainer.decoding import Decoder
from trainer.reading import Reading

logger = logging.getLogger(__name__)

PICTURES = (".jpg", ".jpeg", ".png")
ARRAYS = (".npy", ".npz")
#: Of a silent stream something is heard this often.
IDLE_S = 0.25


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """How the input is read."""

    batch_size: int = 256
    """records that the model is given at once, at most"""
    resize: bool = False
    """make pictures of another size fit, as Pillow resizes them; else they are refused"""
    keys: str = ""
    """folder of this client's keys, for a stream whose producer has some; the right to read is enough"""
    start: str = "earliest"
    """where a stream is read from: earliest, latest, a time (2026-11-26T07:30) or a time ago (10m, 2h, 1d)"""
    connect_timeout: float = 60.0
    """seconds to wait for a stream's producer; 0: for ever"""
    idle_timeout: float = 0.0
    """seconds without a record after which a stream is left; 0: never"""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError("--batch_size is at least 1")
        Beginning.of(self.start)
        if self.connect_timeout < 0 or self.idle_timeout < 0:
            raise UsageError("--connect_timeout and --idle_timeout are 0 or more")


@dataclass(frozen=True)
class Records:
    """Some records, as the model takes them: where each came from, and [n, *shape] of each field."""

    sources: Sequence[str]
    columns: Mapping[str, Column]

    def first(self, count: int) -> "Records":
        """At most so many of them."""
        return Records(self.sources[:count], {name: column[:count] for name, column in self.columns.items()})


def check_inputs(inputs: Sequence[str]) -> None:
    """Raise `UsageError` for what is neither there nor a stream; opens nothing."""
    for each in inputs:
        if "://" in each:
            check_url(each)
        elif not Path(each).expanduser().exists():
            raise UsageError(f"there is no {each}: give pictures, folders of them, .npy files or a URL")


def read_records(
    inputs: Sequence[str], fields: Sequence[Field], settings: InputSettings, decoders: Sequence[Decoder] = ()
) -> Iterator[Records]:
    """One input after the other, at most `batch_size` records at once; those of a stream go through `decoders`.

    Raises `UsageError`, and `DataFault` for a record of a stream that cannot be decoded.
    """
    pictures: list[Path] = []
    for each in inputs:
        path = Path(each).expanduser()
        if "://" not in each and path.suffix not in ARRAYS:
            pictures += _in_folder(path) if path.is_dir() else [path]
            continue
        yield from _pictures(pictures, fields, settings)
        pictures = []
        if "://" in each:
            yield from _stream(each, fields, settings, decoders)
        else:
            yield from _arrays(path, fields, settings.batch_size)
    yield from _pictures(pictures, fields, settings)


# --- pictures ----------------------------------------------------------------------------------------------------


def _in_folder(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        raise UsageError(f"there are no pictures in {folder}: give one with files in {' '.join(PICTURES)}")
    if others := len(files) - len(pictures):
        logger.info("%d files in %s are passed over: their names do not end in %s", others, folder, " ".join(PICTURES))
    return pictures


def _pictures(paths: Sequence[Path], fields: Sequence[Field], settings: InputSettings) -> Iterator[Records]:
    for start in range(0, len(paths), settings.batch_size):
        some = paths[start : start + settings.batch_size]
        field = _only(fields)
        pixels = np.stack([read_picture(path, field, resize=settings.resize) for path in some])
        yield Records([str(path) for path in some], {field.name: pixels})


def _only(fields: Sequence[Field]) -> Field:
    if len(fields) > 1:
        raise UsageError(f"the model takes {', '.join(map(described, fields))}: give an .npz file or a stream")
    check_pictures(fields[0])
    return fields[0]


# --- arrays ------------------------------------------------------------------------------------------------------


def _arrays(path: Path, fields: Sequence[Field], batch_size: int) -> Iterator[Records]:
    """The rows of a file of numpy's, which is mapped into memory where it is no archive."""
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)
        named = {fields[0].name: held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    except Exception as error:  # of a damaged file numpy raises whatever its parser or zipfile meets
        raise UsageError(f"{path} is no file of numpy's ({error}): write it with numpy.save or numpy.savez") from error
    missing = [described(field) for field in fields if field.name not in named]
    if missing:
        raise UsageError(f"{path} holds {', '.join(named) or 'nothing'} and no {missing[0]}: name its arrays so")
    columns = {field.name: column_of(named[field.name], field) for field in fields}
    count, *others = (len(column) for column in columns.values())
    if any(other != count for other in others):
        raise UsageError(f"the arrays in {path} are of {count} and {others} records: give as many of each")
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        sources = [f"{path}:{row}" for row in range(part.start, part.stop)]
        yield Records(sources, {name: column[part] for name, column in columns.items()})


# --- a stream ----------------------------------------------------------------------------------------------------


def _stream(
    url: str, fields: Sequence[Field], settings: InputSettings, decoders: Sequence[Decoder]
) -> Iterator[Records]:
    """Records as they come. Read without a group: nothing of them is held back, and nobody waits for this reader."""
    start, reading = Beginning.of(settings.start), Reading(url=url, keys=settings.keys, decoders=decoders)
    with reading.open() as reader:
        try:
            said = reader.describe(time_ns=start.time_ns, timeout_s=settings.connect_timeout or None)
        except StreamTimeout as error:
            raise UsageError(f"{error}: start a producer, or wait longer (--connect_timeout)") from error
        except AccessDenied as error:
            raise UsageError(str(error)) from error
        _check_same(url, said.info.schema, fields)
        asked = Subscription(
            split=STREAM, positions=start.positions(said), incarnation=said.info.incarnation, pass_lost=True
        )
        heard_s = time.monotonic()
        for events in Along(reading, reader, said, asked).events(idle_s=IDLE_S):
            for event in events:
                match event:
                    case Chunk():
                        yield from _parts(event, fields, settings.batch_size)
                        heard_s = time.monotonic()
                    case Undecodable():
                        raise DataFault(event.reason)
                    case Expired():
                        logger.warning("going on behind what the log forgot before it was read: %s", ranges(event.lost))
                    case _:
                        continue
            if 0 < settings.idle_timeout <= time.monotonic() - heard_s:
                return


def _check_same(url: str, schema: Schema, fields: Sequence[Field]) -> None:
    for field in fields:
        if field not in schema.fields:
            there = ", ".join(map(described, schema.fields))
            raise UsageError(f"the model takes {described(field)}, a record of {url} is {there}: give another stream")


def _parts(chunk: Chunk, fields: Sequence[Field], batch_size: int) -> Iterator[Records]:
    for start in range(0, chunk.count, batch_size):
        part = chunk.part(start, min(start + batch_size, chunk.count))
        columns = {field.name: np.asarray(part.columns[field.name]) for field in fields}
        yield Records([f"{part.partition}:{part.offset + row}" for row in range(part.count)], columns)
