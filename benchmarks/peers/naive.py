"""What one writes first: pickled samples over PUSH/PULL, one a message, in an IterableDataset.

pyzmq's `send_pyobj` pickles. Nothing in headrace may; it is here because this is what headrace is compared with.
"""

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.peers.measuring import measure, parser, training_side


def produce(data: Path, rate: float, port: Connection) -> None:
    """Send (image, label, send time) in a new random order each pass, at most `rate` a second; 0 is without limit."""
    images, labels = training_side(data)
    socket = zmq.Context().socket(zmq.PUSH)
    port.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    count, start_s = 0, time.monotonic()
    while True:
        for i in np.random.permutation(len(images)):  # noqa: NPY002  (as one writes it)
            if rate and (ahead_s := start_s + count / rate - time.monotonic()) > 0:
                time.sleep(ahead_s)
            socket.send_pyobj((images[i], int(labels[i]), time.monotonic()))
            count += 1


class Stream(IterableDataset[Any]):
    """What arrives; each worker pulls its share."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __iter__(self) -> Iterator[Any]:
        socket = zmq.Context().socket(zmq.PULL)
        socket.connect(f"tcp://127.0.0.1:{self.port}")
        while True:
            yield socket.recv_pyobj()


def main() -> None:
    """Measure it."""
    made = parser()
    made.add_argument("--rate", type=float, default=0.0, help="samples a second; 0: as fast as they are taken")
    arguments = made.parse_args()
    here, there = multiprocessing.Pipe()
    multiprocessing.Process(target=produce, args=(arguments.data, arguments.rate, there), daemon=True).start()
    loader = DataLoader(Stream(here.recv()), batch_size=arguments.batch_size, num_workers=arguments.workers)
    measure(arguments, iter(loader), version=f"pyzmq {zmq.__version__}", keys=(0, 1, 2))


if __name__ == "__main__":
    main()
