"""What a person sees of a run: a live view on a terminal, plain lines elsewhere."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.text import Text

from trainer.history import History
from trainer.live_view import View
from trainer.report import Fact, Notice, Progress, Report, Sink, Start, ValidationReport, Waiting
from trainer.wording import busiest, describe, ledger_terms, metric_names, one_line

Display = Literal["auto", "live", "plain", "none"]

REFRESH_EVERY_S = 0.25
WAITING_LINE_EVERY_S = 5.0
SHORT_NAMES = {"accuracy": "acc"}


def open_terminal(display: Display, history: History) -> list[Sink]:
    """The display as a sink, none for `none`."""
    if display == "none":
        return []
    if display == "live" or (display == "auto" and fit_for_live(sys.stdout)):
        return [LiveTerminal(Console(file=sys.stdout, highlight=False), history)]
    return [PlainLines(sys.stdout)]


def fit_for_live(stream: TextIO) -> bool:
    """Whether what is written there may be redrawn in place."""
    utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return stream.isatty() and utf8 and os.environ.get("TERM", "dumb") != "dumb"


class PlainLines(Sink):
    """One line a report, a validation, a notice; for logs, pipes and dumb terminals."""

    name = "the output"
    before_start = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._report: Report | None = None
        self._waiting = Waiting(text="", waited_s=0.0)

    def write(self, fact: Fact) -> None:
        """Print what deserves a line."""
        match fact:
            case Start():
                self._print(f"run {fact.run_dir}  model {fact.model}  device {fact.device}")
                self._print(f"stream {fact.stream}  {describe(fact.info)}")
                if fact.tensorboard:
                    self._print(f"see it with: {fact.tensorboard}")
            case Report():
                self._report = fact
                self._print(_report_line(fact))
            case ValidationReport():
                best = "  best" if fact.best else ""
                self._print(f"samples {fact.samples}  validation  {_numbers(fact.metrics)}{best}")
                for name, metrics in fact.others.items():
                    self._print(f"samples {fact.samples}  {name}  {_numbers(metrics)}")
            case Notice():
                self._print(f"samples {fact.samples}  {fact.text}")
            case Waiting():
                anew = fact.text != self._waiting.text or fact.waited_s < self._waiting.waited_s
                if anew or fact.waited_s >= self._waiting.waited_s + WAITING_LINE_EVERY_S:
                    self._waiting = fact
                    self._print(f"waiting for {fact.text} ({fact.waited_s:.0f} s)")
            case Progress():
                self._waiting = Waiting(text="", waited_s=0.0)

    def flush(self) -> None:
        """Every line is flushed as it is printed."""

    def close(self) -> None:
        """The ledger is the last line."""
        if self._report is not None:
            report, self._report = self._report, None
            terms = "  ".join(f"{name} {count}" for name, count in ledger_terms(report.stream.ledger))
            self._print(f"ledger {'balanced' if report.stream.balanced else 'NOT BALANCED'}  {terms}")

    def _print(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        print(one_line(line).encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)


class LiveTerminal(Sink):
    """A view that is redrawn in place by a thread of its own: at most four times a second, and only for a reason.

    The step's path only puts a fact down. Prints go above the view; the last view stays standing.
    """

    name = "the display"
    before_start = True

    def __init__(
        self, console: Console, history: History, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._monotonic_s = monotonic_s
        self._view = View(history)
        self._heard_s = monotonic_s()
        self._changed = True
        self._size = console.size
        self._done = threading.Event()
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=console.file is sys.stdout,
            redirect_stderr=sys.stderr.isatty(),  # a log file stays one
            vertical_overflow="crop",
            get_renderable=self._render,
        )
        self._live.start(refresh=True)
        console.show_cursor(True)  # a killed trainer cannot give it back
        self._thread = threading.Thread(target=self._redraw, name="display", daemon=True)
        self._thread.start()

    def write(self, fact: Fact) -> None:
        """Put the fact down for the next time that the view is drawn."""
        if isinstance(fact, Waiting):
            self._heard_s = self._monotonic_s()
        self._view = self._view.after(fact)
        self._changed = True

    def flush(self) -> None:
        """A view is not kept."""

    def close(self) -> None:
        """Draw the last view and leave it standing."""
        self._done.set()
        self._thread.join()
        self._live.stop()

    def _redraw(self) -> None:
        while not self._done.wait(REFRESH_EVERY_S):
            size = self._console.size
            if size != self._size:  # lines wrapped anew: where the old view stands is not known
                self._size = size
                self._console.control(Control.home(), Control.clear())
            elif not self._changed and self._view.waiting is None:
                continue
            self._changed = False
            self._live.refresh()

    def _render(self) -> Group:
        view = self._view
        waited_s = view.waiting.waited_s + self._monotonic_s() - self._heard_s if view.waiting else 0.0
        lines = view.lines(self._console.width, self._console.height, waited_s)
        end = [] if self._done.is_set() else [Text()]  # where the cursor is: what a killed life leaves stays whole
        return Group(*lines, *end)


def _report_line(report: Report) -> str:
    parts = [f"samples {report.samples}", _numbers(report.train), f"lr {report.learning_rate:.4g}"]
    if report.samples_per_s is not None:
        parts.append(f"{report.samples_per_s:.0f}/s")
    if report.sample_age_ms_p50 is not None and report.sample_age_ms_p99 is not None:
        parts.append(f"age {report.sample_age_ms_p50:.1f}/{report.sample_age_ms_p99:.1f} ms")
    if report.stream.lag is not None:
        parts.append(f"lag {report.stream.lag}")
    if report.stages:
        parts.append(busiest(report.stages))
    if report.stream.state != "streaming":
        parts.append(report.stream.state)
    if not report.stream.balanced:
        parts.append("LEDGER NOT BALANCED")
    return "  ".join(parts)


def _numbers(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{SHORT_NAMES.get(name, name)} {metrics[name]:.3f}" for name in metric_names(metrics))
