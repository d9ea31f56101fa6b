"""What lies in a folder is what SPEC.md says, read here without any of headrace's own code."""

import struct
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest

from protocol.chunk import Chunk, Ragged
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.log import KeptGroup
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo

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
