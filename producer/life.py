"""One life of the producer: from the first line on the screen to the last."""

import signal
import sys
import time
from types import FrameType
from typing import Final

from producer.exposed import families
from producer.opening import Opened
from producer.server import Server
from producer.service import Service
from producer.settings import ProducerSettings
from producer.status import StatusLine
from protocol.change import in_words
from protocol.command_line import STOPPING
from protocol.exposition import Exposition

PAGE_EVERY_S: Final = 1.0


class Life:
    """Serves what was `opened` until it is stopped or, if asked, committed. Signals are blocked until it lives.

    `page` shows Prometheus how it goes.
    """

    def __init__(
        self, server: Server[Service], opened: Opened, settings: ProducerSettings, page: Exposition | None
    ) -> None:
        self._server, self._opened, self._settings = server, opened, settings
        self._service, self._feed = server.service, opened.feed
        self._status = StatusLine(settings.status_every_s, time.monotonic())
        self._page, self._page_due_s = page, 0.0
        self._stopped_by = ""

    def live(self) -> None:
        """Serve; SIGINT and SIGTERM leave without ending the stream, so that trainers wait for the next life."""
        for number in STOPPING:
            signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        self._say_start()
        if self._feed is not None:
            self._feed.log.on_append = self._server.wake
            self._feed.start()
        try:
            self._server.serve(self._each_turn)
            if self._stopped_by:
                print(f"stopped by {self._stopped_by}; trainers wait for the next life", flush=True)
        finally:
            if self._feed is not None:
                self._feed.stop()
            self._server.close()
            if self._page is not None:
                self._page.close()
            for log in self._service.logs.values():
                log.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._stopped_by = signal.Signals(number).name  # said later: a print may be under way
        self._server.stop()

    def _each_turn(self, now_s: float) -> None:
        if self._feed is not None and self._feed.error is not None:
            raise self._feed.error
        if self._settings.status_every_s > 0 and self._status.due(now_s):
            self._say_status(now_s)
        if self._page is not None and now_s >= self._page_due_s:
            self._page_due_s = now_s + PAGE_EVERY_S
            self._page.show(families(self._service, now_s))
        if self._settings.until == "committed" and self._done():
            print("the stream was committed to its end", flush=True)
            self._server.stop()

    def _done(self) -> bool:
        service = self._service
        return service.stream.ended and not service.sessions and bool(len(service.groups)) and service.untaken() == 0

    def _say_start(self) -> None:
        info = self._service.stream.info
        where, dealt = self._server.address, f"{info.dealing.partitions} partitions"
        print(f"serving {info.source} at {where}: {self._opened.kind}, {dealt}")
        for remark in self._opened.remarks:
            print(f"  {remark}")
        print(f"  fields: {info.schema.fields_text}")
        if info.schema.label is not None and info.schema.label_range is not None:
            low, high = info.schema.label_range
            print(f"  labels: {low} to {high}  {', '.join(info.schema.class_names)}")
        if self._page is not None:
            print(f"  metrics: http://{self._page.address}/metrics")
        for name, size in info.splits.items():
            print(f"  split {name}: {size:,} records")
        for change in info.changes:
            print(f"  {change.what}: {in_words(change)}")
        sys.stdout.flush()

    def _say_status(self, now_s: float) -> None:
        service = self._service
        line = self._status.line(
            service.sent, service.stream.log_end(), service.group_states(now_s), now_s, service.bad_records.rejected
        )
        print(line, flush=True)
