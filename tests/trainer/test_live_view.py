import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.history import History
from trainer.live_view import View
from trainer.report import Fact, Notice, Progress, Report, Standing, Start, ValidationReport, Waiting


def start(*, expected: int | None = 330_000, resumed: bool = False, per_pass: int | None = 55_000) -> Start:
    info = StreamInfo(
        incarnation="x",
        schema=Schema((Field("label", "int64"),), label="label", class_names=tuple("abcdefghij")),
        dealing=Dealing(8, 1024),
        splits={"validation": 5000, "test": 10_000},
        records_per_pass=per_pass,
        source="FashionMNIST",
    )
    return Start(
        samples=6400 if resumed else 0,
        resumed=resumed,
        run_dir="runs/demo",
        stream="tcp://127.0.0.1:5555",
        info=info,
        model="GarmentClassifier",
        device="cpu",
        expected_samples=expected,
        tensorboard=".venv/bin/tensorboard --logdir runs/demo/tensorboard",
    )


def report(samples: int, *, loss: float = 0.3121, state: str = "streaming", lost: int = 0, ok: bool = True) -> Report:
    names = ("held_out", "skipped", "rejected", "buffered", "unmarked")
    ledger = {"received": samples, "trained": samples, "lost": lost, **dict.fromkeys(names, 0)}
    return Report(
        samples=samples,
        batches=1,
        train={"loss": loss, "accuracy": 0.8876, "count": 64.0},
        learning_rate=0.0874,
        samples_per_s=55_012.0,
        sample_age_ms_p50=1.2,
        sample_age_ms_p99=85.0,
        stream=Standing(state=state, lag=1234, log_end=samples, ledger=ledger, balanced=ok),
        stages={"step": 0.31, "source": 0.62, "loader": 0.07},
    )


def view(*facts: Fact) -> View:
    history = History()
    shown = View(history)
    for fact in facts:
        history.add(fact)
        shown = shown.after(fact)
    return shown


def text(shown: View, width: int = 80, height: int = 24, waited_s: float = 0.0) -> str:
    return "\n".join(line.plain for line in shown.lines(width, height, waited_s))


FULL: tuple[Fact, ...] = (
    start(resumed=True),
    *(report(6400 * n, loss=2 / n) for n in range(1, 20)),
    ValidationReport(samples=120_000, metrics={"loss": 0.3345, "accuracy": 0.8791, "count": 5000.0}, best=True),
    Notice(samples=6400, text="resumed from runs/demo/checkpoints/step-000000006400"),
    Notice(samples=120_000, text="over-fitting: validation loss not below 0.3345 over the last 3 validations " * 2),
    report(128_000),
)


def test_everything_that_matters_fits_eighty_columns_and_twenty_four_lines() -> None:
    shown = text(view(*FULL))
    for words in (
        *("runs/demo", "● streaming", "tcp://127.0.0.1:5555", "FashionMNIST", "10 classes", "validation 5,000"),
        *("GarmentClassifier on cpu, resumed at 6,400 samples", "128,000 of 330,000", "pass 2.33", "55,012/s"),
        *("0:03 left", "39%", "0.3121", "0.8876", "0.3345", "0.8791", "0.3345 at 120,000", "learning rate 0.0874"),
        *("sample age 1.2 ms (p99 85 ms)", "lag 1,234", "✓ balanced", "over-fitting", "█"),
        "waiting for the stream 62 %",
        ".venv/bin/tensorboard --logdir runs/demo/tensorboard",
    ):
        assert words in shown, words


@given(st.integers(10, 200), st.integers(4, 60), st.integers(0, len(FULL)))
def test_the_view_fits_every_terminal_at_every_moment(width: int, height: int, told: int) -> None:
    lines = view(*FULL[:told]).lines(width, height, 3.0)
    assert 1 <= len(lines) < height
    assert max(line.cell_len for line in lines) <= width


def test_with_little_room_the_numbers_stay_longest() -> None:
    small = text(view(*FULL), 60, 13)
    assert "0.3121" in small
    assert "balanced" in small
    assert "GarmentClassifier" not in small


def test_before_anything_is_known_the_view_says_what_is_waited_for() -> None:
    shown = view(Waiting(text="the producer at tcp://127.0.0.1:5555", waited_s=0.0))
    assert "waiting for the producer at tcp://127.0.0.1:5555 (12 s)" in text(shown, waited_s=12.4)
    assert "waiting for the producer at tcp://127.0.0.1:5555 (12 s)" in text(shown, width=70, waited_s=12.4)


def test_what_is_waited_for_is_said_until_something_comes() -> None:
    away = view(start(), report(640), Waiting(text="the producer to come back", waited_s=0.0))
    assert "waiting for the producer to come back (3 s)" in text(away, waited_s=3.0)
    assert "● streaming" in text(away.after(Progress(samples=700, samples_per_s=10.0)))


@pytest.mark.parametrize(("state", "colour"), [("streaming", "green"), ("ended", "cyan"), ("away 12 s", "yellow")])
def test_the_streams_state_is_said_in_its_colour(state: str, colour: str) -> None:
    title = view(start(), report(640, state=state)).lines(80, 24, 0.0)[0]
    spans = {title.plain[span.start : span.end].strip(): span.style for span in title.spans}
    assert spans[f"● {state}"] == colour


def test_a_ledger_that_does_not_balance_is_seen_and_so_is_what_was_lost() -> None:
    shown = text(view(start(), report(640, lost=7, ok=False)), 100)
    assert "✗ not balanced" in shown
    assert "lost 7" in shown
    assert "skipped" not in shown


def test_an_endless_stream_has_no_bar_and_no_end() -> None:
    shown = text(view(start(expected=None, per_pass=None), report(640)))
    assert "640 · 55,012/s" in shown
    assert "left" not in shown
    assert "━" not in shown


def test_a_run_that_is_over_its_expectation_has_a_full_bar() -> None:
    shown = text(view(start(), report(400_000)))
    assert "100%" in shown
    assert "left" not in shown


def test_nothing_of_a_producers_words_reaches_the_terminals_controls() -> None:
    hostile = start()
    hostile.info.splits["\x1b[2J\nboo"] = 1  # type: ignore[index]
    lines = view(hostile, Notice(samples=1, text="\x1b]0;title\x07")).lines(100, 30, 0.0)
    assert all(line.plain.isprintable() for line in lines)
