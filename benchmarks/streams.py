"""A producer in a process of its own, and what it serves."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.measure import Columns
from producer.computed_log import ComputedLog, stripe_of
from producer.fashion_mnist import SCHEMA
from producer.fashion_mnist_files import read_side
from producer.pace import Pace
from producer.server import Server
from producer.service import Service, ServiceSettings
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.log import Log
from protocol.messages import STREAM
from protocol.server_socket import ServerSocket

ANY_PORT = "tcp://127.0.0.1:*"
PARTITIONS = 8


@dataclass(frozen=True)
class Serving:
    """A producer that serves."""

    url: str
    pid: int


def pictures(data: str) -> Columns:
    """The 60,000 training pictures of FashionMNIST: `id`, `image` uint8 [1, 28, 28], `label`."""
    images, labels = read_side(Path(data), "train")
    count = len(labels)
    return {
        "id": np.arange(count, dtype=np.int64),
        "image": images.reshape(count, 1, *images.shape[1:]),
        "label": labels.astype(np.int64),
    }


def picture_source(data: str) -> ColumnSource:
    """Them as a source; the fields are those of `producer.fashion_mnist`."""
    return ColumnSource("FashionMNIST", SCHEMA, pictures(data))


def endless(source: ColumnSource, *, partitions: int = PARTITIONS, rate: float = 0) -> ComputedLog:
    """Pass after pass, as fast as readers take or at `rate` records a second."""
    return ComputedLog(source, Dealing(partitions, stripe_of(source)), pace=Pace(rate))


@contextmanager
def serving(log: Log, keys: str = "") -> Iterator[Serving]:
    """The log, served by a process of its own while the context is open; `keys` is a producer's folder of keys."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(log, theirs, keys), daemon=True)
    process.start()
    theirs.close()
    try:
        assert process.pid is not None
        yield Serving(ours.recv(), process.pid)
        if not process.is_alive():
            raise RuntimeError(f"the producer has ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(log: Log, address: Connection, keys: str) -> None:
    server = Server(Service({STREAM: log}, ServiceSettings(), time.monotonic()), ServerSocket(ANY_PORT, keys=keys))
    address.send(server.address)
    server.serve()
