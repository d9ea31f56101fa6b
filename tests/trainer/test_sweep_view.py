"""What is seen of a sweep while it runs, and the table of its results."""

import io
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="searched with the extra `sweep`")

from rich.console import Console

from trainer.study import Outcome
from trainer.sweep_view import LiveTable, PlainLines, open_view, table_of, worded


def outcome(number: int, state: str, loss: float | None = None) -> Outcome:
    metrics = {} if loss is None else {"loss": loss, "accuracy": 0.5, "count": 100.0}
    best = 0 if loss is None else 1000
    values = {"optimizer.lr": 0.001 * (number + 1), "batch_size": 64}
    return Outcome(number=number, state=state, values=values, samples=25_000, best_samples=best, metrics=metrics)


OUTCOMES = [outcome(0, "complete", 0.4), outcome(1, "pruned", 0.3), outcome(2, "running"), outcome(3, "complete", 0.25)]


def shown(columns: int, rows: int, *, draw: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=columns, height=rows, force_terminal=draw, color_system=None, markup=False)
    if draw:
        view = LiveTable(console, "sweep runs/x", 12)
        view.say("trial 2 begins: [not] markup")
        view.show(OUTCOMES)
        view.close()
    else:
        console.print(table_of(OUTCOMES))
    return out.getvalue()


def test_a_row_of_the_table_says_what_a_trial_was_and_how_it_did() -> None:
    head, _, *rows = shown(120, 40, draw=False).splitlines()
    names = ["trial", "state", "optimizer.lr", "batch_size", "loss", "accuracy", "after samples", "samples"]
    assert " ".join(head.split()) == " ".join(names)
    assert rows[0].split() == ["0", "complete", "0.001", "64", "0.4000", "0.5000", "1,000", "25,000"]
    assert rows[2].split() == ["2", "running", "0.003", "64", "0", "25,000"]


def test_the_live_table_has_those_that_run_and_then_the_best_as_many_as_there_is_room_for() -> None:
    drawn = shown(120, 11, draw=True)
    assert "sweep runs/x: 3 of 12 trials have ended (2 complete, 1 pruned, 1 running)" in drawn
    assert "trial 2 begins: [not] markup" in drawn
    numbers = [line.split()[0] for line in drawn.splitlines() if "25,000" in line]
    assert numbers[:3] == ["2", "3", "0"]
    assert "pruned  " not in drawn


def test_what_is_not_a_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = open_view("auto", Path("runs/x"), 12)
    assert isinstance(view, PlainLines)
    view.say("trial 2 begins:\nlr 0.1")
    view.show(OUTCOMES)
    view.close()
    assert capsys.readouterr().out == "trial 2 begins: lr 0.1\n"


def test_values_are_said_in_few_characters() -> None:
    assert worded({"optimizer.lr": 0.00123456, "model": "a.B", "count": 7}) == "optimizer.lr 0.001235  model a.B"
