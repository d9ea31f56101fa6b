"""One log in a folder: chunks by (partition, offset), each a value, and where the log starts and ends.

A value is a msgpack list (count, event times of the first and the last record, bytes of each frame), its length as two
bytes before it, and the frames behind it: the same columns as on the wire, in a compressed folder as one zstd frame.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from protocol.chunk import MAX_CHUNK_BYTES, Chunk, Column, Columns, concatenate, from_frames, to_frames
from protocol.dealing import Positions, Turns
from protocol.errors import BeyondLogEnd, PeerError, RecordsLost, StreamError, UsageError
from protocol.log import Log
from protocol.log_folder import LogFolder, Transaction
from protocol.schema import Schema

KEY: Final = struct.Struct(">HQ")  # big-endian, so that LMDB's order of bytes is the order of offsets
HEAD: Final = struct.Struct("<H")


class StoredLog(Log):
    """What a folder holds of a stream (or of a split of it); a writer in another process may make it grow meanwhile.

    The methods that take a transaction of the folder write; they belong to the one process that does.
    """

    def __init__(self, folder: LogFolder, split: str) -> None:
        info = folder.info(split)
        if info is None:
            raise UsageError(f"{folder.path} holds {'no stream' if not split else f'no split {split!r}'}")
        self.info = info
        self._folder, self._split = folder, split
        self._database = folder.records(split)

    # --- reading -------------------------------------------------------------------------------------------------

    def log_start(self) -> Positions:
        return self._positions("start")

    def log_end(self) -> Positions:
        return self._positions("end")

    @property
    def begun(self) -> bool:
        """Whether a state was ever put: an empty log does not know yet where it starts."""
        with self._folder.reading() as transaction:
            return bool(self._folder.state(transaction, self._split))

    @property
    def ended(self) -> bool:
        with self._folder.reading() as transaction:
            return bool(self._folder.state(transaction, self._split).get("ended"))

    def read(self, partition: int, offset: int, max_records: int) -> Chunk:
        """Small chunks of one stripe come together. The columns are the caller's own."""
        with self._folder.reading() as transaction:
            end = min(offset + max_records, self.info.dealing.stripe_end(offset))
            parts = list(self._parts(transaction, partition, offset, end))
            if not parts:
                start = self._of(transaction, "start")[partition]
                if offset < start:
                    raise RecordsLost(partition, offset, start)
                raise BeyondLogEnd(f"partition {partition} has no offset {offset} yet: it ends before")
            return Chunk(
                partition=partition,
                offset=offset,
                columns=_joined(self.info.schema, [part.columns for part in parts]),
                first_time_ns=parts[0].first_time_ns,
                last_time_ns=parts[-1].last_time_ns,
            )

    def offset_at(self, partition: int, time_ns: int) -> int:
        """Times ascend in a partition; where a clock was set back, any place that fits may be found."""
        with self._folder.reading() as transaction:
            start, end = (self._of(transaction, which)[partition] for which in ("start", "end"))

            def time_at(offset: int) -> int:
                for part in self._parts(transaction, partition, offset, offset + 1):
                    return part.first_time_ns
                raise StreamError(f"{self._folder.path} is damaged: partition {partition} has no offset {offset}")

            return start + bisect_left(range(start, end), time_ns, key=time_at)

    def times_ns(self, partition: int, offset: int, end: int) -> npt.NDArray[np.int64]:
        """Event times of the records from `offset` on and before `end`, [records], in nanoseconds since 1970.

        As they were written: what `read` brings together has lost all but the first and the last.
        """
        with self._folder.reading() as transaction:
            parts = self._parts(transaction, partition, offset, end)
            return np.array([part.time_ns(row) for part in parts for row in range(part.count)], np.int64)

    def in_order(self, start: Positions, end: Positions) -> Iterator[Chunk]:
        """Everything that lies between, in stream order, in memory of its own."""
        turns = Turns(self.info.dealing, start)
        while left := end[turns.partition] - turns.positions[turns.partition]:
            chunk = self.read(turns.partition, turns.positions[turns.partition], left)
            yield chunk
            turns.move(chunk.count)

    def chunks(self) -> Iterator[Chunk]:
        """Everything that is kept, by partition and offset, in memory of its own; there may be gaps."""
        with self._folder.reading() as transaction, transaction.cursor(db=self._database) as cursor:
            for _ in cursor:
                chunk = self._chunk(cursor)
                yield replace(chunk, columns=_joined(self.info.schema, [chunk.columns]))

    # --- writing -------------------------------------------------------------------------------------------------

    def put(self, transaction: Transaction, chunk: Chunk) -> None:
        """Add a chunk; the end moves with `put_state`."""
        frames = to_frames(self.info.schema, chunk.columns)
        sizes = [memoryview(frame).nbytes for frame in frames]
        head = msgpack.packb([chunk.count, chunk.first_time_ns, chunk.last_time_ns, *sizes])
        if self._folder.zstd is not None:
            frames = [self._folder.zstd.pack(b"".join(frames))]
        key, value = KEY.pack(chunk.partition, chunk.offset), b"".join([HEAD.pack(len(head)), head, *frames])
        transaction.put(key, value, db=self._database)

    def put_state(self, transaction: Transaction, *, start: Positions, end: Positions, ended: bool) -> None:
        """Where the log starts and ends from here on, and whether the end is final."""
        self._folder.put_state(transaction, self._split, {"start": start, "end": end, "ended": ended})

    def forget(self, transaction: Transaction, partition: int, start: int, end: int) -> None:
        """Remove the chunks that begin at `start` or later and before `end`."""
        with transaction.cursor(db=self._database) as cursor:
            found = cursor.set_range(KEY.pack(partition, start))
            while found and bytes(cursor.key()) < KEY.pack(partition, end):
                found = cursor.delete()

    def nbytes(self, transaction: Transaction) -> int:
        """Bytes of the pages that the chunks take."""
        said = transaction.stat(self._database)
        return int(said["psize"] * (said["branch_pages"] + said["leaf_pages"] + said["overflow_pages"]))

    # --- inside a transaction ------------------------------------------------------------------------------------

    def _positions(self, which: str) -> Positions:
        with self._folder.reading() as transaction:
            return self._of(transaction, which)

    def _of(self, transaction: Transaction, which: str) -> Positions:
        state = self._folder.state(transaction, self._split)
        return dict(state[which]) if state else dict.fromkeys(range(self.info.dealing.partitions), 0)

    def _parts(self, transaction: Transaction, partition: int, offset: int, end: int) -> Iterator[Chunk]:
        """What lies between, in order and without a gap, over memory that is valid inside the transaction."""
        with transaction.cursor(db=self._database) as cursor:
            key = KEY.pack(partition, offset)
            found = cursor.set_range(key)
            if not found or bytes(cursor.key()) != key:
                found = cursor.prev() if found else cursor.last()  # the chunk that begins before may hold it
            while found and offset < end and KEY.unpack(cursor.key())[0] == partition:
                chunk = self._chunk(cursor)
                if not chunk.offset <= offset < chunk.end:
                    return
                yield chunk.part(offset - chunk.offset, min(chunk.end, end) - chunk.offset)
                offset = chunk.end
                found = cursor.next()

    def _chunk(self, cursor: Any) -> Chunk:
        (partition, offset), value = KEY.unpack(cursor.key()), memoryview(cursor.value())
        try:
            at = HEAD.size + HEAD.unpack_from(value)[0]
            count, first_time_ns, last_time_ns, *sizes = msgpack.unpackb(value[HEAD.size : at])
            body = value[at:]
            if self._folder.zstd is not None:
                body = memoryview(self._folder.zstd.unpack(body, sum(sizes)))
            ends = list(accumulate(sizes, initial=0))
            frames = [body[begin:end] for begin, end in pairwise(ends)]
            return Chunk(
                partition=partition,
                offset=offset,
                columns=from_frames(self.info.schema, count, frames, MAX_CHUNK_BYTES),
                first_time_ns=first_time_ns,
                last_time_ns=last_time_ns,
            )
        except (struct.error, ValueError, TypeError, msgpack.UnpackException, PeerError) as error:
            place = f"partition {partition} from offset {offset} on"
            raise StreamError(f"{self._folder.path} is damaged: {place} cannot be read ({error})") from error


def _joined(schema: Schema, parts: Sequence[Columns]) -> dict[str, Column]:
    """The columns of consecutive chunks, in memory of their own."""
    return {field.name: concatenate(field, [part[field.name] for part in parts]) for field in schema.fields}
