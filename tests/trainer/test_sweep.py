"""`python -m trainer sweep` as a program: its trials on one stream, over kills, and what it says of mistakes."""

import csv
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="searched with the extra `sweep`")

import yaml

from protocol.errors import UsageError
from tests.programs import Program, Programs, wait_until
from tests.trainer.lives import family, survivors
from tests.trainer.streams import groups
from trainer.checkpoint_files import load_newest
from trainer.commands import main
from trainer.jsonl_sink import read_lines

RECORDS = 1000
PARTS = f'''
import time
from pathlib import Path

import torch

from tests.trainer.counting import CountingModel

class Stepping(CountingModel):
    """Counts its steps."""

    def __init__(self) -> None:
        super().__init__(records={RECORDS}, ballast=1)
        self.steps = 0

    def forward(self, ids):
        self.steps += self.training
        self.pause()
        return super().forward(ids)

class Quick(Stepping):
    """Trains eight steps; each that follows waits 5 s for a file `go`."""

    def pause(self):
        begun_s = time.monotonic()
        while self.steps > 8 and not Path("go").exists() and time.monotonic() < begun_s + 5:
            time.sleep(0.01)

class Quicker(Quick):
    """The same."""

class Bad(Stepping):
    """Does worse, and would take a minute to its end."""

    def pause(self):
        time.sleep(self.training and self.steps > 4 and 4)

    def forward(self, ids):
        return super().forward(ids) + 1
'''
#: 20 steps a trial; a checkpoint and a validation every four.
SWEEP = {
    "sampler": "grid",
    "startup_trials": 2,
    "space": {"model": {"choice": ["parts.Quick", "parts.Quicker", "parts.Bad"]}},
    "train": {
        "task": {"class_path": "tests.trainer.counting.Counting", "init_args": {"step_s": 0.0, "validation_s": 0.0}},
        "batch_size": 50,
        "report_every": 100,
        "validate_every": 200,
        "checkpoint_every": 200,
        "tensorboard": False,
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return tmp_path


def produce(started: Programs, folder: Path) -> str:
    """The stream of numbered records; its URL."""
    url = f"ipc://{folder}/stream"
    source = ("--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(RECORDS))
    started.start("producer", "--bind", url, *source, "--source.size", "64", "--passes", "1", "--rate", "0", cwd=folder)
    return url


def search(started: Programs, folder: Path, url: str, *arguments: str) -> Program:
    """A life of the sweep, with two trials at a time."""
    stream = f"--train.stream={url}"
    return started.start("trainer", "sweep", "--config", "sweep.yaml", stream, *arguments, cwd=folder)


def wait_until_halfway(folder: Path, trials: Sequence[int]) -> None:
    """Until these trials have validated and saved at 400 of their 1000 samples, where they slow down."""

    def halfway(run: Path) -> bool:
        lines = list(read_lines(run / "metrics.jsonl")) if (run / "metrics.jsonl").exists() else []
        return any(each["samples"] == 400 for each in lines) and bool(list(run.glob("checkpoints/step-*400")))

    runs = [folder / f"runs/sweep/trial-{number:04d}" for number in trials]
    wait_until(lambda: all(map(halfway, runs)), "two trials to come to their ninth step")


def counts(run_dir: Path) -> list[int]:
    """How often each record was trained, as a trial's newest checkpoint has it."""
    found = load_newest(run_dir, pytest.fail)
    assert found is not None
    trained: list[int] = found[1]["model"]["counts"].tolist()
    assert sum(trained) == found[1]["samples"]
    return trained


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/sweep/results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_killed_sweep_goes_on_and_all_trials_see_the_same_records_once(started: Programs, folder: Path) -> None:
    url = produce(started, folder)
    killed = search(started, folder, url)
    wait_until_halfway(folder, (0, 1))
    own = family(killed.pid)
    killed.signal(signal.SIGKILL)
    killed.status()
    wait_until(lambda: not survivors(own), "the trials of a killed sweep to be gone")
    (folder / "go").touch()

    whole = search(started, folder, url)
    assert whole.status() == 0, f"{whole.out}\n{whole.err}"
    assert re.search(r"trial 0 goes on: .*trial 1 goes on: .*trial 2 begins: ", whole.out, re.DOTALL)
    runs = sorted((folder / "runs/sweep").glob("trial-*"))
    assert [run.name for run in runs] == ["trial-0000", "trial-0001", "trial-0002"]
    assert [counts(run) for run in runs[:2]] == [[1] * RECORDS] * 2
    pruned = sum(counts(runs[2]))
    assert set(counts(runs[2])) == {0, 1}
    assert "resumed from" in (runs[0] / "trial.log").read_text()

    found = results(folder)
    assert [(each["trial"], each["state"]) for each in found][2] == ("2", "pruned")
    assert {(each["model"], each["state"], each["samples"]) for each in found} == {
        ("parts.Quick", "complete", str(RECORDS)),
        ("parts.Quicker", "complete", str(RECORDS)),
        ("parts.Bad", "pruned", str(pruned)),
    }
    losses = [line["metrics"]["loss"] for line in read_lines(runs[0] / "metrics.jsonl") if line["kind"] == "validation"]
    assert float(found[0]["loss"]) == min(losses)
    assert len(list((folder / "runs/sweep/plots").glob("*.png"))) == 4
    best = yaml.safe_load((folder / "runs/sweep/best.yaml").read_text())
    assert (best["model"]["class_path"], best["run_dir"]) == (found[0]["model"], "runs/sweep/best")
    assert {each.name.rpartition("-")[0] for each in groups(url)} == {"trial-0000", "trial-0001"}, "one was dropped"

    trained = started.start("trainer", "train", "--config", "runs/sweep/best.yaml", cwd=folder)
    assert trained.status() == 0, trained.err
    assert counts(folder / "runs/sweep/best") == [1] * RECORDS


@pytest.mark.long
def test_ctrl_c_lets_the_trials_save_and_the_next_life_goes_on(started: Programs, folder: Path) -> None:
    url = produce(started, folder)
    stopped = search(started, folder, url)
    wait_until_halfway(folder, (0, 1))
    own = family(stopped.pid)
    stopped.signal(signal.SIGINT)
    assert stopped.status() == 0, stopped.err
    assert "stopped by SIGINT: 0 of 3 trials have ended; the same command goes on" in stopped.out
    wait_until(lambda: not survivors(own), "the trials to be gone")
    for number in (0, 1):
        run = folder / f"runs/sweep/trial-000{number}"
        assert f"stopped by SIGTERM: saved at {sum(counts(run))} samples" in (run / "trial.log").read_text()
    (folder / "go").touch()
    whole = search(started, folder, url)
    assert whole.status() == 0, f"{whole.out}\n{whole.err}"
    assert [each["state"] for each in results(folder)] == ["complete", "complete", "pruned"]
    assert [counts(folder / f"runs/sweep/trial-000{number}") for number in (0, 1)] == [[1] * RECORDS] * 2


@pytest.mark.long
def test_trials_that_fail_one_after_the_other_end_the_sweep_with_what_they_said(
    started: Programs, folder: Path
) -> None:
    linear = "{model: {class_path: torch.nn.Linear, init_args: {in_features: 3, out_features: 3}}}"
    space = ("--space", "{seed: {choice: [0, 1, 2, 3]}}", "--sampler", "grid", "--parallel", "1")
    url = f"--train.stream={produce(started, folder)}"
    program = started.start("trainer", "sweep", *space, "--train", linear, url, cwd=folder)
    said = program.complaint()
    assert re.search(
        r"3 trials failed one after the other, the last with: .*there is no column 'image' .*trial\.log", said
    ), said
    assert [each["state"] for each in results(folder)] == ["failed"] * 3


SIZES = ("--space", "{batch_size: {choice: [4, 16]}}", "--sampler", "grid")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), r"nothing to search: give --space"),
        (("--space", "{optimizer.lrr: {choice: [1]}}"), r"space: optimizer.lrr=1: there is no option --optimizer.lrr"),
        (("--space", "{batch_size: {choice: [4, many]}}"), r"space: batch_size=many: --batch_size: many is no int"),
        (("--space", "{batch_size: {low: 0, high: 8}}"), r"space: batch_size=0: --batch_size .* at least 1"),
        (("--space", "{stream: {choice: [tcp://a:1]}}"), r"space: stream is the same for all trials: leave it out"),
        ((*SIZES, "--train.batch_sizes", "4"), r"train: there is no option --batch_sizes"),
        ((*SIZES, "--train.weights", "3,1"), r"--weights 3,1: give one number for each stream, 1 in all"),
        ((*SIZES, "--train.run_dir", "mine"), r"train: run_dir: the sweep gives each trial its own: leave it out"),
    ],
)
def test_a_mistake_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        main(["sweep", "--sampler", "grid", *arguments])
    assert not list(tmp_path.iterdir())


def test_the_classes_of_a_sweep_are_said_before_any_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train, space = (
        {"task": {"class_path": "no.Task"}, "model": "no.Model"},
        {"optimizer": {"choice": ["no.A", "AdamW"]}},
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"sampler": "grid", "train": train, "space": space}))
    with pytest.raises(UsageError, match=r"train: .*there is no module 'no'"):
        main(["sweep", "--config", "mine.yaml"])
    assert "mine.yaml names classes, whose code will run: 'no.A', 'no.Model', 'no.Task'" in capsys.readouterr().err


def test_without_the_extra_a_sweep_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[train,sweep\]'"):
        main(["sweep", "--sampler", "grid"])
