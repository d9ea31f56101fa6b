"""tensorcom, as its README streams: a data server publishes whole batches, training iterates over a Connection.

The server gathers its batches from memory, in a new random order each pass; what its PUB socket drops, because
training was too slow, does not count. Training has no DataLoader here, so `--workers` means nothing to it.
"""

import multiprocessing
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tensorcom
import zmq

from benchmarks.peers.measuring import Bytes, measure, parser, training_side


def batches(data: Path, batch_size: int) -> Iterator[list[Bytes | np.ndarray[tuple[int], np.dtype[np.int32]]]]:
    """[images uint8 [B, 1, 28, 28], labels int32 [B]] without end."""
    images, labels = training_side(data)
    classes = labels.astype(np.int32)
    random = np.random.default_rng()
    while True:
        order = random.permutation(len(images))
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            yield [images[rows], classes[rows]]


def serve(data: Path, batch_size: int, address: Connection) -> None:
    """The data server; it tells where it is bound."""
    server = tensorcom.Connection("zpub://127.0.0.1:*")
    address.send(server.socket.getsockopt_string(zmq.LAST_ENDPOINT).removeprefix("tcp://"))
    server.serve(batches(data, batch_size))


def main() -> None:
    """Measure it."""
    arguments = parser().parse_args()
    here, there = multiprocessing.Pipe()
    multiprocessing.Process(target=serve, args=(arguments.data, arguments.batch_size, there), daemon=True).start()
    connection = tensorcom.Connection(f"zsub://{here.recv()}", converters="torch")
    measure(arguments, iter(connection), version=version("tensorcom"))


if __name__ == "__main__":
    main()
