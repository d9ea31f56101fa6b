"""`python -m producer`: serve a stream over ZeroMQ."""

import resource
import signal
import time
from collections.abc import Sequence
from typing import Any

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.generator import add_source, import_source, made_source
from producer.life import Life
from producer.opening import (
    check_inlet,
    check_replay,
    check_source,
    open_inlet,
    open_replay,
    open_socket,
    open_source,
)
from producer.replay import ReplaySettings
from producer.server import Server
from producer.service import Service, ServiceSettings
from producer.settings import ProducerSettings
from producer.sink_life import SinkLife
from producer.source_kind import kind_of
from protocol.class_path import class_path_in, say_classes
from protocol.command_line import STOPPING, ArgumentParser, leave_on_signals, run, settings_of
from protocol.errors import UsageError
from protocol.exposition import Exposition

DEFAULT_SOURCE = "producer.fashion_mnist.FashionMNIST"

DESCRIPTION = """Serve a stream over ZeroMQ.

A dataset (any class with __len__ and __getitem__) is served as a simulated live stream: pass after pass in a seeded
order, at --rate records a second. Any other iterable, or generator function, of records (mappings of field names to
values) is live: it is served as it comes, from memory or (--log.path) from a log on disk. One that takes `resume_at`
is asked to go on where the log on disk has ended. What programs in any language push at an --inlet is live as well. A
recording (--replay) is served again, at the pace at which it was made. Trainers may come and go; each sees every
record.

  python -m producer
  python -m producer --rate 0 --passes 6 --until committed --source.root data
  python -m producer --source torchvision.datasets.CIFAR10 --source.root data --validation 0.1
  python -m producer --drift examples/changes.yaml
  python -m producer --source my_camera.Frames --source.device /dev/video0 --log.path frames.log
  python -m producer --source my_camera.Frames --source.device /dev/video0 --check
  python -m producer --inlet tcp://127.0.0.1:5556 --log.path pushed.log
  python -m producer --replay recordings/monday --pace 10"""


def build_parser(arguments: Sequence[str]) -> tuple[ArgumentParser, type[Any]]:
    """The command line, with the typed arguments of the source that it names."""
    source = import_source(class_path_in(arguments, "source") or DEFAULT_SOURCE, "--source")
    parser = ArgumentParser(prog="python -m producer", usage="python -m producer [options]", description=DESCRIPTION)
    parser.add_argument("--config", metavar="FILE", action="config", help="a YAML file of these settings")
    text = "class or generator function of the source, by its import path; --source.help shows its arguments"
    add_source(parser, "source", source, text)
    parser.add_class_arguments(ProducerSettings, None, skip={"insecure"})
    text = "listen without keys where other machines can reach it"
    parser.add_argument("--insecure", action="store_true", help=text)
    text = "read the source without serving it, and say what it gives and what would go wrong; status 2 if anything"
    parser.add_argument("--check", action="store_true", help=text)
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
    settings, replay = settings_of(ProducerSettings, config), settings_of(ReplaySettings, config)
    log, bad = settings_of(LogSettings, config.log), settings_of(BadRecordSettings, config)
    # Printed settings name the default source, whatever takes its place.
    named = any(each.startswith("--source") for each in arguments)
    told = named or class_path_in(arguments, "source") not in (None, DEFAULT_SOURCE)
    check_replay(replay, settings, others_told=told or (log, bad) != (LogSettings(), BadRecordSettings()))
    if settings.inlet:
        check_inlet(settings, source_told=told)
    elif not replay.replay:
        check_source(kind_of(source), settings, log, bad)
    if config.check:
        if settings.inlet or replay.replay:
            raise UsageError("--check reads a source: leave out --inlet and --replay")
        return _check(made_source(source, parser.make(config).source), settings, log, bad)
    _allow_connections()
    bad_records = BadRecords(bad)
    page = Exposition(settings.metrics) if settings.metrics else None
    if replay.replay:
        opened = open_replay(replay)
    elif settings.inlet:
        opened = open_inlet(settings, log, bad_records)
    else:
        opened = open_source(made_source(source, parser.make(config).source), settings, log, bad_records)
    # From here on there is an address to release: a signal waits until the server can be told.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    if settings.sink:
        SinkLife(opened, settings).live()
        return 0
    service = Service(opened.logs, ServiceSettings(), time.monotonic())
    service.bad_records = bad_records
    Life(Server(service, opened.socket or open_socket(settings)), opened, settings, page).live()
    return 0


def _check(source: Any, settings: ProducerSettings, log: LogSettings, bad: BadRecordSettings) -> int:
    from producer.check import CheckSettings, check  # brings rich, which serving does without

    return check(source, CheckSettings(partitions=settings.partitions, log=log, bad=bad))


def _allow_connections() -> None:
    """Each connection, a stranger's as well, is a descriptor: as many as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    raise SystemExit(run(main))
