"""A reader of a folder: a recording, or the log on disk of a producer, without any producer."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from protocol.dealing import Positions, Turns
from protocol.errors import BeyondLogEnd, RecordsLost, StreamReplaced, lost_between
from protocol.log_folder import LogFolder
from protocol.messages import STREAM, Description
from protocol.reader import OnWait, Reader
from protocol.stored_log import StoredLog
from protocol.subscription import Ended, Event, Expired, Heard, Progress, Subscribed, Subscription, Waited
from protocol.waits import SAY_EVERY_S

FILE: Final = "file://"
#: A log that is being written is asked this often whether it has grown.
POLL_S: Final = 0.05
#: Chunks that are handed over together, as over a socket.
TOGETHER: Final = 4


class FileReader(Reader):
    """Reads what the folder holds, in stream order; while another process writes it, waits for more.

    There is nobody to speak to, so groups and commits mean nothing here. The folder is open only while something is
    asked: LMDB lets a process open it once.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._path = Path(url.removeprefix(FILE)).expanduser()

    def describe(
        self,
        split: str = STREAM,
        *,
        time_ns: int | None = None,
        timeout_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Description:
        del timeout_s, on_wait
        with LogFolder(self._path) as folder:
            log = StoredLog(folder, split)
            ended = _final(folder, log)
            return Description(
                request=0,
                info=log.info,
                log_start=log.log_start(),
                log_end=log.log_end(),
                ended=ended,
                uptime_s=0.0,
                refused=0,
                groups=(),
                at=None if time_ns is None else log.at(time_ns),
            )

    def read(
        self, subscription: Subscription, *, progress: Callable[[], Progress] = Progress, idle_s: float = 1.0
    ) -> Iterator[list[Event]]:
        del progress
        with LogFolder(self._path) as folder:
            log = StoredLog(folder, subscription.split)
            if subscription.incarnation not in (None, log.info.incarnation):
                raise StreamReplaced(str(subscription.incarnation), log.info.incarnation)
            _check(log, subscription)
            yield [Subscribed(log.info)]
            yield from _follow(folder, log, subscription, idle_s)

    def stay(self) -> None:
        """Nobody waits for a sign of life."""

    def commit(self, group: str, incarnation: str, positions: Positions, *, timeout_s: float) -> None:
        """Nothing is forgotten by a reader."""

    def drop(self, group: str, *, timeout_s: float) -> bool:
        del group, timeout_s
        return False

    def close(self) -> None:
        """Nothing is open between two questions."""


def _follow(folder: LogFolder, log: StoredLog, asked: Subscription, idle_s: float) -> Iterator[list[Event]]:
    turns = Turns(log.info.dealing, asked.positions)
    said_s = heard_s = time.monotonic()
    spent_s = 0.0
    while True:
        began_s = time.monotonic()
        events = _next(log, turns, pass_lost=asked.pass_lost)
        if not events:
            final = _final(folder, log)  # asked before the last look, so that nothing slips in between
            events = _next(log, turns, pass_lost=asked.pass_lost)
            if final and not events:
                yield [Ended(turns.positions)]
                return
            if not events:
                time.sleep(POLL_S)
        now_s = time.monotonic()
        spent_s += now_s - began_s
        if now_s - heard_s >= SAY_EVERY_S:
            end = log.log_end()
            heard = Heard({partition: end[partition] for partition in turns.positions}, save_soon=False)
            events = [Waited(source_s=spent_s, wire_s=0.0, reader_s=0.0), heard, *events]
            heard_s, spent_s = now_s, 0.0
        if events or now_s - said_s >= idle_s:
            yield events
            said_s = time.monotonic()


def _next(log: StoredLog, turns: Turns, *, pass_lost: bool) -> list[Event]:
    """The next chunks, or where retention was quicker and that is to be passed over, what was lost."""
    try:
        return _chunks(log, turns)
    except RecordsLost:
        if not pass_lost:
            raise
    log_start = log.log_start()
    lost = lost_between(turns.positions, log_start)
    for each in lost:
        turns.skip(each.partition, each.end)
    return [Expired(lost, log_start)]


def _chunks(log: StoredLog, turns: Turns) -> list[Event]:
    """The next chunks in stream order, a few at most; none where the partition whose turn it is has no more."""
    chunks: list[Event] = []
    end = log.log_end()
    while len(chunks) < TOGETHER and (left := end[turns.partition] - turns.positions[turns.partition]) > 0:
        try:
            chunk = log.read(turns.partition, turns.positions[turns.partition], left)
        except RecordsLost:
            if chunks:
                break  # what was read goes first
            raise
        chunks.append(chunk)
        turns.move(chunk.count)
    return chunks


def _final(folder: LogFolder, log: StoredLog) -> bool:
    """Whether nothing will be added: it was ended, or nobody is there who could."""
    return log.ended or not folder.written_now


def _check(log: StoredLog, asked: Subscription) -> None:
    lost, end = lost_between(asked.positions, log.log_start()), log.log_end()
    if lost and not asked.pass_lost:
        raise RecordsLost(*lost[0][:3], lost[1:])
    for partition, offset in asked.positions.items():
        if offset > end[partition]:
            raise BeyondLogEnd(f"partition {partition} ends at {end[partition]}, before the position {offset}")
