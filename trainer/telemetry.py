"""Collects what a run says about itself and hands it to every sink. It decides nothing."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor, nn

from protocol.exposition import Exposition, place
from trainer.batch import AnyBatch
from trainer.confusion import Confusion
from trainer.details import Details
from trainer.history import History
from trainer.jsonl_sink import JsonlSink
from trainer.mistakes import Mistakes
from trainer.prometheus_sink import PrometheusSink
from trainer.report import (
    Changed,
    Fact,
    Notice,
    Progress,
    Report,
    Sink,
    Standing,
    Start,
    StreamStanding,
    ValidationReport,
    Waiting,
)
from trainer.tensorboard_sink import TensorBoardSink
from trainer.terminal import open_terminal

AGES_KEPT = 4096  # of the newest batches since the last report: what is known of the age stays bounded
SKEW_S = 0.1  # clocks of two machines that are kept right differ by less
PROGRESS_EVERY_S = 0.25
NAMED_EVERY_S = 60.0
RATE_MARKS = 9  # so the rate between reports is one over two seconds


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """How a run shows itself."""

    display: Literal["auto", "live", "plain", "none"] = "auto"
    """`live` redraws a view of the run, `plain` prints one line a report; `auto` is live on a terminal, else plain."""
    tensorboard: bool = True
    """Whether to write TensorBoard's event files, into the run directory's `tensorboard`."""
    prometheus: str = ""
    """serve metrics for Prometheus at http://[HOST]:PORT/metrics, such as :9101; without HOST for this machine alone"""

    def __post_init__(self) -> None:
        if self.prometheus:
            place(self.prometheus)


def open_telemetry(run_dir: Path, settings: TelemetrySettings) -> "Telemetry":
    """The telemetry of a run: display, `metrics.jsonl`, TensorBoard, Prometheus. No file is touched before `start`."""
    history = History()
    sinks: list[Sink] = [*open_terminal(settings.display, history), JsonlSink(run_dir / "metrics.jsonl")]
    if settings.tensorboard:
        sinks.append(TensorBoardSink(tensorboard_dir(run_dir), history))
    if settings.prometheus:
        sinks.append(PrometheusSink(Exposition(settings.prometheus)))
    return Telemetry(sinks, history)


def tensorboard_dir(run_dir: Path) -> Path:
    """Where a run's event files lie."""
    return run_dir / "tensorboard"


