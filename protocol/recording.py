"""Recording: a stream, as it is read, goes into a folder that `file://` reads like the stream itself."""

import socket
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from protocol.chunk import Chunk
from protocol.dealing import distance
from protocol.errors import UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.reader import Reader, read_split
from protocol.stored_log import StoredLog
from protocol.subscription import Ended, Progress, Subscription

#: What comes within this time, or as many bytes, is synced together.
SYNC_EVERY_S: Final = 0.2
SYNC_BYTES: Final = 32 << 20


class Recording:
    """The recording in a folder: a new one, or one that goes on where it stopped, under the stream's own identity.

    The producer knows it as a group, so what is not synced yet is kept for it, until it has been silent for the
    group's time to live. Raises `UsageError` where the folder holds another stream, or the stream has no order to keep.
    """

    def __init__(self, reader: Reader, folder: LogFolder, *, timeout_s: float) -> None:
        self._reader, self._folder, self._timeout_s = reader, folder, timeout_s
        said = reader.describe(timeout_s=timeout_s)
        self.info = said.info
        if said.info.order != "stripes":
            raise UsageError("a stream that is read in order of arrival cannot be recorded: read it from where it lies")
        found = folder.info(STREAM)
        if found is None:
            folder.create(STREAM, said.info)
        elif found.incarnation != said.info.incarnation:
            raise UsageError(f"{folder.path} holds another stream ({found.incarnation}): give another folder")
        self._log = StoredLog(folder, STREAM)
        begun = self._log.begun
        self._start = self._log.log_start() if begun else dict(said.log_start)
        self._end = self._log.log_end() if begun else dict(said.log_start)
        name = f"{socket.gethostname()}:{folder.path.resolve()}"
        self._group = f"record-{folder.path.resolve().name[:64]}-{zlib.crc32(name.encode()):08x}"

    @property
    def records(self) -> int:
        """Records of the stream that are synced."""
        return distance(self._start, self._end)

    def record_splits(self) -> None:
        """The finite splits, from start to end, where they are not there yet."""
        for split in self.info.splits:
            if self._folder.info(split) is not None and StoredLog(self._folder, split).ended:
                continue
            said = self._reader.describe(split, timeout_s=self._timeout_s)
            self._folder.create(split, said.info)
            log, end = StoredLog(self._folder, split), dict(said.log_start)
            with self._folder.writing() as transaction:
                for chunk in read_split(self._reader, split, said):
                    log.put(transaction, chunk)
                    end[chunk.partition] = chunk.end
                log.put_state(transaction, start=said.log_start, end=end, ended=True)

    def follow(self, most_records: int = 0) -> Iterator[int]:
        """Record until the stream ends, or so many records are there (0: no limit); yields how many are.

        Raises `RecordsLost` where the producer has forgotten what comes next.
        """
        asked = Subscription(
            split=STREAM, positions=dict(self._end), incarnation=self.info.incarnation, group=self._group
        )
        waiting: list[Chunk] = []
        synced_s = time.monotonic()
        left = most_records - self.records if most_records else None
        try:
            for events in self._reader.read(asked, progress=self._progress, idle_s=SYNC_EVERY_S):
                for chunk in (event for event in events if isinstance(event, Chunk)):
                    taken = chunk if left is None or chunk.count <= left else chunk.part(0, left)
                    left = None if left is None else left - taken.count
                    waiting.append(taken)
                    if left == 0:
                        return
                ended = any(isinstance(event, Ended) for event in events)
                late = time.monotonic() - synced_s >= SYNC_EVERY_S
                if ended or late or sum(chunk.nbytes for chunk in waiting) >= SYNC_BYTES:
                    self._sync(waiting, ended=ended)
                    waiting, synced_s = [], time.monotonic()
                yield self.records
        finally:
            self._sync(waiting, ended=False)

    def _progress(self) -> Progress:
        return Progress(trained=dict(self._end))

    def _sync(self, chunks: Sequence[Chunk], *, ended: bool) -> None:
        if not chunks and not ended:
            return
        with self._folder.writing() as transaction:
            for chunk in chunks:
                self._log.put(transaction, chunk)
                self._end[chunk.partition] = chunk.end
            self._log.put_state(transaction, start=self._start, end=self._end, ended=ended)
