"""The part of a recording that is replayed: consecutive records, by their numbers in stream order."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from producer.source import content_digest
from protocol.chunk import Chunk
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.stored_log import StoredLog
from protocol.stream import StreamInfo


class RecordedPart:
    """The records `first` to `end` - 1 of a log in a folder, as far as it reached when this was made.

    With a `partition` they are those of this partition alone, by their offsets: a stream of its own, which has no
    other. Raises `UsageError` where there is no such partition.
    """

    def __init__(self, folder: LogFolder, split: str = STREAM, partition: int | None = None) -> None:
        self._folder, self._only = folder, partition
        self._stored = stored = StoredLog(folder, split)
        self.info: StreamInfo = stored.info
        partitions, start, end = stored.info.dealing.partitions, stored.log_start(), stored.log_end()
        if partition is None:
            of = stored.info.dealing
            self.first = max(of.record(p, offset - 1) + 1 if offset else 0 for p, offset in start.items())
            self.end = max(self.first, min(of.record(p, offset) for p, offset in end.items()))
        elif partition not in start:
            raise UsageError(f"--partition {partition}: the recording has the partitions 0 to {partitions - 1}")
        else:
            self.first, self.end = start[partition], end[partition]
            self.info = replace(
                stored.info,
                incarnation=content_digest("a partition", stored.info.incarnation, partition),
                dealing=Dealing(1, stored.info.dealing.stripe),
                records_per_pass=None,
                changes=(),  # they are told in the numbers of the whole stream
            )

    @property
    def records(self) -> int:
        """How many there are."""
        return self.end - self.first

    def cut(self, first: int, end: int) -> None:
        """Keep what lies between these numbers, if anything does."""
        self.first = min(max(first, self.first), self.end)
        self.end = max(self.first, min(end, self.end))

    def read(self, number: int, most: int) -> Chunk:
        """Records from this number on: at least one, at most `most`, none of another stripe or beyond the end."""
        return self._stored.read(*self._place(number), min(most, self.end - number))

    def times_ns(self, number: int) -> npt.NDArray[np.int64]:
        """Event times from this record on, as far as its stripe and the part reach, [records], in nanoseconds."""
        partition, offset = self._place(number)
        end = min(self.info.dealing.stripe_end(offset), offset + self.end - number)
        return self._stored.times_ns(partition, offset, end)

    def time_ns(self, number: int) -> int:
        """Event time of one record."""
        return int(self.times_ns(number)[0])

    def number_at(self, time_ns: int) -> int:
        """The first record whose event time is not before `time_ns`; the end where there is none."""
        if self._only is not None:
            found = self._stored.offset_at(self._only, time_ns)
        else:
            found = min(self.info.dealing.record(p, offset) for p, offset in self._stored.at(time_ns).items())
        return min(max(found, self.first), self.end)

    def close(self) -> None:
        """Release the folder."""
        self._folder.close()

    def _place(self, number: int) -> tuple[int, int]:
        return self.info.dealing.locate(number) if self._only is None else (self._only, number)
