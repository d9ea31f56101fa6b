"""Whatever is counted one record too few somewhere, in a real training, is noticed; and the command says what."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from protocol.dealing import Positions
from protocol.errors import LedgerUnbalanced, StreamError
from tests.trainer.forgetful import forgetful, log_of, publish
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from trainer.commands import main
from trainer.handed_out import HandedOut
from trainer.ledger import Fate, Ledger
from trainer.loop import Training
from trainer.reached import Reached
from trainer.trail import Passed

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A trainer obeys them in its own way."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    with serving(computed(NumberedRecords(200, validation=0), partitions=2)) as url:
        yield url


def train(url: str, run_dir: Path, *options: object) -> None:
    """A real little one, which saves before it first looks at its ledger."""
    parts = ("--model", "tests.trainer.counting.CountingModel", "--model.ballast", "0")
    task = ("--task", "tests.trainer.counting.Counting", "--task.step_s", "0")
    shown = ("--display", "none", "--tensorboard", "false", "--batch_size", "10")
    every = ("--checkpoint_every", "20", "--report_every", "1000")
    main(["train", "--stream", url, "--run_dir", str(run_dir), *parts, *task, *shown, *every, *map(str, options)])


class Once:
    """1 the first time that it is asked where something is counted, then 0."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, here: object) -> int:
        if not here or self._asked:
            return 0
        self._asked = True
        return 1


Break = Callable[[pytest.MonkeyPatch], None]


def fate(name: str) -> Break:
    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        once, count = Once(), Ledger.count

        def too_few(self: Ledger, fate: Fate, partition: int, records: int) -> None:
            count(self, fate, partition, records - once(fate == name))

        monkeypatch.setattr(Ledger, "count", too_few)

    return break_it


def position(monkeypatch: pytest.MonkeyPatch) -> None:
    once, move = Once(), Reached.move

    def too_few(self: Reached, passed: Passed) -> None:
        assert passed.end is not None
        move(self, passed._replace(rows=passed.rows - once(passed.rows), end=passed.end - 1))

    monkeypatch.setattr(Reached, "move", too_few)


def start(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Ledger.__init__
    monkeypatch.setattr(Ledger, "__init__", lambda self, start: begin(self, {**start, 1: start[1] - 1}))


def received(monkeypatch: pytest.MonkeyPatch) -> None:
    once, receive = Once(), Ledger.receive
    monkeypatch.setattr(
        Ledger, "receive", lambda self, partition, records: receive(self, partition, records - once(records > 0))
    )


def consumed(monkeypatch: pytest.MonkeyPatch) -> None:
    once, count = Once(), Ledger.count

    def too_few(self: Ledger, fate: Fate, partition: int, records: int) -> None:
        count(self, fate, partition, records)
        self._consumed[partition] -= once(records)

    monkeypatch.setattr(Ledger, "count", too_few)


def in_hand(which: int) -> Break:
    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        counts = HandedOut.counts

        def too_few(self: HandedOut) -> tuple[Positions, Positions]:
            both = counts(self)
            both[which][0] = both[which].get(0, 0) - 1
            return both

        monkeypatch.setattr(HandedOut, "counts", too_few)

    return break_it


#: What the command says first; the terms of a life are in no checkpoint, so the training alone sees them.
TERMS: Mapping[str, tuple[Break, str | None]] = {
    "trained": (fate("trained"), r"^trained: the ledger has \d+9 records, the checkpoint \d+0$"),
    "position": (
        position,
        r"^start or position: \d+ records of partition \d have passed and \d+ are accounted for \(trained",
    ),
    "start": (start, r"^start or position: \d+ records of partition 1 have passed and"),
    "received": (received, None),
    "consumed": (consumed, None),
    "buffered": (in_hand(0), None),
    "unmarked": (in_hand(1), None),
}


@pytest.mark.parametrize(
    ("term", "order"), [*((term, "stream") for term in TERMS), ("trained", "arrival"), ("position", "arrival")]
)
def test_a_record_that_is_counted_too_few_ends_the_training_and_is_named(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str, order: str
) -> None:
    break_it, named = TERMS[term]
    with monkeypatch.context() as broken:
        break_it(broken)
        with pytest.raises(LedgerUnbalanced, match=r"^partition \d: \d+ records (have passed|were received), but"):
            train(stream, tmp_path, "--max_samples", 100, "--order", order)
    if named is None:
        assert main(["ledger", "--run_dir", str(tmp_path)]) == 0
        return
    with pytest.raises(LedgerUnbalanced, match=named):
        main(["ledger", "--run_dir", str(tmp_path)])


@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize(("name", "options"), [("held_out", ("--holdout", 0.3)), ("thinned", ("--thin", [0.5] * 10))])
def test_a_record_that_is_left_out_and_counted_too_few_is_named(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: tuple[object, ...], window: int
) -> None:
    with monkeypatch.context() as broken:
        fate(name)(broken)
        with pytest.raises(LedgerUnbalanced, match=r"^partition \d: \d+ records have passed, but"):
            train(stream, tmp_path, "--max_samples", 80, "--shuffle_window", window, *options)
    with pytest.raises(LedgerUnbalanced, match=rf"^start or position or {name.replace('_', ' ')}: "):
        main(["ledger", "--run_dir", str(tmp_path)])


def test_samples_that_a_checkpoint_has_too_few_are_noticed(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dict = Training.state_dict

    def too_few(self: Training) -> dict[str, Any]:
        state = state_dict(self)
        return {**state, "samples": state["samples"] - 1}

    monkeypatch.setattr(Training, "state_dict", too_few)
    train(stream, tmp_path, "--max_samples", 40)
    with pytest.raises(LedgerUnbalanced, match=r"^trained: the ledger has 40 records, the checkpoint 39$"):
        main(["ledger", "--run_dir", str(tmp_path)])


def test_what_is_lost_is_in_the_ledger_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with forgetful() as publisher:
        publish(publisher, 0, 100)
        url = publisher.address
        train(url, tmp_path, "--max_samples", 30)
        publish(publisher, 100, 1500)
        forgotten = sum(log_of(publisher).log_start().values()) - 30
        with pytest.raises(StreamError) as stopped:
            train(url, tmp_path)
        told = str(stopped.value)
        assert f"before they were trained: {forgotten} records in 2 partitions: partition 0 lost " in told
        assert told.endswith("; what was trained is saved; to go on behind them give --on_loss continue")
        capsys.readouterr()
        assert main(["ledger", "--run_dir", str(tmp_path), "--stream", url]) == 0
        assert f"{forgotten:,} records that were not trained are no longer in the log" in capsys.readouterr().out
        train(url, tmp_path, "--on_loss", "continue", "--max_samples", 60)
        assert json.loads(told_of(tmp_path, capsys))["totals"]["lost"] == forgotten
        publish(publisher, 1500, 3000)
        fate("lost")(monkeypatch)
        with pytest.raises(LedgerUnbalanced, match="records have passed, but"):
            train(url, tmp_path, "--on_loss", "continue", "--max_samples", 100)
        with pytest.raises(
            LedgerUnbalanced, match=r"^start or position or lost: .* are accounted for \(trained \d+, lost [\d,]+\)"
        ):
            main(["ledger", "--run_dir", str(tmp_path)])


def told_of(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["ledger", "--run_dir", str(run_dir), "--json"]) == 0
    return capsys.readouterr().out
