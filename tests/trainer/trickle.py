"""A slow wire: whatever comes from the other side of a TCP connection is passed on at so many bytes a second."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE_BYTES = 1 << 16


@contextmanager
def trickling(url: str, bytes_per_s: float) -> Iterator[str]:
    """Where the server at `url` can be reached slowly while the context is open. Requests are passed on at once."""
    host, _, port = url.removeprefix("tcp://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = [listener]
    threads: list[threading.Thread] = []

    def start(target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        threads.append(thread)

    def accept() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                reader, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                open_sockets.extend((reader, server))
                start(_pass_on, reader, server, 0.0)
                start(_pass_on, server, reader, 1 / bytes_per_s)

    start(accept)
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in open_sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes whoever waits on it
            each.close()
        for thread in threads:
            thread.join()


def _pass_on(source: socket.socket, sink: socket.socket, seconds_per_byte: float) -> None:
    with suppress(OSError):  # either side has gone
        while piece := source.recv(PIECE_BYTES):
            time.sleep(len(piece) * seconds_per_byte)
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_RDWR)
