"""The trials of a sweep as they run: begun, followed, pruned and ended, some side by side."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from optuna.trial import Trial

from protocol.errors import CheckpointDamaged, PeerError, StreamTimeout, UsageError
from protocol.open_reader import open_reader
from trainer.mix import keys_of, urls_in
from trainer.space import options
from trainer.study import Outcome, Study, run_dir
from trainer.sweep_results import Results
from trainer.sweep_view import SweepView, worded
from trainer.template import Template
from trainer.trial import LOG, TrialProcess, group_held

POLL_S: Final = 0.2
DROP_S: Final = 5.0
#: So many trials that fail one after the other end the sweep: it is not their values.
MOST_FAILED: Final = 3


@dataclass
class Running:
    """A trial and its process."""

    trial: Trial
    process: TrialProcess
    pruned: bool = False


class Trials:
    """Runs the trials of a study, `parallel` at a time, each in a run directory of its own under `folder`."""

    def __init__(
        self, study: Study, folder: Path, template: Template, parallel: int, view: SweepView, results: Results
    ) -> None:
        self._study, self._folder, self._template, self._parallel = study, folder, template, parallel
        self._view, self._results = view, results
        self._running: list[Running] = []
        self._failed = 0
        self.stopped_by = ""

    def run(self) -> None:
        """Until all trials have ended, or `stop`. None is left running; those that were stopped have saved."""
        try:
            self._begin()
            while self._running and not self.stopped_by:
                time.sleep(POLL_S)
                for each in list(self._running):
                    self._follow(each)
                self._begin()
                self._view.show(self._outcomes())
        finally:
            for each in self._running:
                each.process.stop()
            for each in self._running:
                each.process.join()

    def stop(self, by: str) -> None:
        """Let the trials save and end; the next life of the sweep goes on with them. May be called by a signal."""
        self.stopped_by = by

    def _outcomes(self) -> list[Outcome]:
        samples = {each.trial.number: each.process.samples for each in self._running}
        return [replace(each, samples=samples.get(each.number, each.samples)) for each in self._study.outcomes()]

    def _begin(self) -> None:
        while not self.stopped_by and len(self._running) < self._parallel:
            trial = self._study.next()
            if trial is None:
                return
            folder = run_dir(self._folder, trial.number)
            own = {"run_dir": str(folder), "resume": "auto", "display": "plain"}
            self._view.say(f"trial {trial.number} {'goes on' if folder.exists() else 'begins'}: {worded(trial.params)}")
            settings = self._template.file(options({**trial.params, **own}))
            self._running.append(Running(trial, TrialProcess(folder, settings)))

    def _follow(self, each: Running) -> None:
        status = each.process.status  # asked first: what it has said by then is all that it will say
        known = len(each.process.validations)
        if each.process.look():
            for found in each.process.validations[known:]:
                self._view.say(f"trial {each.trial.number} at {found.samples:,} samples: {worded(found.metrics)}")
            prune = self._study.report(each.trial, each.process.validations)
            if prune and status is None and not each.pruned:  # asked twice, a run ends without saving
                each.pruned = True
                each.process.stop()
        if status is not None:
            self._end(each, status)

    def _end(self, each: Running, status: int) -> None:
        self._running.remove(each)
        self._release(each.process.folder)
        complete = status == 0 and bool(each.process.validations)
        state = "pruned" if each.pruned else "complete" if complete else "failed"
        self._study.end(each.trial, state, each.process.samples)
        self._results.keep()
        said = f"trial {each.trial.number} {'is ' * (state != 'failed')}{state} at {each.process.samples:,} samples"
        if state != "failed":
            self._failed = 0
            self._view.say(said)
            return
        self._failed += 1
        why = f"{each.process.last_words()} (see {each.process.folder / LOG})"
        self._view.say(f"{said}: {why}")
        if self._failed == MOST_FAILED:
            raise UsageError(f"{MOST_FAILED} trials failed one after the other, the last with: {why}")

    def _release(self, folder: Path) -> None:
        """A trial that is over must not hold the stream back. Before its end is known: a kill in between does no harm.

        Where the stream has ended there is nothing to hold, and the group stays as the one that has taken it all.
        """
        try:
            group = group_held(folder)
        except CheckpointDamaged as error:
            self._view.say(f"producers may still hold their streams for {folder.name}: {error}")
            return
        if group is None:
            return
        shared = self._template.shared
        urls = urls_in(shared.stream)
        for url, keys in zip(urls, keys_of(shared["keys"], urls), strict=True):
            try:
                with open_reader(url, keys=keys) as reader:
                    reader.drop(group, timeout_s=DROP_S)
            except (StreamTimeout, PeerError) as error:
                self._view.say(f"the producer at {url} may still hold the stream for {folder.name}: {error}")
