"""Which log a live stream is kept in: in memory, or in a folder that may hold one already."""

import secrets
from pathlib import Path
from typing import Final

from producer.append_log import AppendLog, LogSettings, check_size
from producer.disk_log import DiskLog
from producer.memory_log import MemoryLog
from protocol.change import Change
from protocol.dealing import Dealing, stripe_for
from protocol.errors import UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Schema
from protocol.stream import StreamInfo

#: The source of a log that others push into. Its writers choose names, under which the log keeps a number of each; a
#: replaying source's is kept under the name of its class.
INLET: Final = "inlet"


def open_log(
    schema: Schema | None,
    partitions: int,
    settings: LogSettings,
    *,
    source: str,
    changes: tuple[Change, ...] = (),
) -> AppendLog | None:
    """A log for records of this schema; None where nobody knows yet what a record is.

    A folder goes on with the log that it holds. Raises `UsageError` where that is of another schema, number of
    partitions or drift, or was written by a replaying source where an inlet would, or where another process writes it.
    """
    if settings.path:
        return _on_disk(schema, partitions, settings, source, changes)
    if schema is None:
        return None
    return MemoryLog(schema, _dealing(schema, partitions), settings, source=source, changes=changes)


def _on_disk(
    schema: Schema | None, partitions: int, settings: LogSettings, source: str, changes: tuple[Change, ...]
) -> DiskLog | None:
    path = Path(settings.path).expanduser()
    if schema is None and not LogFolder.exists(path):
        return None
    folder = LogFolder(path, write=True, max_bytes=settings.max_bytes)
    try:
        info = folder.info(STREAM)
        if info is None and schema is None:
            folder.close()
            return None
        if info is None:
            assert schema is not None
            dealing = _dealing(schema, partitions)
            identity = secrets.token_hex(16)
            info = StreamInfo(incarnation=identity, schema=schema, dealing=dealing, changes=changes, source=source)
            check_size(info, settings)
            folder.create(STREAM, info)
        else:
            _check_same(info, schema, partitions, path)
            if source == INLET != info.source and info.source in folder.writers():
                raise UsageError(f"the log in {path} was written by {info.source}: give another folder")
            if changes != info.changes:
                raise UsageError(
                    f"the log in {path} was begun with another drift: give the same one, or another folder"
                )
        return DiskLog(folder, settings)
    except BaseException:
        folder.close()
        raise


def _dealing(schema: Schema, partitions: int) -> Dealing:
    return Dealing(partitions, stripe_for(schema.record_bytes, ragged=schema.ragged))


def _check_same(info: StreamInfo, schema: Schema | None, partitions: int, path: Path) -> None:
    kept = info.dealing.partitions
    if schema is not None and schema != info.schema:
        raise UsageError(f"the log in {path} holds records of another schema: give another folder")
    if partitions != kept:
        raise UsageError(
            f"the log in {path} has {kept} partitions, not {partitions}: ask for {kept}, or another folder"
        )
