"""A TCP link that can be made bad: delayed, cut, or with connections that drop. It logs when somebody connected."""

import contextlib
import queue
import random
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

PIECE_BYTES = 1 << 16
#: Pieces under way in one direction of a connection: with a delay of 1 s this lets 64 MiB/s through.
UNDER_WAY = 1024


class Proxy:
    """Passes on what comes at `url` to `target` (both tcp://HOST:PORT), as its attributes say at that moment."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").partition(":")
        self._target = host, int(port)
        self._address = "127.0.0.1", 0
        self._connections: set[_Connection] = set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        #: Seconds that each piece is under way.
        self.delay_s = 0.0
        #: Connections are accepted and closed at once, as by a gateway whose server is down.
        self.turns_away = False
        #: When somebody connected, in seconds of the monotonic clock.
        self.connected_s: list[float] = []
        self.mend()
        self.url = f"tcp://127.0.0.1:{self._address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def cut(self) -> None:
        """Nobody is let in, and all connections are gone."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits on it
        self._listener.close()
        self.drop()

    def mend(self) -> None:
        """Let everybody in again, at the same address."""
        self._listener = socket.create_server(self._address)
        self._address = self._listener.getsockname()
        self._start(self._accept, self._listener)

    def drop(self, drawn: random.Random | None = None) -> None:
        """Reset all connections, or one that is drawn."""
        connections = sorted(self._connections, key=id)
        for connection in [drawn.choice(connections)] if drawn and connections else connections:
            connection.reset()
            self._connections.discard(connection)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = listener.accept()
                self.connected_s.append(time.monotonic())
                if self.turns_away:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                connection = _Connection(client, server)
                self._connections.add(connection)
                for source, sink in ((client, server), (server, client)):
                    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(UNDER_WAY)
                    self._start(self._take_in, source, pieces)
                    self._start(self._pass_on, connection, sink, pieces)

    def _take_in(self, source: socket.socket, pieces: "queue.Queue[tuple[float, bytes]]") -> None:
        piece = b"begin"
        while piece:
            try:
                piece = source.recv(PIECE_BYTES)
            except OSError:
                piece = b""
            pieces.put((time.monotonic() + self.delay_s, piece))

    def _pass_on(
        self, connection: "_Connection", sink: socket.socket, pieces: "queue.Queue[tuple[float, bytes]]"
    ) -> None:
        while (came := pieces.get())[1]:
            if connection.broken:
                continue  # until whoever takes in has heard of it
            time.sleep(max(0.0, came[0] - time.monotonic()))
            with contextlib.suppress(OSError):
                sink.sendall(came[1])
                continue
            connection.reset()
        connection.reset()
        self._connections.discard(connection)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)


class _Connection:
    """Both ends of a connection that is passed on."""

    def __init__(self, *ends: socket.socket) -> None:
        self._ends = ends
        self.broken = False

    def reset(self) -> None:
        """Both sides hear of it at once; what was under way is lost."""
        self.broken = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
