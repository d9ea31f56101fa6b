"""A capture program with a log on disk: `python -m tests.faults.capture URL FOLDER FIRST COUNT DURABLE`.

It sends the records FIRST to FIRST + COUNT - 1 and writes into the file DURABLE, a line each time, how many of them
`flush` has reported durable; then it ends the stream and waits until all of it was taken.
"""

import os
import random
import sys
from pathlib import Path

import numpy as np

from producer import Publisher
from protocol.schema import Field, Schema

PAYLOAD_BYTES = 1 << 15
SCHEMA = Schema((Field("id", "int64"), Field("payload", "uint8", (PAYLOAD_BYTES,))))


def main(url: str, folder: str, first: int, count: int, durable: Path) -> None:
    """Send in pieces of changing size, some flushed and some not."""
    drawn = random.Random(first)
    with Publisher(url, path=folder, schema=SCHEMA, partitions=4, linger_ms=2.0) as stream, durable.open("a") as said:
        sent = 0
        while sent < count:
            ids = np.arange(first + sent, first + min(count, sent + drawn.randint(1, 40)))
            payload = np.broadcast_to((ids % 251).astype(np.uint8)[:, None], (len(ids), PAYLOAD_BYTES))
            stream.send_columns(id=ids, payload=payload)
            sent += len(ids)
            if drawn.random() < 0.5:
                stream.flush()
                os.write(said.fileno(), f"{sent}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
