"""Pushes JSON objects, one a line of standard input, into an inlet (protocol/SPEC.md, section 12).

    python push.py tcp://127.0.0.1:5556 camera-1 < records.jsonl

Started again with the same name and input it goes on where it was. `Writer` is of use in other programs as well.
"""

import json
import random
import sys
import time
from typing import Any

import msgpack
import zmq

AT_ONCE, MOST_BYTES, AGAIN_S, AWAY_S = 200, 1 << 20, 1.0, 4.0


class Writer:
    """Pushes records, from `number` on: those before are durable from former lives. It keeps those that are not yet."""

    def __init__(self, url: str, name: str, schema: dict[str, Any] | None = None) -> None:
        self.name, self._schema = name, schema
        self.number = self.due = self.durable = self._until = self._next = 0
        self._heard_s = self._moved_s = 0.0
        self._kept: dict[int, dict[str, Any]] = {}
        self._dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.LINGER, 1000)
        self._dealer.connect(url)
        self._hello()
        while not self._greeted:
            self._hear(50)
        self.number = self.durable  # what was taken and is not durable may be asked for again

    def push(self, record: dict[str, Any]) -> None:
        """The next record. Waits for credit where there is none."""
        while self.number >= self._until:
            self._send()
            self._hear(50)
        self._kept[self.number] = record
        self.number += 1
        if self.number - self._next >= AT_ONCE:
            self._send()
            self._hear(0)

    def finish(self) -> None:
        """Return once all is durable; this writer is done, and closed."""
        while not self._done:
            self._send()
            if self.due >= self.number and self._greeted:
                self._say("done", number=self.number)
            self._hear(50)
        self._dealer.close()

    def _send(self) -> None:
        now_s = time.monotonic()
        if self._next > self.due and now_s > self._moved_s + AGAIN_S:
            self._next, self._moved_s = self.due, now_s  # some were lost
        while self._greeted and self._next < (end := min(self.number, self._until, self._next + AT_ONCE)):
            packed = self._packed(end)
            while len(packed) > MOST_BYTES and end > self._next + 1:
                packed = self._packed(end := (self._next + end) // 2)
            self._say("records", packed, number=self._next, count=end - self._next)
            self._next = end

    def _packed(self, end: int) -> bytes:
        return bytes(msgpack.packb([self._kept[number] for number in range(self._next, end)]))

    def _hello(self) -> None:
        self._session, self._greeted, self._done = random.getrandbits(62), False, False
        self._heard_s = self._moved_s = time.monotonic()
        self._say("hello", writer=self.name, schema=self._schema)

    def _say(self, kind: str, *frames: bytes, **fields: Any) -> None:
        header = {"v": 1, "type": kind, "session": self._session, **fields}
        self._dealer.send_multipart([msgpack.packb(header), *frames])

    def _hear(self, timeout_ms: int) -> None:
        """Take in all that was said, and wait for a word if there is none."""
        while self._dealer.poll(timeout_ms):
            message = msgpack.unpackb(self._dealer.recv())
            if message.get("session") in (self._session, None):
                self._heard_s, timeout_ms = time.monotonic(), 0
                self._obey(message)
        if time.monotonic() - self._heard_s > (AWAY_S if self._greeted else AGAIN_S):
            self._hello()

    def _obey(self, message: dict[str, Any]) -> None:
        if message.get("code") == "no_session":
            self._hello()
        elif message.get("code") == "gap":
            self._next = message["end"]
        elif message["type"] == "refusal" or message["due"] < self.durable:
            raise SystemExit(f"refused: {message.get('text', 'the log has forgotten what it had')}")
        else:
            if message["due"] > self.due or message["type"] == "greeting":
                self._moved_s = time.monotonic()
            if message["type"] == "greeting":
                self._greeted, self._next = True, message["due"]
            for number in range(self.durable, message["durable"]):
                self._kept.pop(number, None)
            self.due, self.durable, self._until = message["due"], message["durable"], message["until"]
            self._done = message.get("done", False)


if __name__ == "__main__":
    writer = Writer(sys.argv[1], sys.argv[2])
    for number, line in enumerate(sys.stdin):
        if number >= writer.number:
            writer.push(json.loads(line))
    writer.finish()
    print(f"{writer.number} records are durable")
