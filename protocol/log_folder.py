"""A folder that keeps logs: one storage format for a producer's log on disk and for a recording.

It is an LMDB environment (lmdb.readthedocs.io). What a transaction wrote is there as a whole once it is committed and
synced, and not at all before: LMDB never writes over a page that the last durable state needs, so neither a killed
process nor a power loss damages the folder. Errors of LMDB are translated here.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import lmdb
import msgpack

from protocol.compression import Zstd
from protocol.errors import LogFull, StreamError, UsageError
from protocol.folder_lock import FolderLock, is_held
from protocol.log import KeptGroup, KeptWriter
from protocol.stream import MAX_SPLITS, StreamInfo

FORMAT: Final = b"headrace log 1"
COMPRESSED: Final = FORMAT + b" zstd"
#: What a transaction may need beyond the records: pages that the former state still holds.
HEADROOM_BYTES: Final = 1 << 30
#: Address space, neither memory nor disk: nobody knows how long a recording will be.
UNBOUNDED_BYTES: Final = 1 << 40
MAX_READERS: Final = 512
#: LMDB's file inside the folder.
DATA_FILE: Final = "data.mdb"
WRITER: Final = "writer"
#: Whoever only looks whether there is a writer holds the lock for a moment.
LOCK_PATIENCE_S: Final = 2.0
#: More than the pages that one transaction gives up again: so short may the file of a writer be that was killed.
GIVEN_UP_BYTES: Final = 16 << 20
#: Longer than a writer needs between a commit and making the file as long as that says.
WRITTEN_S: Final = 0.1

#: Less than this is no room for a transaction.
FULL_DISK_BYTES: Final = 1 << 20

Transaction = Any  # lmdb.Transaction: older releases bring no types
Database = Any


class LogFolder:
    """An open folder. One process at a time may write it (`write`); one process may have it open only once (LMDB).

    `max_bytes` of records need to fit; 0 is a recording's, which nothing bounds but the disk. A new folder is
    compressed if `zstd` says so; one that is there says itself how it was begun.
    """

    def __init__(self, path: Path, *, write: bool = False, max_bytes: int = 0, zstd: bool = False) -> None:
        if not write and not self.exists(path):
            raise UsageError(f"{path} holds no log: give the folder of a recording or of a producer's --log.path")
        self.path = path
        self._writes = write
        self._lock = self._locked() if write else None
        self._records: dict[str, Database] = {}
        self._environment: Any = None
        #: How the columns are packed; None where they lie as they are.
        self.zstd: Zstd | None = None
        try:
            with _translated(path):
                self._environment = lmdb.open(
                    str(path),
                    map_size=2 * max_bytes + HEADROOM_BYTES if max_bytes else UNBOUNDED_BYTES,
                    readonly=not write,
                    lock=write or os.access(path, os.W_OK),
                    max_dbs=MAX_SPLITS + 4,
                    max_readers=MAX_READERS,
                )
            if write:
                self._environment.reader_check()  # those that were killed while they read
            self._check_length(tolerated=GIVEN_UP_BYTES if write else 0)
            if write:
                self._lengthen()
            self._about = self._database(b"about")
            self._groups = self._database(b"groups")
            self._writers = self._database(b"writers") if write else None  # folders of before have none
            self._check_format(zstd=zstd)
            if write:
                for folder in (path, path.resolve().parent):
                    _sync(folder)  # the files' names as well
        except BaseException:
            self.close()
            raise

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is something to open."""
        file = path / DATA_FILE
        return file.is_file() and file.stat().st_size > 0

    def close(self) -> None:
        """Release the folder."""
        if self._environment is not None:
            self._environment.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def written_now(self) -> bool:
        """Whether some process has it open for writing."""
        return self._writes or is_held(self.path, WRITER)

    # --- transactions --------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent state, in memory views that are valid inside. Keep it short: it holds pages back."""
        with _translated(self.path), self._environment.begin(buffers=True) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Everything or nothing; synced when it is left. Raises `LogFull` where the disk has no room."""
        with _translated(self.path):
            with self._environment.begin(write=True) as transaction:
                yield transaction
            self._lengthen()

    # --- what is in it -------------------------------------------------------------------------------------------

    def info(self, split: str) -> StreamInfo | None:
        """What the stream (or a split of it) is; None where there is none of that name."""
        with self.reading() as transaction:
            value = transaction.get(_key(b"info", split), db=self._about)
            return None if value is None else StreamInfo.from_wire(msgpack.unpackb(value))

    def create(self, split: str, info: StreamInfo) -> None:
        """A new log, empty."""
        self.records(split)
        with self.writing() as transaction:
            transaction.put(_key(b"info", split), msgpack.packb(info.to_wire()), db=self._about)

    def remove_logs(self) -> None:
        """Remove those that were written here since it was opened, whole: as if they had never been begun."""
        with self.writing() as transaction:
            for split, database in self._records.items():
                transaction.drop(database, delete=False)
                for kind in (b"info", b"state"):
                    transaction.delete(_key(kind, split), db=self._about)

    def records(self, split: str) -> Database:
        """The database of a log's chunks. Asked for the first time outside of any transaction."""
        if split not in self._records:
            self._records[split] = self._database(_key(b"records", split))
        return self._records[split]

    def state(self, transaction: Transaction, split: str) -> Mapping[str, Any]:
        """What was put last with `put_state`; empty where nothing was."""
        value = transaction.get(_key(b"state", split), db=self._about)
        return {} if value is None else dict(msgpack.unpackb(value, strict_map_key=False))

    def put_state(self, transaction: Transaction, split: str, state: Mapping[str, Any]) -> None:
        """Numbers about a log that change with its records."""
        transaction.put(_key(b"state", split), msgpack.packb(state), db=self._about)

    def groups(self) -> dict[str, KeptGroup]:
        """The groups that are kept, by name."""
        with self.reading() as transaction, transaction.cursor(db=self._groups) as cursor:
            return {
                bytes(name).decode(): KeptGroup(**msgpack.unpackb(value, strict_map_key=False))
                for name, value in cursor
            }

    def put_group(self, transaction: Transaction, name: str, group: KeptGroup | None) -> None:
        """Keep a group, or forget it."""
        if group is None:
            transaction.delete(name.encode(), db=self._groups)
        else:
            transaction.put(name.encode(), msgpack.packb(vars(group)), db=self._groups)

    def writers(self) -> dict[str, int]:
        """The next number of each writer that is kept, by name, who has given nothing for longest first; of a folder
        that is open for writing.
        """
        with self.reading() as transaction, transaction.cursor(db=self._writers) as cursor:
            kept = [(bytes(name).decode(), _writer(value)) for name, value in cursor]
        return {name: writer.number for name, writer in sorted(kept, key=lambda each: each[1].records)}

    def put_writer(self, transaction: Transaction, name: str, writer: KeptWriter | None) -> None:
        """Keep a writer, or forget it."""
        if writer is None:
            transaction.delete(name.encode(), db=self._writers)
        else:
            transaction.put(name.encode(), msgpack.packb(writer), db=self._writers)

    def _locked(self) -> FolderLock:
        with _translated(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            return FolderLock(self.path, WRITER, mend="stop it, or give another folder", patience_s=LOCK_PATIENCE_S)

    def _missing_bytes(self) -> int:
        """How much shorter the file is than the pages that LMDB has given out."""
        pages = self._environment.info()["last_pgno"] + 1
        return int(pages * self._environment.stat()["psize"]) - (self.path / DATA_FILE).stat().st_size

    def _lengthen(self) -> None:
        """Pages at the end that a transaction gave up again are never written: without them nobody could tell a file
        that was cut short, which ends the process that reads it (SIGBUS).
        """
        if (missing := self._missing_bytes()) > 0:
            file = self.path / DATA_FILE
            os.truncate(file, file.stat().st_size + missing)

    def _check_length(self, *, tolerated: int) -> None:
        if self._missing_bytes() > tolerated:
            time.sleep(WRITTEN_S)  # a writer may be at it
        if (missing := self._missing_bytes()) > tolerated:
            raise UsageError(f"{self.path} was cut short by {missing:,} bytes or more: copy it again, or record anew")

    def _database(self, name: bytes) -> Database:
        with _translated(self.path):
            return self._environment.open_db(name, create=self._writes)

    def _check_format(self, *, zstd: bool) -> None:
        with self.reading() as transaction:
            found = transaction.get(b"format", db=self._about)
            found = None if found is None else bytes(found)
        if found is None and self._writes:
            found = COMPRESSED if zstd else FORMAT
            self.zstd = Zstd() if zstd else None  # before anything is written that nobody here could read
            with self.writing() as transaction:
                transaction.put(b"format", found, db=self._about)
        elif found not in (FORMAT, COMPRESSED):
            raise UsageError(f"{self.path} is {found!r} and not {FORMAT!r}: it was written by another release")
        elif found == COMPRESSED:
            self.zstd = Zstd()
        elif zstd:
            raise UsageError(f"{self.path} was begun without zstd: go on without it, or give another folder")


def _key(kind: bytes, split: str) -> bytes:
    return kind + b" " + split.encode()


def _writer(value: memoryview) -> KeptWriter:
    """What is kept of a writer; folders of before have its number alone."""
    kept = msgpack.unpackb(value)
    return KeptWriter(*kept) if isinstance(kept, list) else KeptWriter(kept, records=0)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """LMDB's errors, and those of the folder, as our own."""
    try:
        yield
    except (lmdb.MapFullError, lmdb.DiskError) as error:
        raise LogFull(f"there is no room for {path}: {error}") from error
    except lmdb.NotFoundError as error:
        raise UsageError(f"{path} holds no log yet, or is no log of headrace's: {error}") from error
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        raise UsageError(f"{path} is damaged or no log of headrace's ({error}): give another folder") from error
    except lmdb.Error as error:
        raise _of_the_system(path, error) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be used ({error.strerror}): give another folder") from error


def _of_the_system(path: Path, error: Exception) -> StreamError:
    """LMDB gives errors of the system as text. A full disk mends itself; where it cuts a write short, LMDB says EIO."""
    full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))
    if full or (os.strerror(errno.EIO) in str(error) and shutil.disk_usage(path).free < FULL_DISK_BYTES):
        return LogFull(f"the disk of {path} is full: make room")
    return StreamError(f"{path} cannot be read or written: {error}")