class Telemetry:
    """The one object that the loop tells things.

    A sink that fails with `OSError` (disk full, pipe closed) is named on the others, at most once a minute, and tried
    again with the next fact: training goes on. `notice` may be called from any thread, the rest from one. Ages are
    wall-clock (events come from other machines), durations monotonic.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        history: History | None = None,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sinks = list(sinks)
        self._history = history or History()
        self._wall_ns = wall_ns
        self._monotonic_s = monotonic_s
        self._start: Start | None = None
        self._streams: Callable[[], Sequence[StreamStanding]] = tuple
        self._details: Details | None = None  # made at the start, where a sink shows such
        self._early: list[Notice] = []
        self._named_s: dict[str, float] = {}  # when a failing sink, or the clock, was last named
        self._lock = threading.RLock()
        self._samples = 0
        self._next_progress_s = 0.0
        self._ages_ns: deque[int] = deque(maxlen=AGES_KEPT)
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATE_MARKS)
        self._window: tuple[float, int] | None = None  # when the last report was, and at how many samples
        self._waiting: tuple[str, float] | None = None  # for what, and since when

    def start(self, start: Start, streams: Callable[[], Sequence[StreamStanding]] = tuple) -> None:
        """Say what this life is. Notices from before reach the files now.

        `streams` says how each of several stands; it is asked a few times a second, in the thread that records.
        """
        assert self._start is None, "a life starts once"
        self._streams = streams
        with self._lock:
            self._start, self._samples, self._waiting = start, start.samples, None
            if any(sink.details for sink in self._sinks):
                self._details = Details(start.info.schema, self._write, self._monotonic_s)
            early = [replace(notice, samples=start.samples) for notice in self._early]  # what it was, nobody knew yet
            self._history.notices = (*self._history.notices[: -len(early) or None], *early)
            self._write(start)
            for notice in early:
                self._write_to([sink for sink in self._sinks if not sink.before_start], notice)

    def record(self, batch: AnyBatch, columns: Mapping[str, Tensor] | None = None) -> None:
        """Once after each step; a few microseconds, and no word with the device.

        `columns` are what the task got of the batch, where that is not the batch itself.
        """
        self._ages_ns.append(self._wall_ns() - batch.newest_time_ns)
        self._samples += batch.count
        now_s = self._monotonic_s()
        if self._window is None:  # this life's first batch: its samples came in a time that nobody measured
            self._window = now_s, self._samples
        if now_s >= self._next_progress_s:
            self._next_progress_s = now_s + PROGRESS_EVERY_S
            self._progress(now_s)
        if self._details is not None and self._samples >= self._details.next_batch:
            self._details.of_batch(self._samples, batch if columns is None else columns)

    def report(  # noqa: PLR0913  (the fields of `Report`)
        self,
        *,
        samples: int,
        batches: int,
        train: Mapping[str, float],
        learning_rate: float,
        norms: Mapping[str, float],
        stream: Standing,
        stages: Mapping[str, float],
        prequential: Mapping[str, float],
        shares: Mapping[str, float],
    ) -> Report:
        """Tell how training goes; the fields are those of `Report`, the rest is measured here since the last one."""
        p50, p99 = self._ages_ms()
        report = Report(
            samples=samples,
            batches=batches,
            train=_floats(train),
            learning_rate=learning_rate,
            norms=norms,
            samples_per_s=self._rate(),
            sample_age_ms_p50=p50,
            sample_age_ms_p99=p99,
            stream=stream,
            stages=stages,
            shares=shares,
            prequential=prequential,
        )
        self._ages_ns.clear()
        self._write(report)
        return report

    def validation(
        self,
        samples: int,
        metrics: Mapping[str, float],
        *,
        best: bool,
        confusion: Confusion,
        others: Mapping[str, Mapping[str, float]] | None = None,
    ) -> ValidationReport:
        """Tell what a validation found, by class where there are few enough of them."""
        names = () if self._start is None else self._start.info.schema.class_names
        report = ValidationReport(
            samples=samples,
            metrics=_floats(metrics),
            best=best,
            per_class=confusion.per_class(names) if confusion.shown else {},
            confusion=confusion.matrix(),
            others={name: _floats(figures) for name, figures in (others or {}).items()},
        )
        self._write(report)
        return report

    def details(self, model: nn.Module, confusion: Confusion, mistakes: Mistakes) -> None:
        """Show what a validation found beside its numbers, where a sink shows such; in 0.5 % of the time at most."""
        if self._details is not None:
            self._details.of_validation(self._samples, model, confusion, mistakes)

    def last_details(self) -> None:
        """At the end: those of the last validation, if they were passed over. Nothing was trained since."""
        if self._details is not None:
            self._details.of_last_validation()

    def graph(self, graph_of: Callable[[], Any]) -> None:
        """Show what the model computes, where a sink shows such; `graph_of` makes it or raises `NoGraph`."""
        if self._details is not None:
            self._details.of_model(self._samples, graph_of)

    def notice(self, text: str) -> None:
        """Tell that something happened, in one line."""
        self._write(Notice(samples=self._samples, text=text))

    def changed(self, record: int, words: str, place: tuple[int, int]) -> None:
        """Tell that training has come to a change of the stream; `place` is the record's partition and offset."""
        partition, offset = place
        text = f"the stream changes at record {record:,}: {words}"
        self._write(Changed(samples=self._samples, text=text, record=record, partition=partition, offset=offset))

    def waiting(self, text: str) -> None:
        """Tell what is waited for (`the producer at …`), about once a second; the next batch or `start` ends it."""
        now_s = self._monotonic_s()
        if self._waiting is None or self._waiting[0] != text:
            self._waiting = text, now_s
        self._write(Waiting(text=text, waited_s=now_s - self._waiting[1], streams=self._streams()))
        self._next_progress_s = 0.0

    def flush(self) -> None:
        """Return once a killed trainer can lose nothing that was told: before a checkpoint becomes durable."""
        for sink in self._sinks:
            self._guarded(sink, sink.flush)

    def close(self) -> None:
        """End every sink; a display leaves its last view standing."""
        for sink in reversed(self._sinks):  # the displays last: the others may fail, which they then say
            self._guarded(sink, sink.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed life shows again: plain numbers, lists and texts."""
        return self._history.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse, before `start`; notices of this life stay."""
        self._history.load_state_dict(state)

    def _progress(self, now_s: float) -> None:
        self._waiting = None
        self._marks.append((now_s, self._samples))
        then_s, then = self._marks[0]
        rate = (self._samples - then) / (now_s - then_s) if now_s > then_s else None
        self._write(Progress(samples=self._samples, samples_per_s=rate, streams=self._streams()))

    def _ages_ms(self) -> tuple[float | None, float | None]:
        """Median and 99th percentile since the last report; what comes from the future has no age."""
        if not self._ages_ns:
            return None, None
        ages_ms = np.array(self._ages_ns) / 1e6
        ahead_s = -ages_ms.min() / 1e3
        if ahead_s > SKEW_S and self._due("clock"):
            self.notice(f"the producer's clock is {ahead_s:,.1f} s ahead of this one, or more: ages below 0 count as 0")
        p50, p99 = np.percentile(ages_ms.clip(0), (50, 99)).tolist()
        return p50, p99

    def _rate(self) -> float | None:
        now_s = self._monotonic_s()
        then_s, then = self._window or (now_s, self._samples)
        self._window = now_s, self._samples
        return (self._samples - then) / (now_s - then_s) if now_s > then_s and self._samples > then else None

    def _write(self, fact: Fact) -> None:
        with self._lock:
            self._history.add(fact)
            if self._start is not None:
                self._write_to(self._sinks, fact)
                return
            self._write_to([sink for sink in self._sinks if sink.before_start], fact)
            if isinstance(fact, Notice):
                self._early.append(fact)

    def _write_to(self, sinks: Sequence[Sink], fact: Fact) -> None:
        for sink in sinks:
            self._guarded(sink, partial(sink.write, fact))

    def _guarded(self, sink: Sink, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            if not self._due(sink.name):
                return
            text = f"{sink.name} cannot be written: {error}; training goes on without it"
            notice = Notice(samples=self._samples, text=text)
            self._history.add(notice)
            self._write_to([other for other in self._sinks if other is not sink], notice)

    def _due(self, what: str) -> bool:
        """Whether what is said at most once a minute may be said; it counts as said."""
        now_s = self._monotonic_s()
        if now_s < self._named_s.get(what, -math.inf) + NAMED_EVERY_S:
            return False
        self._named_s[what] = now_s
        return True


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Python's own numbers: others do not go through a checkpoint."""
    return {name: float(value) for name, value in metrics.items()}
