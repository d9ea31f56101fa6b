"""One trial of a sweep: an ordinary `python -m trainer train` in a process of its own, and what it has said so far."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final

from protocol.command_line import run
from trainer.__main__ import main
from trainer.checkpoint_files import load_newest
from trainer.jsonl_sink import read_lines
from trainer.sealed import make_folder
from trainer.workers import die_with_parent

SETTINGS: Final = "settings.yaml"
LOG: Final = "trial.log"
METRICS: Final = "metrics.jsonl"
LAST_BYTES: Final = 4096


@dataclass(frozen=True)
class Validation:
    """The model of a trial on held-out records, after so many samples."""

    samples: int
    metrics: Mapping[str, float]


class TrialProcess:
    """A life of the trial in `folder`, as its `settings` (YAML) say; it goes on from its own checkpoint.

    What it prints is appended to `trial.log`.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        make_folder(folder)
        (folder / SETTINGS).write_text(settings)
        (folder / LOG).touch()
        self.folder = folder
        self.samples = 0
        self.validations: list[Validation] = []
        self._metrics = folder / METRICS
        self._seen = self._signature()
        self._stale = self._seen and self._seen[0]
        self._process = _forkserver().Process(target=_train, args=(folder,), name=folder.name)
        self._process.start()

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def stop(self) -> None:
        """Ask it to save and to end."""
        self._process.terminate()

    def join(self) -> None:
        """Wait for its end."""
        self._process.join()

    def look(self) -> bool:
        """Take in what the run has said of itself; false where that is nothing new.

        What an earlier life has said counts once this one has cut it back to the checkpoint, as a file of its own.
        """
        seen = self._signature()
        if seen is None or seen == self._seen or seen[0] == self._stale:
            return False
        self._seen = seen
        lines = list(read_lines(self._metrics))
        self.samples = lines[-1]["samples"] if lines else 0
        self.validations = [
            Validation(line["samples"], line["metrics"]) for line in lines if line["kind"] == "validation"
        ]
        return True

    def last_words(self) -> str:
        """The last line that it has printed."""
        with (self.folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.removeprefix("trainer: ") for line in reversed(lines) if line.strip()), "nothing was said")

    def _signature(self) -> tuple[int, int] | None:
        try:
            found = self._metrics.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size


def group_held(folder: Path) -> str | None:
    """The group in whose name the stream is held back for a trial; None where it saved nothing or trained all of it."""
    found = load_newest(folder, lambda _line: None)
    if found is None or found[1]["stream"]["ended"]:
        return None
    return str(found[1]["stream"]["group"])


def prepare_trials() -> None:
    """Start what trials will be forked from, so that it imports torch while this process does other things."""
    _forkserver()
    forkserver.ensure_running()


def _forkserver() -> ForkServerContext:
    """Trials fork from a server that has imported once what each would need some seconds for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.commands", "torch._dynamo", "torch.utils.tensorboard"])
    return context


def _train(folder: Path) -> None:
    """The trial's process: a program of its own, which ends when the sweep does."""
    os.setpgid(0, 0)  # a Ctrl-C is the sweep's to hear, which then asks its trials to save
    die_with_parent()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["trainer", "train", "--config", str(folder / SETTINGS)]
    sys.exit(run(main))
