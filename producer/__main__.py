"""`python -m producer`: serve a stream over ZeroMQ."""

import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Literal

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.computed_log import ComputedLog, split_log, stripe_of
from producer.dataset_source import source_from
from producer.exposed import families
from producer.feed import Feed
from producer.pace import Pace
from producer.replay import ReplaySettings, replayed
from producer.replayed_log import ReplayedLog
from producer.server import Server
from producer.service import Service, ServiceSettings
from producer.status import StatusLine
from protocol.class_path import add_class, class_path_in, import_class, say_classes
from protocol.command_line import STOPPING, ArgumentParser, leave_on_signals, run, settings_of
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.exposition import Exposition
from protocol.log import Log
from protocol.messages import STREAM
from protocol.server_socket import ServerSocket

VALIDATION = "validation"
PAGE_EVERY_S = 1.0
DEFAULT_SOURCE = "producer.fashion_mnist.FashionMNIST"

DESCRIPTION = """Serve a stream over ZeroMQ.

A dataset (any class with __len__ and __getitem__) is served as a simulated live stream: pass after pass in a seeded
order, at --rate records a second. Any other iterable of records (mappings of field names to values) is live: it is
served as it comes, from memory or (--log.path) from a log on disk. A recording (--replay) is served again, at the pace
at which it was made. Trainers may come and go; each sees every record.

  python -m producer
  python -m producer --rate 0 --passes 6 --until committed --source.root data
  python -m producer --source torchvision.datasets.CIFAR10 --source.root data --validation 0.1
  python -m producer --source my_camera.Frames --source.device /dev/video0 --log.path frames.log
  python -m producer --replay recordings/monday --pace 10"""


@dataclass(frozen=True, kw_only=True)
class ProducerSettings:
    """What is served, and how."""

    bind: str = "tcp://127.0.0.1:5555"
    """where to listen: tcp://HOST:PORT (a PORT of * picks a free one) or ipc://PATH"""
    keys: str = ""
    """folder of the producer's keys (python -m protocol keygen makes it); without one, whoever reaches it is let in"""
    insecure: bool = False
    """listen without keys where other machines can reach it"""
    partitions: int = 8
    """partitions of the stream; readers share them out among themselves"""
    rate: float = 2000.0
    """records a second that a dataset releases; 0: as fast as trainers read"""
    passes: int = 0
    """passes over a dataset; 0: endless"""
    seed: int = 0
    """orders the passes"""
    validation: int | float = 0
    """records that a dataset without a validation split of its own holds out for it: a number, or a share below 1"""
    splits: dict[str, int | float] = field(default_factory=dict)
    """further splits by name, drawn one after the other, such as '{dark: 500, test: 0.2}'; shares are of all records
    that would be streamed without any"""
    until: Literal["stopped", "committed"] = "stopped"
    """committed: end once the stream has ended and every group has committed all of it"""
    status_every_s: float = 10.0
    """seconds between two status lines; 0: none"""
    metrics: str = ""
    """serve metrics for Prometheus at http://[HOST]:PORT/metrics, such as :9100; without HOST for this machine alone"""

    def __post_init__(self) -> None:
        if min(self.rate, self.passes, self.validation, self.status_every_s) < 0:
            raise UsageError("--rate, --passes, --validation and --status_every_s are 0 or more")
        if self.validation and VALIDATION in self.splits:
            raise UsageError("--validation and --splits both say how many records validation has: give one of them")
        try:
            Dealing(self.partitions, 1)
        except ValueError as error:
            raise UsageError(f"--partitions: {error}") from error

    @property
    def sizes(self) -> dict[str, int | float]:
        """How many records each split has, in the order in which they are drawn."""
        return ({VALIDATION: self.validation} if self.validation else {}) | self.splits


