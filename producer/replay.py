"""`--replay DIR`: what of a recording is served, and how fast."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from producer.recorded_part import RecordedPart
from producer.replayed_log import ReplayedLog
from protocol.beginning import WAYS, moment
from protocol.errors import UsageError
from protocol.log import Log
from protocol.log_folder import LogFolder


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """A recording in place of a source."""

    replay: str = ""
    """folder of a recording, or of a log on disk, to serve in place of a source"""
    pace: float = 1.0
    """1: as the records were made; 10: ten times as fast; 0: as fast as trainers read"""
    start: str = ""
    """where the replay starts: a record's number in the stream (with --partition its offset), a time
    (2026-11-26T07:30) or a time ago (2h); its beginning if it is not given"""
    end: str = ""
    """the first record that is not replayed, said as --start"""
    partition: int | None = None
    """replay this partition alone, as a stream of its own"""
    loop: bool = False
    """begin again at the end, for ever: a stream of its own, whose positions go on growing"""

    def __post_init__(self) -> None:
        if not (isfinite(self.pace) and self.pace >= 0):
            raise UsageError("--pace is 0 or more")


def replayed(settings: ReplaySettings) -> tuple[ReplayedLog, dict[str, Log]]:
    """The stream, and its splits by name, out of the folder. Raises `UsageError` where there is nothing to replay."""
    folder = LogFolder(Path(settings.replay).expanduser())
    try:
        part = RecordedPart(folder, partition=settings.partition)
        there = f"there are the records {part.first} to {part.end - 1}" if part.records else "it is empty"
        first, end = _number(part, "--start", settings.start), _number(part, "--end", settings.end)
        part.cut(part.first if first is None else first, part.end if end is None else end)
        if not part.records:
            raise UsageError(f"{settings.replay} has no record to replay from --start to --end: {there}")
        splits: dict[str, Log] = {split: ReplayedLog(RecordedPart(folder, split)) for split in part.info.splits}
        return ReplayedLog(part, pace=settings.pace, loop=settings.loop), splits
    except BaseException:
        folder.close()
        raise


def _number(part: RecordedPart, option: str, said: str) -> int | None:
    """The number of the record at a place that somebody has typed; None where nothing was."""
    if not said or said.isdecimal():
        return int(said) if said else None
    try:
        return part.number_at(moment(said))
    except ValueError as error:
        raise UsageError(f"{option} {said!r} is no place in a recording: give a record's number, {WAYS}") from error
