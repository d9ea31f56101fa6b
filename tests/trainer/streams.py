"""Streams served from a thread of the test's own process."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from producer.computed_log import ComputedLog, stripe_of
from producer.pace import Pace
from producer.server import Server
from producer.service import Service, ServiceSettings
from producer.source import Source
from protocol.dealing import Dealing
from protocol.log import Log
from protocol.messages import STREAM, GroupState
from protocol.open_reader import open_reader
from protocol.server_socket import ServerSocket
from trainer.batch import Batch

ANY_PORT = "tcp://127.0.0.1:*"


@contextmanager
def serving(log: Log, *, url: str = ANY_PORT, splits: Mapping[str, Log] | None = None) -> Iterator[str]:
    """Where the log can be read while the context is open."""
    server = Server(Service({STREAM: log, **(splits or {})}, ServiceSettings(), time.monotonic()), ServerSocket(url))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()
        server.close()


def computed(source: Source, *, partitions: int = 8, passes: int = 1, rate: float = 0, seed: int = 0) -> ComputedLog:
    """The source as a stream, in stripes that fit its records."""
    return ComputedLog(source, Dealing(partitions, stripe_of(source)), seed=seed, passes=passes, pace=Pace(rate))


def ids(batches: Iterable[Batch]) -> list[int]:
    """The ids of all records, in the order in which they came."""
    return [record for batch in batches for record in batch["id"].tolist()]


def group(url: str, name: str) -> GroupState:
    """A training run as the producer knows it."""
    return next(state for state in groups(url) if state.name == name)


def groups(url: str) -> tuple[GroupState, ...]:
    """All training runs that the producer knows."""
    with open_reader(url) as reader:
        return reader.describe(timeout_s=5).groups
