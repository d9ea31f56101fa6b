"""A reader written from protocol/SPEC.md alone: nothing of headrace is imported. The numbers are its sections."""

import random
import struct
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import zmq

#: 4: dtypes and what `struct` calls them
LETTERS = {
    "bool": "?",
    "uint8": "B",
    "int16": "h",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}

Row = tuple[int, int, dict[str, Any]]


class Client:
    """One connection."""

    def __init__(self, url: str) -> None:
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)  # 1
        self._dealer.linger = 0
        self._dealer.connect(url)

    def close(self) -> None:
        self._context.destroy(linger=100)

    def describe(self, split: str) -> dict[str, Any]:
        """The description of the stream or of a split."""
        request = random.getrandbits(63)
        while True:
            self._say("describe", request=request, split=split)
            header, _ = self._hear(1.0)
            if header.get("request") == request:
                return header

    def commit(self, group: str, incarnation: str, positions: dict[int, int]) -> dict[str, Any]:
        """The answer to a commit, whatever it is."""
        request = random.getrandbits(63)
        while True:
            pairs = [list(pair) for pair in positions.items()]
            self._say("commit", request=request, group=group, incarnation=incarnation, positions=pairs)
            header, _ = self._hear(1.0)
            if header.get("request") == request:
                return header

    def read(self, split: str, positions: dict[int, int]) -> Iterator[Row]:
        """(partition, offset, values) up to the end."""
        received, info = dict(positions), dict[str, Any]()
        session, asked_s, credit_s = 0, float("-inf"), 0.0
        welcome = False
        while True:
            now_s = time.monotonic()
            if not welcome and now_s > asked_s + 0.2:
                session, asked_s = random.getrandbits(63), now_s  # 2: a new number each time
                pairs = [list(pair) for pair in received.items()]
                self._say(
                    "subscribe",
                    session=session,
                    split=split,
                    group=None,
                    durable=False,
                    incarnation=None,
                    positions=pairs,
                    trained=[],
                    committed=None,
                )
            if welcome and now_s > credit_s + 0.5:
                self._credit(session, received, info)
                credit_s = now_s
            header, columns = self._hear(0.1)
            if header.get("session") != session:
                continue  # stale
            match header["type"]:
                case "welcome":
                    welcome, info, credit_s = True, header["info"], 0.0
                case "refusal":
                    assert header["code"] == "no_session", header
                    welcome = False
                case "chunk" if welcome:
                    partition, offset = header["partition"], header["offset"]
                    if offset > received[partition] or partition != turn(received, info["stripe"]):
                        welcome = False  # 7: one was lost
                        continue
                    rows = list(decode(info["schema"]["fields"], header["count"], columns))
                    for row in rows[received[partition] - offset :]:
                        yield partition, received[partition], row
                        received[partition] += 1
                    credit_s = 0.0
                case "status" if welcome:
                    welcome = all(received[partition] >= offset for partition, offset in header["next"])
                case "end" if welcome:
                    welcome = received == dict(map(tuple, header["final"]))
                    if welcome:
                        self._say("bye", session=session)
                        return

    def _credit(self, session: int, taken: dict[int, int], info: dict[str, Any]) -> None:
        until, stripe = dict(taken), info["stripe"]
        for _ in range(2 * stripe):  # 7: a window of two stripes, in stream order
            until[turn(until, stripe)] += 1
        self._say("credit", session=session, until=[list(pair) for pair in until.items()], trained=[], durable=False)

    def _say(self, kind: str, **fields: Any) -> None:
        self._dealer.send(msgpack.packb({"v": 1, "type": kind, **fields}))

    def _hear(self, seconds: float) -> tuple[dict[str, Any], list[bytes]]:
        if not self._dealer.poll(int(seconds * 1000)):
            return {}, []
        first, *columns = self._dealer.recv_multipart()
        header = msgpack.unpackb(first)
        assert header["v"] == 1
        return header, columns


def turn(positions: dict[int, int], stripe: int) -> int:
    """6: the partition of the next record in stream order."""
    return min(positions, key=lambda partition: (positions[partition] // stripe, partition))


def decode(fields: list[Any], count: int, frames: list[bytes]) -> Iterator[dict[str, Any]]:
    """5: one record after the other."""
    columns: dict[str, list[Any]] = {}
    waiting = iter(frames)
    for name, dtype, shape in fields:
        ragged = bool(shape) and shape[0] is None
        lengths = struct.unpack(f"<{count}I", next(waiting)) if ragged else (1,) * count
        item = 1
        for size in shape[1:] if ragged else shape:
            item *= size
        values = struct.unpack(f"<{sum(lengths) * item}{LETTERS[dtype]}", next(waiting))
        at, columns[name] = 0, []
        for length in lengths:
            columns[name].append(list(values[at : at + length * item]))
            at += length * item
    assert next(waiting, None) is None
    for row in range(count):
        yield {name: column[row] for name, column in columns.items()}
