"""A topic that grows while it is read: a link to a broker which shows clients only the first of its partitions.

No broker that a package ships can add partitions to a topic. To a client it is the same whether they are made or shown:
the cluster's description of the topic (Metadata, version 4) has more of them.
"""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

METADATA: Final = 3


class GrowingTopic:
    """A broker's address, at which its topics have `shown` partitions. The broker says nothing newer than version 4."""

    def __init__(self, broker: str, shown: int) -> None:
        host, _, port = broker.rpartition(":")
        self._broker, self.shown = (host, int(port)), shown
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._broker)
                self._sockets += [client, server]
                asked: dict[int, int] = {}
                for target in (self._pass_questions, self._pass_answers):
                    threading.Thread(target=target, args=(client, server, asked), daemon=True).start()

    def _pass_questions(self, client: socket.socket, server: socket.socket, asked: dict[int, int]) -> None:
        with contextlib.suppress(OSError):
            while message := _message(client):
                key, _, correlation = struct.unpack_from(">hhi", message)
                asked[correlation] = key
                server.sendall(struct.pack(">i", len(message)) + message)
        _end(server)

    def _pass_answers(self, client: socket.socket, server: socket.socket, asked: dict[int, int]) -> None:
        with contextlib.suppress(OSError):
            while message := _message(server):
                if asked.pop(struct.unpack_from(">i", message)[0], None) == METADATA:
                    message = _Metadata(message).rewritten(self.port, self.shown)
                client.sendall(struct.pack(">i", len(message)) + message)
        _end(client)


class _Metadata:
    """The answer to a metadata question: brokers, and topics with their partitions."""

    def __init__(self, message: bytes) -> None:
        self._message, self._at = message, 0
        self._out = bytearray()

    def rewritten(self, port: int, shown: int) -> bytes:
        """The same with another port for every broker, and at most so many partitions."""
        self._copy(8)  # correlation, throttle time
        for _ in range(self._count()):
            self._copy(4)
            self._text()
            self._at += 4
            self._out += struct.pack(">i", port)
            self._text()
        self._text()  # the cluster
        self._copy(4)  # its controller
        for _ in range(self._count()):
            self._copy(2)
            self._text()
            self._copy(1)
            self._partitions(shown)
        return bytes(self._out)

    def _partitions(self, shown: int) -> None:
        (count,) = struct.unpack_from(">i", self._message, self._at)
        self._at += 4
        self._out += struct.pack(">i", min(count, shown))
        for _ in range(count):
            start, kept = self._at, len(self._out)
            self._at += 2
            (partition,) = struct.unpack_from(">i", self._message, self._at)
            self._at += 8
            for _ in range(2):
                (replicas,) = struct.unpack_from(">i", self._message, self._at)
                self._at += 4 + 4 * replicas
            if partition < shown:
                self._out[kept:] = self._message[start : self._at]

    def _count(self) -> int:
        (count,) = struct.unpack_from(">i", self._message, self._at)
        self._copy(4)
        return int(count)

    def _text(self) -> None:
        (length,) = struct.unpack_from(">h", self._message, self._at)
        self._copy(2 + max(0, length))

    def _copy(self, count: int) -> None:
        self._out += self._message[self._at : self._at + count]
        self._at += count


def _message(source: socket.socket) -> bytes:
    """One message with its length in front; empty at the end of the connection."""
    head = _exactly(source, 4)
    return _exactly(source, struct.unpack(">i", head)[0]) if head else b""


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (piece := source.recv(count - len(found))):
        found += piece
    return found if len(found) == count else b""


def _end(sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
