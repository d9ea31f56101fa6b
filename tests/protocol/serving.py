"""A real server on a real socket, in a thread of the test's own process."""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from producer.computed_log import ComputedLog
from producer.server import Server
from producer.service import Service, ServiceSettings
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.log import Log
from protocol.schema import Field, Schema
from protocol.server_socket import ServerSocket
from protocol.subscription import Event

ANY_PORT = "tcp://127.0.0.1:*"
ID = Schema((Field("id", "int64"),))


def numbered(count: int) -> ColumnSource:
    """Records 0 to `count` - 1, each its own number."""
    return ColumnSource("numbers", ID, {"id": np.arange(count)})


def computed(count: int = 1000, partitions: int = 4, stripe: int = 16) -> ComputedLog:
    """One pass over so many numbers, in order."""
    return ComputedLog(numbered(count), Dealing(partitions, stripe), passes=1, shuffle=False)


@contextmanager
def serving(
    log: Log,
    *,
    url: str = ANY_PORT,
    splits: Mapping[str, Log] | None = None,
    settings: ServiceSettings | None = None,
    keys: Path | None = None,
) -> Iterator[Server[Service]]:
    """A server that serves while the context is open; what its thread raised is raised at the end.

    With a folder that `make_keys` has made it lets in only whom it knows.
    """
    service = Service({"": log, **(splits or {})}, settings or ServiceSettings(), time.monotonic())
    server = Server(service, ServerSocket(url, keys=keys / "producer" if keys else ""))
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve()
        except BaseException as error:  # noqa: BLE001  (raised again below)
            errors.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()
        server.close()
    if errors:
        raise errors[0]


def one_by_one(read: Iterator[list[Event]]) -> Generator[Event | None, None, None]:
    """What a reader gives, an event at a time; None where it had none."""
    for events in read:
        yield from events
        if not events:
            yield None
