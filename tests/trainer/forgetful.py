"""A live stream whose log forgets the oldest records; the payloads are those that tests/trainer/counting.py expects."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from producer.append_log import AppendLog
from producer.publisher import Publisher
from protocol.dealing import Dealing

PAYLOAD_BYTES: Final = 1 << 15
#: Stripes of 64 such records.
DEALING: Final = Dealing(2, 64)


@contextmanager
def forgetful() -> Iterator[Publisher]:
    """It keeps four stripes at most."""
    publisher = Publisher("tcp://127.0.0.1:*", partitions=DEALING.partitions, max_bytes=9 << 20, full="drop-oldest")
    try:
        yield publisher
    finally:
        publisher.abandon()


def publish(publisher: Publisher, first: int, end: int) -> None:
    """The records with these ids."""
    for start in range(first, end, DEALING.stripe):
        numbers = range(start, min(start + DEALING.stripe, end))
        publisher.send_columns(id=np.array(numbers), payload=payload(numbers))


def payload(numbers: Sequence[int]) -> npt.NDArray[Any]:
    """[n, PAYLOAD_BYTES]."""
    return np.repeat(np.array(numbers)[:, None] % 251, PAYLOAD_BYTES, axis=1).astype(np.uint8)


def log_of(publisher: Publisher) -> AppendLog:
    """What it keeps."""
    assert publisher._log is not None
    assert publisher._log.info.dealing == DEALING
    return publisher._log
