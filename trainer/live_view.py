"""The live view of a run: facts in, lines of text out. No terminal, no thread, no clock."""

import textwrap
from dataclasses import dataclass

from rich.text import Text

from protocol.wording import clock
from trainer.history import History
from trainer.report import Fact, Progress, Report, Start, Waiting
from trainer.wording import age, busiest, describe, ledger_terms, metric_names, one_line, sparkline

WIDEST = 100
LABEL = 12  # columns of the words on the left
NOTICES_SHOWN = 4
BLANKS = 4
NO_BREAK = "\u00a0"  # between a name and its number
NUMBER = 10
DIM, GOOD, CARE, BAD, TITLE = "bright_black", "green", "yellow", "bold red", "bold cyan"
STATE_STYLES = {"streaming": GOOD, "ended": "cyan"}  # every other state means that training stands still


@dataclass(frozen=True)
class View:
    """All that the view shows; a new one for each fact, so that another thread may draw the old one.

    `samples` and `samples_per_s` are the newest known, `waited` how long nothing has come.
    """

    history: History
    start: Start | None = None
    report: Report | None = None
    waiting: Waiting | None = None
    samples: int = 0
    samples_per_s: float | None = None

    def after(self, fact: Fact) -> "View":
        """The view once `fact` is known."""
        match fact:
            case Start():
                return View(self.history, fact, samples=fact.samples)
            case Report():
                return View(self.history, self.start, fact, None, fact.samples, fact.samples_per_s)
            case Progress():
                return View(self.history, self.start, self.report, None, fact.samples, fact.samples_per_s)
            case Waiting():
                return View(self.history, self.start, self.report, fact, self.samples)
            case _:
                return self

    def lines(self, width: int, height: int, waited_s: float) -> list[Text]:
        """At most `height` - 1 lines of at most `width` columns; the last row is left to the cursor.

        What matters least goes first where there is little room: old notices, then blank lines, then the header.
        """
        width = min(width, WIDEST)
        title, progress, metrics = self._title(width, waited_s), self._progress(width), self._metrics(width)
        facts, foot, header = self._facts(width), self._foot(width), self._header(width)
        room = height - 1 - sum(map(len, (title, progress, metrics, facts, foot)))
        header = header if len(header) <= room else []
        notices = self._notices(width, max(room - len(header) - BLANKS, min(2, room - len(header))))
        blanks = room - len(header) - len(notices)
        lines = [*title, *header]
        for section in filter(None, (progress, metrics, facts, notices)):
            if len(lines) > len(title) and blanks > 0:
                lines.append(Text())
                blanks -= 1
            lines += section
        lines += foot
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines[: max(1, height - 1)]

    def _title(self, width: int, waited_s: float) -> list[Text]:
        name = f"headrace · {one_line(self.start.run_dir)}" if self.start else "headrace"
        if self.waiting is not None:
            state, style = f"waiting for {one_line(self.waiting.text)} ({waited_s:.0f} s)", CARE
        elif self.report is not None:
            state = one_line(self.report.stream.state)
            style = STATE_STYLES.get(state, CARE)
        else:
            state, style = ("starting", CARE) if self.start is None else ("streaming", GOOD)
        if len(name) + len(state) + 12 > width:  # both do not fit on one line
            return [_rule(width, (name, TITLE)), Text.assemble((f" ● {state}", style))]
        return [_rule(width, (name, TITLE), (f"● {state}", style))]

    def _header(self, width: int) -> list[Text]:
        if self.start is None:
            return []
        model = f"{self.start.model} on {self.start.device}"
        if self.start.resumed:
            model += f", resumed at {self.start.samples:,} samples"
        stream = f"{self.start.stream}  {describe(self.start.info)}"
        return [*_rows("stream", one_line(stream), width), *_rows("model", one_line(model), width)]

    def _progress(self, width: int) -> list[Text]:
        if self.start is None:
            return []
        expected, rate, per_pass = self.start.expected_samples, self.samples_per_s, self.start.info.records_per_pass
        words = [f"{self.samples:,} of {expected:,}" if expected else f"{self.samples:,}"]
        if per_pass:
            words.append(f"pass {self.samples / per_pass:.2f}")
        if rate is not None:
            words.append(f"{rate:,.0f}/s")
            if expected and rate > 0 and self.samples < expected:
                words.append(f"{clock((expected - self.samples) / rate)} left")
        line = _row("samples", Text(" · ".join(words)))
        return [line, _bar(self.samples / expected, width)] if expected else [line]

    def _metrics(self, width: int) -> list[Text]:
        training = self.report.train if self.report else {}
        validation = self.history.last.metrics if self.history.last else {}
        names = metric_names(training, validation)[: max(1, (width - LABEL - 22) // NUMBER)]
        if not names:
            return []
        head = Text(" " * LABEL + "".join(f"{one_line(name):>{NUMBER}.{NUMBER}}" for name in names), style=DIM)
        curves = self._curves(width - LABEL - NUMBER * len(names) - 4)
        lines = [head]
        for label, metrics, curve in (("training", training, curves[0]), ("validation", validation, curves[1])):
            if metrics:
                numbers = "".join(
                    f"{metrics[name]:>{NUMBER}.4f}" if name in metrics else " " * NUMBER for name in names
                )
                style = "cyan" if label == "training" else "magenta"
                lines.append(_row(label, Text.assemble(numbers, "   ", (curve, style))))
        best = self.history.best
        if best is not None and "loss" in best.metrics:
            lines.append(_row("best", Text(f"{best.metrics['loss']:>{NUMBER}.4f} at {best.samples:,}")))
        return lines

    def _curves(self, width: int) -> tuple[str, str]:
        training, validation = self.history.training.points, self.history.validation.points
        points = training + validation
        if len(points) < 2 or width < 8:
            return "", ""
        values = [value for _, value in points]
        span = 0, max(samples for samples, _ in points)
        scale = min(values), max(values)
        return sparkline(training, width, span, scale), sparkline(validation, width, span, scale)

    def _facts(self, width: int) -> list[Text]:
        report = self.report
        if report is None:
            return []
        words = [f"learning rate {report.learning_rate:.4g}"]
        if report.sample_age_ms_p50 is not None and report.sample_age_ms_p99 is not None:
            words.append(f"sample age {age(report.sample_age_ms_p50)} (p99 {age(report.sample_age_ms_p99)})")
        if report.stream.lag is not None:
            words.append(f"lag {report.stream.lag:,}")
        verdict, style = ("✓ balanced", GOOD) if report.stream.balanced else ("✗ not balanced", BAD)
        terms = (f"{name} {count:,}".replace(" ", NO_BREAK) for name, count in ledger_terms(report.stream.ledger))
        ledger = _rows("ledger", " · ".join((verdict.replace(" ", NO_BREAK), *terms)), width)
        ledger[0].stylize(style, LABEL, LABEL + len(verdict))
        time = _rows("time", busiest(report.stages), width) if report.stages else []
        return [*_rows("pace", " · ".join(words), width), *time, *ledger]

    def _notices(self, width: int, room: int) -> list[Text]:
        """The newest notices that fit whole; of the newest its beginning, at least."""
        rows: list[Text] = []
        for notice in reversed(self.history.notices[-NOTICES_SHOWN:]):
            more = _rows(f"{notice.samples:>{LABEL - 2},}", one_line(notice.text), width)
            if rows and len(more) + len(rows) > room:
                break
            rows = more + rows
        return rows[: max(0, room)]

    def _foot(self, width: int) -> list[Text]:
        if self.start is None or not self.start.tensorboard:
            return []
        command = textwrap.wrap(
            self.start.tensorboard, max(1, width - 1), break_long_words=False, break_on_hyphens=False
        )
        return [_rule(width), *(Text(f" {part}", style=DIM) for part in command)]


def _row(label: str, value: Text) -> Text:
    return Text.assemble((f" {label:<{LABEL - 1}}", DIM), value)


def _rows(label: str, words: str, width: int) -> list[Text]:
    parts = textwrap.wrap(words, max(1, width - LABEL), break_on_hyphens=False) or [""]
    return [_row(label if index == 0 else "", Text(part.replace(NO_BREAK, " "))) for index, part in enumerate(parts)]


def _rule(width: int, left: tuple[str, str] | None = None, right: tuple[str, str] | None = None) -> Text:
    line = Text("──" if left else "", style=DIM)
    if left:
        line.append(f" {left[0]} ", left[1])
    end = Text.assemble((f" {right[0]} ", right[1]), ("──", DIM)) if right else Text()
    line.append("─" * (width - line.cell_len - end.cell_len), DIM)
    return line.append_text(end)


def _bar(fraction: float, width: int) -> Text:
    fraction = min(1.0, max(0.0, fraction))
    room = width - LABEL - 7
    full = int(fraction * room)
    return Text.assemble(" " * LABEL, ("━" * full, "cyan"), ("─" * (room - full), DIM), f" {fraction:>5.0%}")
