"""`Publisher`: a stream out of somebody's own capture program, served from a thread beside it."""

import logging
import threading
import time
from collections.abc import Callable
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Final, Self

from producer.append_log import AppendLog, LogSettings, WhenFull
from producer.bad_records import BadRecords, BadRecordSettings
from producer.open_log import open_log
from producer.server import Server
from producer.service import Service, ServiceSettings
from protocol.dealing import Positions
from protocol.errors import DataFault, NotDrained, StreamError, UsageError
from protocol.inference import infer_schema
from protocol.messages import STREAM
from protocol.schema import Schema
from protocol.server_socket import ServerSocket

logger = logging.getLogger(__name__)

DRAIN_POLL_S: Final = 0.02
DRAIN_SAID_S: Final = 10.0
#: After everything was taken, readers get this long to hear END and take their leave.
FAREWELL_S: Final = 2.0


class Publisher:
    """Serves what `send` is given at `url` until it is closed.

    The schema is that of the first record unless it is declared. Records are kept in memory, where the promise (every
    record exactly once) begins when `send` returns and ends with this process; or, with a `path`, in a log on disk
    that the next Publisher of the same path goes on with: there the promise begins once they are synced, which `flush`
    and `send(wait=True)` wait for and `durable` counts. `max_bytes` bounds what is kept (0: 256 MiB in memory, 16 GiB
    on disk): a full log makes `send` wait (`block`), forgets and counts the oldest (`drop-oldest`), or makes it raise
    `LogFull` (`fail`). On disk, records wait `linger_ms` for others, and are forgotten after `keep_s` (0: never). A
    record that does not fit the schema makes `send` raise, unless `bad_records` says that it is kept aside. No field
    can be called `wait`.

    `keys` is a producer's folder of keys (`python -m protocol keygen`): only clients on its list are let in. Without
    one the address must be of this machine alone, unless `insecure` says that others may come.

    Left cleanly, a `with` ends the stream and waits until all of it was taken: committed by runs that keep
    checkpoints, marked as trained by others. Left by an exception, the producer is *away* and the stream has no end.
    """

    def __init__(  # noqa: PLR0913  (a library's front door: each is one word in a user's call)
        self,
        url: str,
        *,
        schema: Schema | None = None,
        partitions: int = 8,
        path: str | PathLike[str] = "",
        max_bytes: int = 0,
        full: WhenFull = "block",
        linger_ms: float = 5.0,
        keep_s: float = 0.0,
        drain_timeout_s: float | None = None,
        bad_records: BadRecordSettings | None = None,
        keys: str | PathLike[str] = "",
        insecure: bool = False,
    ) -> None:
        self._bad_records = BadRecords(bad_records or BadRecordSettings())
        self._partitions, self._drain_timeout_s = partitions, drain_timeout_s
        self._log_settings = LogSettings(path=fspath(path), bytes=max_bytes, full=full, linger=linger_ms, keep=keep_s)
        self._log: AppendLog | None = None
        self._server: Server[Service] | None = None
        self._thread: threading.Thread | None = None
        self._left: tuple[int, int] | None = None
        self._closed = False
        self._socket = ServerSocket(url, keys=fspath(keys), insecure=insecure)
        try:
            self._open(schema)
        except BaseException:
            self._socket.close()
            raise

    @property
    def address(self) -> str:
        """Where trainers find the stream; tells the port that was chosen for `tcp://127.0.0.1:*`."""
        return self._socket.address

    @property
    def dropped(self) -> Positions:
        """Records that a full log forgot before they were released, by partition. What of them was under way by then is
        trained all the same: what a run lost is what its ledger says.
        """
        return {} if self._log is None else self._log.dropped

    @property
    def durable(self) -> int:
        """Records of the stream, those of former lives among them, that the promise holds for."""
        return 0 if self._log is None else self._log.durable

    @property
    def rejected(self) -> int:
        """Records that were kept aside because they do not fit the schema."""
        return self._bad_records.rejected

    def send(self, *, wait: bool = False, **record: Any) -> None:
        """Append one record: a value for each field; `wait` until it is durable.

        Raises `DataFault` where it does not fit the schema, `LogFull` where there is no room and the policy is `fail`.
        """
        log = self._log_for(lambda: infer_schema(record))
        try:
            self._bad_records.check(record)
            log.append(record)
        except DataFault as fault:
            self._bad_records.take(record, fault)
        if wait:
            log.flush()

    def send_columns(self, *, wait: bool = False, **columns: Any) -> None:
        """Append many records at once: an array [n, *shape] for each field; `wait` until they are durable."""
        log = self._log_for(lambda: infer_schema({name: column[0] for name, column in columns.items()}))
        try:
            self._bad_records.check(columns)
            log.append_columns(columns)
        except DataFault as fault:
            for record in self._bad_records.one_by_one(columns, fault):
                self.send(**record)
        if wait:
            log.flush()

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything that was sent is durable. Raises `StreamTimeout` after `timeout_s`."""
        if self._log is not None:
            self._log.flush(timeout_s)

    def close(self, drain_timeout_s: float | None = None) -> None:
        """End the stream, wait until everything was taken, and leave.

        Raises `NotDrained`, with the number not taken, after `drain_timeout_s` (None: what the constructor was given,
        which waits for ever unless it says otherwise).
        """
        timeout_s = self._drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        try:
            if self._log is not None and not self._closed:
                self._log.end()
                self._drain(timeout_s)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave at once without ending the stream: trainers wait for the producer to come back."""
        if self._closed:
            return
        self._closed = True
        if self._server is None or self._thread is None:
            self._socket.close()
            return
        self._server.stop()
        self._thread.join()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _log_for(self, schema: Callable[[], Schema]) -> AppendLog:
        if self._closed:
            raise UsageError("this Publisher was closed: open another one to send more")
        if self._log is None:
            self._open(schema())
        assert self._log is not None
        return self._log

    def _open(self, schema: Schema | None) -> None:
        """Serve, as soon as it is known what a record is."""
        log = self._log = open_log(schema, self._partitions, self._log_settings, source=type(self).__name__)
        if log is None:
            return
        service = Service({STREAM: log}, ServiceSettings(), time.monotonic())
        service.bad_records = self._bad_records
        server = self._server = Server(service, self._socket)
        log.on_append = server.wake
        self._thread = threading.Thread(target=self._serve, args=(server, log), name="headrace-server", daemon=True)
        self._thread.start()

    def _serve(self, server: Server[Service], log: AppendLog) -> None:
        """In a thread of its own. Whatever ends it, nobody is left waiting for room in the log."""
        try:
            server.serve(self._watch)
        finally:
            log.close()

    def _watch(self, now_s: float) -> None:
        """In the server's thread, each turn: what is left to be taken, and how many still listen."""
        del now_s
        assert self._server is not None
        service = self._server.service
        if service.stream.ended:  # seen before the count, so that no record can slip in between
            self._left = service.untaken(), len(service.sessions)

    def _left_over(self) -> tuple[int, int]:
        return self._left or (1, 1)

    def _drain(self, timeout_s: float | None) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._left = None  # what was seen before the end is not the whole
        self._server.wake()
        started_s = said_s = time.monotonic()
        drained_s: float | None = None
        while True:
            now_s = time.monotonic()
            untaken, listening = self._left_over()
            if untaken == 0:
                drained_s = drained_s or now_s
                if not listening or now_s - drained_s >= FAREWELL_S:
                    return
            elif timeout_s is not None and now_s - started_s >= timeout_s:
                raise NotDrained(untaken, timeout_s)
            elif now_s - said_s >= DRAIN_SAID_S:
                said_s = now_s
                who = "the groups that read it" if self._server.service.groups else "a group: none reads the stream"
                logger.warning("the stream has ended; %d records wait for %s", untaken, who)
            if not self._thread.is_alive():
                raise StreamError(f"serving has failed, and {untaken} records were not taken")
            time.sleep(DRAIN_POLL_S)
