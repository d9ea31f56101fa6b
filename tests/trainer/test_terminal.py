import io
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest
from rich.console import Console

from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.history import History
from trainer.report import Fact, Notice, Progress, Report, Sink, Standing, Start, ValidationReport, Waiting
from trainer.telemetry import Telemetry
from trainer.terminal import Display, LiveTerminal, PlainLines, open_terminal

INFO = StreamInfo(incarnation="x", schema=Schema((Field("x", "int64"),)), dealing=Dealing(1, 1), source="FashionMNIST")
START = Start(
    samples=0,
    resumed=False,
    run_dir="runs/x",
    stream="tcp://127.0.0.1:5555",
    info=INFO,
    model="GarmentClassifier",
    device="cpu",
    tensorboard="tensorboard --logdir runs/x/tensorboard",
)


def report(samples: int = 64_000, *, state: str = "streaming", balanced: bool = True) -> Report:
    ledger = {"received": samples, "trained": samples, "held_out": 0, "lost": 0, "buffered": 0, "unmarked": 0}
    return Report(
        samples=samples,
        batches=1000,
        train={"loss": 0.5119, "accuracy": 0.8101, "count": 6400.0},
        learning_rate=0.01,
        samples_per_s=55_012.4,
        sample_age_ms_p50=1.2,
        sample_age_ms_p99=3.04,
        stream=Standing(state=state, lag=0, log_end=samples, ledger=ledger, balanced=balanced),
        stages={"step": 0.31, "source": 0.62, "loader": 0.07},
    )


def plain(*facts: Fact) -> list[str]:
    stream = io.StringIO()
    sink = PlainLines(stream)
    for fact in facts:
        sink.write(fact)
    return stream.getvalue().splitlines()


def test_a_report_is_one_plain_line() -> None:
    numbers = "samples 64000  loss 0.512  acc 0.810  lr 0.01  55012/s  age 1.2/3.0 ms  lag 0"
    assert plain(report()) == [f"{numbers}  waiting for the stream 62 %"]


def test_a_plain_line_says_what_is_not_as_usual() -> None:
    (line,) = plain(report(state="away 12 s", balanced=False))
    assert line.endswith("lag 0  waiting for the stream 62 %  away 12 s  LEDGER NOT BALANCED")


def test_a_validation_and_a_notice_are_one_plain_line_each() -> None:
    assert plain(
        ValidationReport(samples=10, metrics={"accuracy": 0.5, "loss": 0.25, "count": 5.0}, best=True),
        Notice(samples=20, text="the producer\nis \x1b[31maway"),
    ) == ["samples 10  validation  loss 0.250  acc 0.500  best", "samples 20  the producer is  [31maway"]


def test_plain_lines_say_at_the_start_what_runs() -> None:
    assert plain(START) == [
        "run runs/x  model GarmentClassifier  device cpu",
        "stream tcp://127.0.0.1:5555  FashionMNIST",
        "see it with: tensorboard --logdir runs/x/tensorboard",
    ]


def test_waiting_prints_at_once_and_then_at_most_every_five_seconds() -> None:
    waits = [Waiting(text="the producer", waited_s=float(second)) for second in range(12)]
    assert plain(*waits) == [f"waiting for the producer ({second} s)" for second in (0, 5, 10)]


def test_waiting_again_later_prints_at_once() -> None:
    waits: list[Fact] = [Waiting(text="records", waited_s=0.0), Progress(samples=1, samples_per_s=None)] * 2
    assert plain(*waits) == ["waiting for records (0 s)"] * 2


def test_the_ledger_is_the_last_plain_line() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream)
    sink.write(report(64))
    sink.close()
    sink.close()
    assert stream.getvalue().splitlines()[1:] == ["ledger balanced  received 64  trained 64  buffered 0  unmarked 0"]


def test_letters_that_the_output_does_not_know_do_not_stop_the_run() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PlainLines(stream).write(Notice(samples=0, text="é…"))
    assert raw.getvalue() == b"samples 0  ??\n"


@pytest.mark.parametrize(("display", "kinds"), [("none", []), ("plain", [PlainLines]), ("auto", [PlainLines])])
def test_off_a_terminal_the_display_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch, display: Display, kinds: list[type]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert [type(sink) for sink in open_terminal(display, History())] == kinds


