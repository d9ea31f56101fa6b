"""What this machine allows: the wire without headrace, training data in memory, an empty loop, a copy."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np
import zmq

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import InOrder, WrongRecords, in_place, measure
from benchmarks.memory import shuffled, shuffles, sliced, tensors
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import ANY_PORT, pictures

NAME: Final = "limits"
#: A FashionMNIST record: 785 bytes of picture and label, 8 of id.
RECORD_BYTES: Final = 785 + 8
MESSAGE_RECORDS: Final = (1, 64, 1024, 4096)
BATCH_SIZES: Final = (4, 64, 256, 1024)
#: Open credit in bytes, at most this many messages: about what eight stripes of a stream hold.
CREDIT_BYTES: Final = 8 << 20
MOST_CREDIT: Final = 1024
#: From this size on ZeroMQ sends from our memory; below, a copy is cheaper than the bookkeeping.
WITHOUT_COPY_BYTES: Final = 1 << 16
RECEIVE_TIMEOUT_MS: Final = 10_000
COPIED_BYTES: Final = 64 << 20
COPIED_RECORDS: Final = 1024


def cells(settings: Settings) -> Sequence[Cell]:
    """All limits."""
    sizes = (64, 1024) if settings.quick else BATCH_SIZES

    def cell(name: str, function: str, **arguments: Any) -> Cell:
        arguments = {**arguments, **settings.times()}
        return Cell(group=NAME, name=name, function=f"{__name__}:{function}", arguments=arguments)

    return (
        *(
            cell(f"raw wire, {n} a message", "wire", message_records=n, record_bytes=RECORD_BYTES)
            for n in MESSAGE_RECORDS
        ),
        *(cell(f"in memory, shuffled, batch {n}", "memory", data=settings.data, batch_size=n) for n in sizes),
        *(cell(f"empty loop, slices, batch {n}", "slices", data=settings.data, batch_size=n) for n in sizes),
        cell("memory copy", "copy"),
    )


GROUP: Final = Group(
    name=NAME,
    title="Limits",
    note="Raw wire: pyzmq ROUTER/DEALER with credit between two processes over TCP, records of 793 bytes that nobody "
    "looks at. In memory: a new permutation each pass, each batch gathered by index. Empty loop: slices of the same "
    "three columns as tensors, nothing moved. Memory copy: records of 793 bytes, 1024 at a time.",
    cells=cells,
)


# --- the wire ----------------------------------------------------------------------------------------------------


def wire(*, message_records: int, record_bytes: int, seconds: float, warm_s: float) -> Numbers:
    """Messages of so many records as fast as ZeroMQ carries them, with open credit; also `bytes_per_s`."""
    size = message_records * record_bytes
    credit = max(4, min(MOST_CREDIT, CREDIT_BYTES // size))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(size, theirs), daemon=True)
    process.start()
    socket = zmq.Context().socket(zmq.DEALER)
    socket.set(zmq.RCVTIMEO, RECEIVE_TIMEOUT_MS)
    socket.set(zmq.RCVHWM, 0)
    socket.connect(ours.recv())
    socket.send(str(credit).encode())
    numbers = measure(
        _receiver(socket, credit, copy=size < WITHOUT_COPY_BYTES),
        _Numbered(size),
        records=message_records,
        seconds=seconds,
        warm_s=warm_s,
    )
    process.kill()
    process.join()
    socket.close(0)
    return {**numbers, "bytes_per_s": numbers["rate"] * record_bytes}


def _receiver(socket: Any, credit: int, *, copy: bool) -> Callable[[], list[Any]]:
    refill, owed = credit // 2, 0
    more = str(refill).encode()

    def receive() -> list[Any]:
        nonlocal owed
        frames: list[Any] = socket.recv_multipart(copy=copy)
        owed += 1
        if owed == refill:
            socket.send(more)
            owed = 0
        return frames

    return receive


def _send(size: int, address: Connection) -> None:
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.set(zmq.SNDHWM, 0)
    socket.bind(ANY_PORT)
    address.send(socket.get_string(zmq.LAST_ENDPOINT))
    payload, number, copy = bytes(size), 0, size < WITHOUT_COPY_BYTES
    while True:
        peer, credit = socket.recv_multipart()
        for _ in range(int(credit)):
            socket.send_multipart((peer, number.to_bytes(8, "little"), payload), copy=copy)
            number += 1


class _Numbered:
    """Messages carry their number and have the right size."""

    def __init__(self, size: int) -> None:
        self._size, self._next = size, 0

    def __call__(self, frames: Sequence[Any]) -> None:
        number, payload = (memoryview(getattr(frame, "buffer", frame)) for frame in frames)
        if int.from_bytes(number, "little") != self._next or payload.nbytes != self._size:
            raise WrongRecords(f"message {int.from_bytes(number, 'little')} of {payload.nbytes} bytes")
        self._next += 1

    def skip(self, count: int) -> None:
        self._next += count


# --- memory ------------------------------------------------------------------------------------------------------


def memory(*, data: str, batch_size: int, seconds: float, warm_s: float) -> Numbers:
    """Shuffled batches of what lies in memory."""
    columns = pictures(data)
    batches = shuffled(tensors(columns), batch_size)
    check = InOrder(columns, batch_size, shuffles(len(columns["id"]), batch_size))
    return measure(batches.__next__, check, records=batch_size, seconds=seconds, warm_s=warm_s)


def slices(*, data: str, batch_size: int, seconds: float, warm_s: float) -> Numbers:
    """The least that a Python loop over batches costs: slices of the columns, in their own order."""
    columns = pictures(data)
    batches = sliced(tensors(columns), batch_size)
    check = InOrder(columns, batch_size, in_place(len(columns["id"]) // batch_size * batch_size))
    return measure(batches.__next__, check, records=batch_size, seconds=seconds, warm_s=warm_s)


def copy(*, seconds: float, warm_s: float) -> Numbers:
    """A plain copy within 64 MiB, of as many bytes as 1024 records have; also `bytes_per_s`."""
    size = COPIED_RECORDS * RECORD_BYTES
    source = np.random.RandomState(0).randint(0, 256, COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    places = [slice(first, first + size) for first in range(0, COPIED_BYTES - size + 1, size)]

    def copies() -> Iterator[slice]:
        while True:
            for place in places:
                target[place] = source[place]
                yield place

    numbers = measure(
        copies().__next__, _Copied(source, target), records=COPIED_RECORDS, seconds=seconds, warm_s=warm_s
    )
    return {**numbers, "bytes_per_s": numbers["rate"] * RECORD_BYTES}


class _Copied:
    """What was copied is what stood there."""

    def __init__(self, source: Any, target: Any) -> None:
        self._source, self._target = source, target

    def __call__(self, place: slice) -> None:
        if not np.array_equal(self._source[place], self._target[place]):
            raise WrongRecords("a copy differs from what was copied")

    def skip(self, count: int) -> None:
        """Places come again and again: there is nothing to count."""
