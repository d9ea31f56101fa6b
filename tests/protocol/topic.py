"""A stream that many write, in a folder: a file of numbers a partition, which its writers fill in any order."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.errors import Lost, PartitionsAdded, RecordsLost, StreamReplaced, StreamTimeout
from protocol.messages import STREAM, Description
from protocol.reader import OnWait, Reader
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.subscription import Absent, Ended, Event, Expired, Heard, Progress, Subscribed, Subscription

#: Stands at an offset that has no record.
NOTHING: Final = -1
#: Records of a chunk at most.
MOST: Final = 7
SCHEMA: Final = Schema((Field("id", "int64"), Field("label", "int64")), label="label")


class Topic:
    """The folder, as its writers see it. Each record is an id, which is its event time as well."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self.folder = folder
        self.add(partitions)

    def add(self, partitions: int) -> None:
        """So many partitions more."""
        before = len(_files(self.folder))
        for partition in range(before, before + partitions):
            (self.folder / f"{partition:04}.ids").touch()

    def write(self, partition: int, ids: Iterable[int]) -> None:
        """These records come next; NOTHING for an offset without one."""
        with (self.folder / f"{partition:04}.ids").open("ab") as file:
            file.write(np.array(list(ids), np.int64).tobytes())

    def forget(self, partition: int, end: int) -> None:
        """What lies before this offset is gone."""
        starts = _starts(self.folder) | {partition: end}
        self._put("starts", json.dumps(starts))

    def tell(self, partitions: int | None) -> None:
        """Whoever asks what the stream is hears of so many partitions; of 0: nobody answers; None: of all."""
        if partitions is None:
            (self.folder / "told").unlink()
        else:
            self._put("told", str(partitions))

    def replace(self) -> None:
        """From here on it is another stream, without records."""
        (self.folder / "again").touch()
        for file in _files(self.folder):
            file.write_bytes(b"")

    def end(self) -> None:
        """Nothing more will come."""
        (self.folder / "ended").touch()

    def _put(self, name: str, text: str) -> None:
        """At once, since somebody may be reading."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)

    @property
    def ended(self) -> bool:
        """Whether that was said."""
        return (self.folder / "ended").exists()

    def kept(self) -> list[int]:
        """The ids of all records that are not forgotten, partition by partition."""
        starts = _starts(self.folder)
        found = (np.fromfile(file, np.int64)[starts.get(p, 0) :] for p, file in enumerate(_files(self.folder)))
        return [int(each) for ids in found for each in ids if each != NOTHING]


class TopicReader(Reader):
    """Reads a folder: its own partitions in turn, as far as each has something."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        began_s = time.monotonic()
        while (told := _told(self._folder)) == 0:
            if timeout_s is not None and time.monotonic() - began_s > timeout_s:
                raise StreamTimeout(f"nobody answers at {self._folder}")
            if on_wait is not None:
                on_wait(time.monotonic() - began_s)
            time.sleep(0.01)
        return self._described(_files(self._folder)[:told])

    def _described(self, files: Sequence[Path]) -> Description:
        again = "-again" if (self._folder / "again").exists() else ""
        dealing = Dealing(len(files), MOST)
        info = StreamInfo(incarnation=f"{self._folder.name}{again}", schema=SCHEMA, dealing=dealing, order="arrival")
        return Description(
            request=0,
            info=info,
            log_start={partition: _starts(self._folder).get(partition, 0) for partition in range(len(files))},
            log_end={partition: file.stat().st_size // 8 for partition, file in enumerate(files)},
            ended=self._ended,
            uptime_s=0.0,
            refused=0,
            groups=(),
        )

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        at = dict(subscription.positions)
        yield [Subscribed(self._now.info)]
        while True:
            ended, now = self._ended, len(_files(self._folder))
            if subscription.partitions is not None and now > subscription.partitions:
                raise PartitionsAdded(subscription.partitions, now)
            events = [event for partition in at for event in self._next(partition, at, subscription)]
            heard = Heard({p: end for p, end in self._now.log_end.items() if p in at}, save_soon=False)
            if subscription.incarnation not in (None, found := self._now.info.incarnation):
                raise StreamReplaced(str(subscription.incarnation), found)  # what was read may be that one's
            if ended and not events:
                yield [Ended(at)]
                return
            yield events or [heard]
            if not events:
                time.sleep(0.01)

    def _next(self, partition: int, at: Positions, subscription: Subscription) -> Iterator[Event]:
        first, starts = at[partition], self._now.log_start
        if first < starts[partition]:
            at[partition] = starts[partition]
            if not subscription.pass_lost:
                raise RecordsLost(partition, first, starts[partition])
            yield Expired((Lost(partition, first, starts[partition]),), starts)
            return
        ids = np.fromfile(_files(self._folder)[partition], np.int64, MOST, offset=8 * first)
        if not len(ids):
            return
        bounds = np.flatnonzero(np.diff(ids) != (ids[0] != NOTHING))
        ids = ids[: int(bounds[0]) + 1 if len(bounds) else None]  # consecutive ones, or none
        at[partition] = end = first + len(ids)
        if ids[0] == NOTHING:
            yield Absent(partition, first, end)
        else:
            yield Chunk(partition, first, {"id": ids, "label": ids % 10}, int(ids[0]), int(ids[-1]))

    @property
    def _now(self) -> Description:
        return self._described(_files(self._folder))

    @property
    def _ended(self) -> bool:
        return (self._folder / "ended").exists()

    def stay(self) -> None:
        """Nobody waits for a sign of life."""

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        """What is committed is what a run needs no more; here nothing is forgotten by it."""

    def drop(self, group: str, *, timeout_s: float) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open between two looks."""


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.ids"))


def _told(folder: Path) -> int | None:
    said = folder / "told"
    return int(said.read_text()) if said.exists() else None


def _starts(folder: Path) -> Positions:
    said = folder / "starts"
    return {int(partition): start for partition, start in json.loads(said.read_text()).items()} if said.exists() else {}
