"""What lies in a folder is what SPEC.md says, read here without any of headrace's own code."""

import os
import random
import struct
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings

from protocol.chunk import Chunk, Ragged, to_frames
from protocol.dealing import Dealing
from protocol.errors import StreamError, UsageError
from protocol.log import KeptGroup
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo
from tests.protocol.drawn_columns import chunks

INFO = StreamInfo(
    incarnation="abc", schema=Schema((Field("id", "int16"), Field("text", "uint8", (None,)))), dealing=Dealing(2, 4)
)
TEXTS = Ragged(np.array([2, 0, 1], np.uint32), np.frombuffer(b"hi!", np.uint8))
CHUNK = Chunk(1, 5, {"id": np.array([7, 8, 9], np.int16), "text": TEXTS}, first_time_ns=100, last_time_ns=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LogFolder(tmp_path, write=True) as folder:
        for split in (STREAM, "test"):
            folder.create(split, INFO)
        log = StoredLog(folder, STREAM)
        with folder.writing() as transaction:
            log.put(transaction, CHUNK)
            log.put_state(transaction, start={0: 4, 1: 5}, end={0: 4, 1: 8}, ended=True)
            folder.put_group(transaction, "run", KeptGroup(durable=True, committed={0: 4, 1: 5}, trained={1: 6}))
    return tmp_path


def test_a_folder_is_what_the_specification_says(folder: Path) -> None:
    with lmdb.open(str(folder), readonly=True, max_dbs=8) as environment, environment.begin() as transaction:

        def pairs(name: bytes) -> dict[bytes, bytes]:
            with transaction.cursor(db=environment.open_db(name, txn=transaction, create=False)) as cursor:
                return dict(cursor)

        about = pairs(b"about")
        assert about.pop(b"format") == b"headrace log 1"
        assert msgpack.unpackb(about.pop(b"info ")) == INFO.to_wire()
        assert msgpack.unpackb(about.pop(b"info test")) == INFO.to_wire()
        assert msgpack.unpackb(about.pop(b"state "), strict_map_key=False) == {
            "start": {0: 4, 1: 5},
            "end": {0: 4, 1: 8},
            "ended": True,
        }
        assert about == {}
        assert pairs(b"records test") == {}
        ((key, value),) = pairs(b"records ").items()
        assert struct.unpack(">HQ", key) == (1, 5)
        (length,) = struct.unpack_from("<H", value)
        assert msgpack.unpackb(value[2 : 2 + length]) == [3, 100, 300, 6, 12, 3]
        assert value[2 + length :] == struct.pack("<3h3I", 7, 8, 9, 2, 0, 1) + b"hi!"
        ((name, group),) = pairs(b"groups").items()
        assert name == b"run"
        assert msgpack.unpackb(group, strict_map_key=False) == {
            "durable": True,
            "committed": {0: 4, 1: 5},
            "trained": {1: 6},
        }


def test_what_was_put_is_read_whole_and_in_part(folder: Path) -> None:
    with LogFolder(folder) as opened:
        log = StoredLog(opened, STREAM)
        assert (log.log_start(), log.log_end(), log.ended) == ({0: 4, 1: 5}, {0: 4, 1: 8}, True)
        assert opened.groups() == {"run": KeptGroup(durable=True, committed={0: 4, 1: 5}, trained={1: 6})}
        part = log.read(1, 6, 1)
        assert (part.offset, part.count, part.first_time_ns, part.last_time_ns) == (6, 1, 200, 200)
        assert isinstance(part.columns["id"], np.ndarray)
        assert part.columns["id"].tolist() == [8]
        assert [log.offset_at(1, time_ns) for time_ns in (0, 100, 101, 201, 300, 301)] == [5, 5, 6, 7, 7, 8]
        assert log.times_ns(1, 6, 8).tolist() == [200, 300]
        empty = StoredLog(opened, "test")
        assert (empty.begun, empty.ended, empty.log_end()) == (False, False, {0: 0, 1: 0})


def test_a_folder_of_another_format_is_refused_by_name(folder: Path) -> None:
    with lmdb.open(str(folder), max_dbs=8, map_size=1 << 24) as environment:
        database = environment.open_db(b"about")
        with environment.begin(write=True) as transaction:
            transaction.put(b"format", b"headrace log 2", db=database)
    for write in (False, True):
        with pytest.raises(UsageError, match=r"headrace log 2.*headrace log 1.*another release"):
            LogFolder(folder, write=write)


# --- what is damaged, and what is compressed ---------------------------------------------------------------------


def test_a_folder_that_was_cut_short_is_said_at_once(folder: Path) -> None:
    file = folder / "data.mdb"
    whole = file.stat().st_size
    for size in (whole - 1, whole // 2, 2 * 4096):
        os.truncate(file, size)
        with pytest.raises(UsageError, match=rf"was cut short by {whole - size:,} bytes or more: copy it again"):
            LogFolder(folder)
    os.truncate(file, 0)
    with pytest.raises(UsageError, match="holds no log"):
        LogFolder(folder)


def test_a_writer_keeps_its_file_as_long_as_its_pages(tmp_path: Path) -> None:
    """LMDB alone leaves it shorter where a transaction gave up the last pages that it took."""
    drawn = random.Random(2)
    with LogFolder(tmp_path, write=True) as folder:
        folder.create(STREAM, INFO)
        database = folder.records(STREAM)
        for turn in range(10):
            with folder.writing() as transaction:
                for key in range(60):
                    transaction.delete(bytes([turn - 1 if turn else 0, key]), db=database)
                taken = range(drawn.randint(1, 60))
                for key in taken:
                    transaction.put(bytes([turn, key]), bytes(drawn.choice([500, 1500, 3000])), db=database)
                for key in drawn.sample(taken, drawn.randint(0, len(taken))):
                    transaction.delete(bytes([turn, key]), db=database)
            assert folder._missing_bytes() <= 0


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xff", b"\x05\x00\x94\x03\x00", b"\x01\x00\xc1", b"\x05\x00\x94\x03\x00\x00\x06abcdef"]
)
def test_a_damaged_chunk_is_an_error_that_names_its_place(folder: Path, value: bytes) -> None:
    with LogFolder(folder, write=True) as opened:
        database = opened.records(STREAM)
        with opened.writing() as transaction:
            transaction.put(struct.pack(">HQ", 1, 5), value, db=database)
    with LogFolder(folder) as opened:
        log = StoredLog(opened, STREAM)
        for read in (lambda: log.read(1, 6, 1), lambda: log.offset_at(1, 0), lambda: log.times_ns(1, 5, 8)):
            with pytest.raises(StreamError, match="is damaged: partition 1 from offset 5 on cannot be read"):
                read()


@given(chunks())
@settings(max_examples=10)
def test_a_compressed_folder_gives_the_same_columns(drawn: tuple[Schema, Chunk]) -> None:
    pytest.importorskip("zstandard")
    schema, chunk = drawn
    with TemporaryDirectory() as path:
        with LogFolder(Path(path), write=True, zstd=True) as folder:
            folder.create(STREAM, replace(INFO, schema=schema, dealing=Dealing(4096, 4096)))
            log = StoredLog(folder, STREAM)
            with folder.writing() as transaction:
                log.put(transaction, chunk)
        with LogFolder(Path(path)) as folder:
            (found,) = StoredLog(folder, STREAM).chunks()
    assert (found.partition, found.offset, found.count) == (chunk.partition, chunk.offset, chunk.count)
    assert list(map(bytes, to_frames(schema, found.columns))) == list(map(bytes, to_frames(schema, chunk.columns)))


def test_a_folder_says_itself_whether_it_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zstandard")
    with LogFolder(tmp_path / "packed", write=True, zstd=True) as folder:
        folder.create(STREAM, INFO)
        log = StoredLog(folder, STREAM)
        with folder.writing() as transaction:
            log.put(transaction, CHUNK)
    for write in (True, False):
        with LogFolder(tmp_path / "packed", write=write) as folder:
            assert folder.zstd is not None
    with lmdb.open(str(tmp_path / "packed"), max_dbs=8) as environment, environment.begin(write=True) as transaction:
        assert transaction.get(b"format", db=environment.open_db(b"about", txn=transaction)) == b"headrace log 1 zstd"
        cursor = transaction.cursor(db=environment.open_db(b"records ", txn=transaction))
        cursor.first()
        value = cursor.value()
        assert value[2 + struct.unpack("<H", value[:2])[0] :][:4] == b"\x28\xb5\x2f\xfd"
        cursor.replace(cursor.key(), value[:-6] + bytes([value[-6] ^ 1]) + value[-5:])
    with LogFolder(tmp_path / "packed") as folder, pytest.raises(StreamError, match="is damaged: partition 1"):
        StoredLog(folder, STREAM).read(1, 5, 1)
    LogFolder(tmp_path / "plain", write=True).close()
    with pytest.raises(UsageError, match="was begun without zstd: go on without it"):
        LogFolder(tmp_path / "plain", write=True, zstd=True)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match=r"needs zstandard: pip install 'headrace\[zstd\]'"):
        LogFolder(tmp_path / "packed")
    with pytest.raises(UsageError, match="needs zstandard"):
        LogFolder(tmp_path / "new", write=True, zstd=True)
