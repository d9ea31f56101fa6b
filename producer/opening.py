"""Opening what is to be served: a dataset, a source that gives records as they come, what others push, a recording.

What does not go together is said before anything is opened.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.computed_log import ComputedLog, split_log, stripe_of
from producer.dataset_source import source_from
from producer.drift import Drift, Schedule, read_schedule
from producer.feed import Feed
from producer.inlet import InletSettings
from producer.inlet_feed import InletFeed
from producer.intake import Intake
from producer.open_log import INLET, open_log
from producer.pace import Pace
from producer.replay import ReplaySettings, replayed
from producer.settings import ProducerSettings
from producer.source_kind import Kind, kind_of
from protocol.command_line import STOPPING
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.log import Log
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.server_socket import WRITERS, ServerSocket


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A stream with its splits, and what feeds it; `kind` and `remarks` say of both what people should know."""

    logs: Mapping[str, Log]
    feed: Feed | InletFeed | None
    kind: str
    remarks: Sequence[str] = ()
    socket: ServerSocket | None = None
    """Where readers come, where that had to be open before."""


# --- what goes together ------------------------------------------------------------------------------------------


def check_source(kind: Kind, settings: ProducerSettings, log: LogSettings, bad: BadRecordSettings) -> None:
    """Raise `UsageError` for settings that a source of this kind has no use for."""
    if kind != "dataset":
        _check_no_dataset(settings)
        return
    if settings.until == "committed" and settings.passes == 0:
        raise UsageError("--until committed needs an end: give --passes N")
    if log.path:
        raise UsageError("--log.path is for live sources: a dataset needs no log, it replays for ever")
    if bad.on_bad_record != "stop" or bad.reject_nan:
        raise UsageError(
            "--on_bad_record quarantine and --reject_nan are for live sources: a dataset's records have places in "
            "the stream already, so that a bad one stops it"
        )


def check_inlet(settings: ProducerSettings, *, source_told: bool) -> None:
    """The same for an inlet."""
    if source_told:
        raise UsageError("--inlet takes the place of --source: give one of them")
    _check_no_dataset(settings)
    if settings.drift:
        raise UsageError("--drift is for sources: what is pushed at an inlet stays as it is")
    if settings.until == "committed" and not settings.inlet_ends:
        raise UsageError("--until committed needs an end: give --inlet_ends true")


def check_replay(replay: ReplaySettings, settings: ProducerSettings, *, others_told: bool) -> None:
    """The same for a recording; `others_told` says that something was told of sources or logs."""
    if not replay.replay:
        if replay != ReplaySettings():
            raise UsageError(
                "--pace, --start, --end, --partition and --loop are of a recording: give --replay DIR as well"
            )
        return
    plain = ProducerSettings()
    told = ("partitions", "rate", "passes", "seed", "validation", "splits", "drift", "inlet")
    if others_told or any(getattr(settings, name) != getattr(plain, name) for name in told):
        raise UsageError(
            "--replay serves what was recorded, at its own --pace: leave out --source, --inlet, --partitions, --rate, "
            "--passes, --seed, --validation, --splits, --drift, --log and what is said of bad records"
        )
    if settings.until == "committed" and replay.loop:
        raise UsageError("--until committed needs an end: leave out --loop")


def _check_no_dataset(settings: ProducerSettings) -> None:
    if settings.passes or settings.sizes:
        raise UsageError(
            "--passes, --validation and --splits are for datasets: a live source gives its records once, as they come"
        )


# --- opening it --------------------------------------------------------------------------------------------------


def open_source(source: Any, settings: ProducerSettings, log: LogSettings, bad_records: BadRecords) -> Opened:
    """A dataset as a simulated live stream; or records as they come."""
    if kind_of(source) == "dataset":
        return _open_dataset(source, settings)
    feed = Feed(source, settings.partitions, log, bad_records, _drift(settings))
    return Opened(logs={STREAM: feed.log}, feed=feed, kind=feed.kind, remarks=[f"promise: {feed.promise}"])


def _open_dataset(dataset: Any, settings: ProducerSettings) -> Opened:
    drift = _drift(settings)
    source = source_from(dataset, splits=settings.sizes, seed=settings.seed)
    stream = ComputedLog(
        source,
        Dealing(settings.partitions, stripe_of(source)),
        seed=settings.seed,
        passes=settings.passes,
        pace=Pace(settings.rate),
        drift=Drift(drift, source.schema) if drift else None,
    )
    splits = {name: split_log(split) for name, split in source.splits().items()}
    return Opened(logs={STREAM: stream, **splits}, feed=None, kind=f"{stream.info.records_per_pass:,} records a pass")


def _drift(settings: ProducerSettings) -> Schedule | None:
    return read_schedule(settings.drift, settings.seed) if settings.drift else None


def open_inlet(settings: ProducerSettings, log: LogSettings, bad_records: BadRecords) -> Opened:
    """What other programs push, once the first has said what a record is.

    What is wrong with folder or addresses is said before a writer is awaited.
    """
    if log.path:
        LogFolder(Path(log.path).expanduser(), write=True).close()
    intake = Intake(partial(open_log, partitions=settings.partitions, settings=log, source=INLET), bad_records)
    with ExitStack() as opened:
        # With a sink no reader comes here.
        readers = None if settings.sink else opened.enter_context(closing(open_socket(settings)))
        writers = ServerSocket(settings.inlet, keys=settings.keys, insecure=settings.insecure, door=WRITERS)
        opened.enter_context(closing(writers))
        for number in STOPPING:  # there are addresses to release
            signal.signal(number, signal.default_int_handler)
        feed = InletFeed(writers, intake, InletSettings(ends=settings.inlet_ends))
        stream = feed.wait_for_log()
        opened.pop_all()
    return Opened(logs={STREAM: stream}, feed=feed, kind="live", remarks=[f"inlet: {feed.address}"], socket=readers)


def open_replay(replay: ReplaySettings) -> Opened:
    """A recording, as it was recorded."""
    stream, splits = replayed(replay)
    return Opened(logs={STREAM: stream, **splits}, feed=None, kind="a recording", remarks=[f"replay: {stream.plan}"])


def open_socket(settings: ProducerSettings) -> ServerSocket:
    """Where readers come."""
    return ServerSocket(settings.bind, keys=settings.keys, insecure=settings.insecure)
