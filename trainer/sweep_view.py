"""What a person sees of a sweep: a table of its trials that is redrawn on a terminal, a line an event elsewhere."""

import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from protocol.show import columns
from trainer.study import Outcome, best_first
from trainer.terminal import Display, fit_for_live
from trainer.wording import metric_names, one_line

#: Where nothing else was said for so long, lines say how far the trials have come.
SILENT_S: Final = 30.0
#: Rows that the table leaves to its head and to what is said above it.
OTHER_ROWS: Final = 8


class SweepView(ABC):
    """Shows a sweep while it runs."""

    def close(self) -> None:  # noqa: B027  (only what is redrawn has something to take away)
        """Show nothing any more."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Something has happened."""

    @abstractmethod
    def show(self, outcomes: Sequence[Outcome]) -> None:
        """How all trials stand now; called several times a second."""


def open_view(display: Display, folder: Path, size: int) -> SweepView:
    """The view that `--display` names, of a sweep with `size` trials in all."""
    if display == "none":
        return Nothing()
    if display == "live" or (display == "auto" and fit_for_live(sys.stdout)):
        return LiveTable(console_of(), f"sweep {folder}", size)
    return PlainLines()


def console_of() -> Console:
    """Standard output; what is piped elsewhere stays whole, while a terminal has its width."""
    return Console(width=None if sys.stdout.isatty() else 1000, markup=False, emoji=False, highlight=False)


class Nothing(SweepView):
    """`--display none`."""

    def say(self, line: str) -> None:
        """Nobody asked."""

    def show(self, outcomes: Sequence[Outcome]) -> None:
        """Nobody asked."""


class PlainLines(SweepView):
    """One line for each event; for logs, pipes and dumb terminals."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def say(self, line: str) -> None:
        self._said_s = time.monotonic()
        print(one_line(line), flush=True)

    def show(self, outcomes: Sequence[Outcome]) -> None:
        if time.monotonic() - self._said_s >= SILENT_S:
            running = [f"trial {each.number} at {each.samples:,}" for each in outcomes if each.state == "running"]
            self.say(f"samples so far: {', '.join(running)}")


class LiveTable(SweepView):
    """The trials as a table that is redrawn where something has changed; events go above it."""

    def __init__(self, console: Console, title: str, size: int) -> None:
        self._console, self._title, self._size = console, title, size
        self._outcomes: Sequence[Outcome] = ()
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._render)
        self._live.start(refresh=True)
        console.show_cursor(True)  # a killed sweep cannot give it back

    def close(self) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        self._console.print(one_line(line))

    def show(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes != self._outcomes:
            self._outcomes = outcomes
            self._live.refresh()

    def _render(self) -> Group:
        states = Counter(each.state for each in self._outcomes)
        ended = sum(states.values()) - states["running"]
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        title = Text(f"{self._title}: {ended} of {self._size} trials have ended ({counts or 'none yet'})")
        return Group(title, table_of(_most_telling(self._outcomes, self._console.height - OTHER_ROWS)))


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """One row a trial, in this order; the best one stands out."""
    names = list(dict.fromkeys(name for each in outcomes for name in each.values))
    metrics = metric_names(*(each.metrics for each in outcomes))
    table = columns("trial", "state", *names, numbers=[*metrics, "after samples", "samples"])
    best = best_first(outcomes)[:1]
    for each in outcomes:
        numbers = [f"{each.metrics[name]:.4f}" if name in each.metrics else "" for name in metrics]
        table.add_row(
            str(each.number), each.state, *(value(each.values.get(name, "")) for name in names),
            *numbers, f"{each.best_samples:,}", f"{each.samples:,}",
            style="bold" if [each] == best and each.state == "complete" else "",
        )  # fmt: skip
    return table


def worded(values: Mapping[str, Any]) -> str:
    """Names and values in one line, without the number of records."""
    return "  ".join(f"{name} {value(each)}" for name, each in values.items() if name != "count")


def value(each: object) -> str:
    """A value in few characters."""
    return f"{each:.4g}" if isinstance(each, float) else one_line(str(each))


def _most_telling(outcomes: Sequence[Outcome], most: int) -> list[Outcome]:
    """Those that run, then the best ones, as many as there is room for."""
    sort = sorted(best_first(outcomes), key=lambda each: each.state != "running")
    return sort[: max(most, 1)]
