"""Which reader a stream's URL names."""

from pathlib import Path
from urllib.parse import urlsplit

from protocol.errors import UsageError
from protocol.file_reader import FILE, FileReader
from protocol.kafka.reader import KafkaReader
from protocol.kafka.url import FORM, KAFKA, kafka_topic
from protocol.reader import Reader
from protocol.security import client_keys
from protocol.subscription import ReaderSettings
from protocol.zmq_transport import ZmqReader


def check_url(url: str) -> None:
    """Raise `UsageError` where no reader knows what the URL means; opens nothing."""
    if url.startswith(KAFKA):
        kafka_topic(url)
        return
    parts = urlsplit(url)
    if url.startswith(FILE):
        if url == FILE:
            raise UsageError("file:// needs a folder: use file://recordings/monday, for example")
        return
    if parts.scheme not in ("tcp", "ipc"):
        raise UsageError(f"{url!r} is no stream: use tcp://HOST:PORT, ipc://PATH, file://DIR or {FORM}")
    if parts.scheme == "tcp":
        try:
            port = parts.port
        except ValueError:
            port = None
        if not parts.hostname or not port:
            raise UsageError(f"{url!r} names no host and port: use tcp://HOST:PORT, for example tcp://127.0.0.1:5555")
    elif not url.removeprefix("ipc://"):
        raise UsageError("ipc:// needs a path: use ipc:///tmp/headrace.sock, for example")


def silent_mend(url: str) -> str:
    """What to do where nobody answers at the URL."""
    if url.startswith(KAFKA):
        return "see whether its brokers run and can be reached from here"
    return f"start one (python -m producer --bind {url})"


def open_reader(url: str, settings: ReaderSettings | None = None, *, keys: str | Path = "") -> Reader:
    """A reader for the URL: `tcp://` and `ipc://` speak ZeroMQ, `file://` reads a folder, `kafka://` a topic.

    `keys` is a client's folder of keys, for a producer that lets in only whom it knows; the others ask for none.
    Raises `UsageError`.
    """
    check_url(url)
    if url.startswith(KAFKA):
        return KafkaReader(url, settings or ReaderSettings())
    if url.startswith(FILE):
        return FileReader(url)
    return ZmqReader(url, settings or ReaderSettings(), client_keys(keys) if keys else None)