def build_parser(arguments: Sequence[str]) -> tuple[ArgumentParser, type[Any]]:
    """The command line, with the typed arguments of the source that it names."""
    source = import_class(class_path_in(arguments, "source") or DEFAULT_SOURCE, "--source")
    parser = ArgumentParser(prog="python -m producer", usage="python -m producer [options]", description=DESCRIPTION)
    parser.add_argument("--config", metavar="FILE", action="config", help="a YAML file of these settings")
    add_class(parser, "source", source, "class of the source, by its import path; --source.help shows its arguments")
    parser.add_class_arguments(ProducerSettings, None, skip={"insecure"})
    text = "listen without keys where other machines can reach it"
    parser.add_argument("--insecure", action="store_true", help=text)
    parser.add_class_arguments(BadRecordSettings, None)
    recorded = parser.add_argument_group("A recording in place of a source")
    recorded.add_class_arguments(ReplaySettings, None, as_group=False, skip={"loop"})
    text = "begin again at the end, for ever: a stream of its own, whose positions go on growing"
    recorded.add_argument("--loop", action="store_true", help=text)
    kept = parser.add_argument_group("How much a live stream keeps, and what happens when that is full")
    kept.add_class_arguments(LogSettings, "log", as_group=False)
    return parser, source


def main(arguments: Sequence[str]) -> int:
    """Serve until the stream is stopped or, if asked, committed."""
    leave_on_signals()  # nothing is served yet
    say_classes(arguments, "source")
    parser, source = build_parser(arguments)
    config = parser.parse_args(list(arguments))
    settings = settings_of(ProducerSettings, config)
    replay = settings_of(ReplaySettings, config)
    log, bad = settings_of(LogSettings, config.log), settings_of(BadRecordSettings, config)
    if replay.replay:
        live = class_path_in(arguments, "source") or (log, bad) != (LogSettings(), BadRecordSettings())
        _check_replay(replay, settings, live=bool(live))
        _allow_connections()
        _serve(replayed(replay), None, settings, BadRecords(BadRecordSettings()))
        return 0
    if replay != ReplaySettings():
        raise UsageError("--pace, --start, --end, --partition and --loop are of a recording: give --replay DIR as well")
    if settings.until == "committed" and settings.passes == 0 and not _live(source):
        raise UsageError("--until committed needs an end: give --passes N")
    if _live(source) and (settings.passes or settings.sizes):
        raise UsageError(
            "--passes, --validation and --splits are for datasets: a live source gives its records once, as they come"
        )
    if log.path and not _live(source):
        raise UsageError("--log.path is for live sources: a dataset needs no log, it replays for ever")
    if not _live(source) and (bad.on_bad_record != "stop" or bad.reject_nan):
        raise UsageError(
            "--on_bad_record quarantine and --reject_nan are for live sources: a dataset's records have places in "
            "the stream already, so that a bad one stops it"
        )
    _allow_connections()
    made = parser.make(config)
    bad_records = BadRecords(bad)
    logs, feed = _logs(made.source, settings, log, bad_records)
    _serve(logs, feed, settings, bad_records)
    return 0


def _check_replay(replay: ReplaySettings, settings: ProducerSettings, *, live: bool) -> None:
    """A recording has its own of all that `live` sources and datasets are told."""
    plain = ProducerSettings()
    told = ("partitions", "rate", "passes", "seed", "validation", "splits")
    if live or any(getattr(settings, name) != getattr(plain, name) for name in told):
        raise UsageError(
            "--replay serves what was recorded, at its own --pace: leave out --source, --partitions, --rate, --passes, "
            "--seed, --validation, --splits, --log and what is said of bad records"
        )
    if settings.until == "committed" and replay.loop:
        raise UsageError("--until committed needs an end: leave out --loop")


def _serve(logs: dict[str, Log], feed: Feed | None, settings: ProducerSettings, bad_records: BadRecords) -> None:
    service = Service(logs, ServiceSettings(), time.monotonic())
    service.bad_records = bad_records
    # From here on there is an address to release: a signal waits until the server can be told.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    page = Exposition(settings.metrics) if settings.metrics else None
    socket = ServerSocket(settings.bind, keys=settings.keys, insecure=settings.insecure)
    server = Server(service, socket)
    _Life(server, feed, settings, page).live()