class Tty:
    """A real terminal device: the program's end as a text stream, and what arrived at the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self.stream = os.fdopen(slave, "w", encoding="utf-8")

    def display(self, stderr: TextIO | None = None) -> Sink:
        """The display as a program on this terminal gets it; not in a fixture, pytest takes the streams back after."""
        self._monkeypatch.setattr(sys, "stdout", self.stream)
        self._monkeypatch.setattr(sys, "stderr", stderr or self.stream)
        (sink,) = open_terminal("auto", History())
        return sink

    def arrived(self) -> str:
        parts = []
        while True:
            try:
                parts.append(os.read(self._master, 1 << 16))
            except BlockingIOError:
                return b"".join(parts).decode()

    def until(self, text: str, timeout_s: float = 5.0) -> str:
        """All that arrived until `text` was in it."""
        seen, deadline_s = "", time.monotonic() + timeout_s
        while text not in seen:
            assert time.monotonic() < deadline_s, f"{text!r} did not arrive: {seen!r}"
            time.sleep(0.01)
            seen += self.arrived()
        return seen

    def hang_up(self) -> None:
        os.close(self._master)

    def close(self) -> None:
        with suppress(OSError):  # nobody is there any more
            self.stream.close()


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tty]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    tty = Tty(monkeypatch)
    yield tty
    tty.close()


def seen(text: str) -> str:
    """Without what moves the cursor or colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_on_a_terminal_the_display_is_live_and_its_last_view_stays_standing(tty: Tty) -> None:
    sink = tty.display()
    assert isinstance(sink, LiveTerminal)
    sink.write(START)
    sink.write(report(64_000))
    sink.write(report(128_000, state="ended"))
    sink.close()
    last_view = seen(tty.until("ended")).rpartition("── headrace")[2]
    assert "128,000" in last_view
    assert "✓ balanced" in last_view
    assert last_view.endswith("tensorboard --logdir runs/x/tensorboard\r\n")
    assert sys.stdout is tty.stream


def test_waiting_counts_on_by_itself_before_anything_else_is_known(tty: Tty) -> None:
    sink = tty.display()
    sink.write(Waiting(text="the producer", waited_s=11.6))
    text = seen(tty.until("(13 s)"))
    assert "(12 s)" in text
    sink.close()


def test_prints_of_others_go_above_the_view_and_do_not_break_it(tty: Tty) -> None:
    sink = tty.display()
    sink.write(START)
    tty.until("runs/x/tensorboard")
    print("a warning", file=sys.stderr)
    text = tty.until("runs/x/tensorboard")
    assert text.index("a warning") < text.index("headrace")
    assert "\x1b[1A" in text[: text.index("a warning")]  # the old view was gone over first
    sink.close()


def test_errors_that_go_to_a_file_stay_there(tty: Tty) -> None:
    log = io.StringIO()
    sink = tty.display(stderr=log)
    print("a warning", file=sys.stderr)
    sink.close()
    assert log.getvalue() == "a warning\n"
    assert "a warning" not in tty.arrived()


def test_a_killed_life_leaves_the_cursor_visible_on_a_line_of_its_own(tty: Tty) -> None:
    sink = tty.display()
    sink.write(START)
    text = tty.until("runs/x/tensorboard")
    time.sleep(0.05)
    text += tty.arrived()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert seen(text).endswith("\r\n")
    sink.close()


def test_colours_are_left_out_where_the_person_asked_for_none(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> bool:
        sink = tty.display()
        sink.write(START)
        sink.write(report())
        text = tty.until("balanced")
        sink.close()
        tty.until("balanced")
        return bool(re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", text))

    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_the_view_is_drawn_at_most_four_times_a_second_and_not_at_all_when_nothing_changed(tty: Tty) -> None:
    sink = tty.display()
    tty.until("headrace")
    began_s = time.monotonic()
    while time.monotonic() - began_s < 1.1:
        sink.write(Progress(samples=1, samples_per_s=None))
        time.sleep(0.001)
    assert 2 <= tty.arrived().count("headrace") <= 5
    time.sleep(0.3)
    tty.arrived()
    time.sleep(0.6)
    assert tty.arrived() == ""
    sink.close()


def test_a_terminal_of_another_size_is_drawn_anew(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = tty.display()
    sink.write(START)
    tty.until("runs/x/tensorboard")
    assert isinstance(sink, LiveTerminal)
    monkeypatch.setattr(sink._console, "_width", 60)
    text = tty.until("runs/x/tensorboard")
    assert text.startswith("\x1b[H\x1b[2J")
    assert max(len(line.strip("\r")) for line in seen(text).split("\r\n")) <= 60
    sink.close()


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("TERM", None)])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    tty: Tty, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    monkeypatch.delenv(variable)
    if value:
        monkeypatch.setenv(variable, value)
    assert isinstance(tty.display(), PlainLines)


def test_a_terminal_that_is_gone_ends_nothing(tty: Tty) -> None:
    telemetry = Telemetry([tty.display()])
    tty.until("headrace")
    tty.hang_up()
    telemetry.start(START)
    time.sleep(0.3)
    telemetry.notice("training goes on")
    telemetry.close()
    assert sys.stdout is tty.stream


def test_the_live_view_can_be_asked_for_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)
    sink = LiveTerminal(console, History())
    sink.write(START)
    sink.close()
    assert "headrace" in file.getvalue()
