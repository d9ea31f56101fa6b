"""One life of a producer that writes its stream into a Kafka topic instead of serving it."""

import signal
import time
from types import FrameType

from producer.kafka_sink import KafkaSink
from producer.opening import Opened
from producer.settings import ProducerSettings
from protocol.command_line import STOPPING
from protocol.log import Log
from protocol.messages import STREAM


class SinkLife:
    """Writes what was `opened` until its end or a signal; signals are blocked until it lives."""

    def __init__(self, opened: Opened, settings: ProducerSettings) -> None:
        self._opened, self._settings = opened, settings
        self._stopped_by = ""
        self._said_s = time.monotonic()

    def live(self) -> None:
        """Write; whatever ends it, another life goes on where the topic ends."""
        for number in STOPPING:  # until there is something to confirm, a signal ends whatever is waited for
            signal.signal(number, signal.default_int_handler)
        log, feed = self._opened.logs[STREAM], self._opened.feed
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            sink = KafkaSink(self._settings.sink, log, lambda text: print(text, flush=True))
            for number in STOPPING:
                signal.signal(number, self._stop)
            self._say_start(log, sink)
            if feed is not None:
                feed.start()
            try:
                confirmed = sink.write(lambda: bool(self._stopped_by), lambda now_s: self._each_turn(sink, now_s))
            finally:
                if feed is not None:
                    feed.stop()
        finally:
            log.close()
        if not confirmed:
            print("the brokers are away: what they have not confirmed is written again by the next life", flush=True)
        what = f"stopped by {self._stopped_by}" if self._stopped_by else "the stream has ended"
        print(f"{what}: {sink.confirmed:,} records of this life are in {sink.address}", flush=True)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._stopped_by = signal.Signals(number).name

    def _each_turn(self, sink: KafkaSink, now_s: float) -> None:
        if self._opened.feed is not None and self._opened.feed.error is not None:
            raise self._opened.feed.error
        if 0 < self._settings.status_every_s <= now_s - self._said_s:
            self._said_s = now_s
            print(f"{sink.confirmed:,} records of this life are in {sink.address}", flush=True)

    def _say_start(self, log: Log, sink: KafkaSink) -> None:
        partitions = f"{log.info.dealing.partitions} partitions"
        print(f"writing {log.info.source} into {sink.address}: {self._opened.kind}, {partitions}")
        for remark in self._opened.remarks:
            print(f"  {remark}")
        print(f"  fields: {log.info.schema.fields_text}", flush=True)