def _allow_connections() -> None:
    """Each connection, a stranger's as well, is a descriptor: as many as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _live(source: Any) -> bool:
    """Whether a source, or its class, gives records as they come."""
    return hasattr(source, "__iter__") and not hasattr(source, "__len__")


def _logs(
    source: Any, settings: ProducerSettings, log: LogSettings, bad_records: BadRecords
) -> tuple[dict[str, Log], Feed | None]:
    if _live(source):
        feed = Feed(source, settings.partitions, log, bad_records)
        return {STREAM: feed.log}, feed
    dataset = source_from(source, splits=settings.sizes, seed=settings.seed)
    stream = ComputedLog(
        dataset,
        Dealing(settings.partitions, stripe_of(dataset)),
        seed=settings.seed,
        passes=settings.passes,
        pace=Pace(settings.rate),
    )
    return {STREAM: stream, **{name: split_log(split) for name, split in dataset.splits().items()}}, None


class _Life:
    """One life of the producer, from the first line on the screen to the last."""

    def __init__(self, server: Server, feed: Feed | None, settings: ProducerSettings, page: Exposition | None) -> None:
        self._server, self._feed, self._settings = server, feed, settings
        self._service = server.service
        self._status = StatusLine(settings.status_every_s, time.monotonic())
        self._page = page
        self._page_due_s = 0.0
        self._stopped_by = ""

    def live(self) -> None:
        """Serve; SIGINT and SIGTERM leave without ending the stream, so that trainers wait for the next life."""
        for number in STOPPING:
            signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        self._say_start()
        if self._feed is not None:
            self._feed.log.on_append = self._server.wake
            self._feed.start()
        try:
            self._server.serve(self._each_turn)
            if self._stopped_by:
                print(f"stopped by {self._stopped_by}; trainers wait for the next life", flush=True)
        finally:
            self._server.close()
            if self._page is not None:
                self._page.close()
            for log in self._service.logs.values():
                log.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._stopped_by = signal.Signals(number).name  # said later: a print may be under way
        self._server.stop()

    def _each_turn(self, now_s: float) -> None:
        if self._feed is not None and self._feed.error is not None:
            raise self._feed.error
        if self._settings.status_every_s > 0 and self._status.due(now_s):
            self._say_status(now_s)
        if self._page is not None and now_s >= self._page_due_s:
            self._page_due_s = now_s + PAGE_EVERY_S
            self._page.show(families(self._service, now_s))
        if self._settings.until == "committed" and self._done():
            print("the stream was committed to its end", flush=True)
            self._server.stop()

    def _done(self) -> bool:
        service = self._service
        return service.stream.ended and not service.sessions and bool(len(service.groups)) and service.untaken() == 0

    def _say_start(self) -> None:
        info = self._service.stream.info
        fields = ", ".join(f"{f.name} {f.dtype}{list(f.shape) if f.shape else ''}" for f in info.schema.fields)
        per_pass = "live" if info.records_per_pass is None else f"{info.records_per_pass:,} records a pass"
        print(f"serving {info.source} at {self._server.address}: {per_pass}, {info.dealing.partitions} partitions")
        print(f"  fields: {fields}")
        if info.schema.label is not None and info.schema.label_range is not None:
            low, high = info.schema.label_range
            print(f"  labels: {low} to {high}  {', '.join(info.schema.class_names)}")
        if isinstance(self._service.stream, ReplayedLog):
            print(f"  replay: {self._service.stream.plan}")
        if self._page is not None:
            print(f"  metrics: http://{self._page.address}/metrics")
        for name, size in info.splits.items():
            print(f"  split {name}: {size:,} records")
        sys.stdout.flush()

    def _say_status(self, now_s: float) -> None:
        service = self._service
        line = self._status.line(
            service.sent, service.stream.log_end(), service.group_states(now_s), now_s, service.bad_records.rejected
        )
        print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(run(main))
