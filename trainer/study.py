"""The study of a sweep: Optuna's, in SQLite beside the trials, so that it goes on after `kill -9`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from protocol.errors import UsageError
from trainer.space import Space, Values, draw, grid
from trainer.sweep import SweepSettings
from trainer.trial import Validation

FILE: Final = "study.db"
NAME: Final = "sweep"
#: The best come first.
STATES: Final = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "failed": TrialState.FAIL,
}


def run_dir(folder: Path, number: int) -> Path:
    """The run directory of a trial."""
    return folder / f"trial-{number:04d}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is known of one trial."""

    number: int
    state: str
    """One of `STATES`."""
    values: Values
    samples: int
    """Samples trained, ..."""
    best_samples: int
    """... and those after which the validation loss was lowest."""
    metrics: Mapping[str, float]
    """What that validation found; nothing before the first one."""

    @property
    def loss(self) -> float:
        """The lowest validation loss; infinite before the first one."""
        return self.metrics.get("loss", inf)


class Study:
    """Draws the values of trials and judges how they do. One process at a time works with it.

    `meaning` are the settings that all trials share. Raises `UsageError` where the folder holds another study.
    """

    def __init__(self, folder: Path, space: Space, meaning: Mapping[str, Any], settings: SweepSettings) -> None:
        self._space, self._settings = space, settings
        points = grid(space) if settings.sampler == "grid" else []
        self.size = min(settings.trials or len(points), len(points)) if points else settings.trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._storage = RDBStorage(f"sqlite:///{folder / FILE}")
            self.optuna = optuna.create_study(
                storage=self._storage, study_name=NAME, pruner=_pruner(settings), load_if_exists=True
            )
        except (SQLAlchemyError, RuntimeError, optuna.exceptions.OptunaError) as error:
            raise UsageError(f"{folder / FILE} cannot be read as a study: give another --sweep_dir") from error
        _check_same(self.optuna, folder, space, meaning)
        for point in points:
            self.optuna.enqueue_trial(dict(point), skip_if_exists=True)
        self._interrupted = [each.number for each in self._trials() if each.state == TrialState.RUNNING]

    def next(self) -> Trial | None:
        """The next trial to run, its values drawn: first those that a life of the sweep left; None after the last."""
        if self._interrupted:
            number = self._interrupted.pop(0)
            self.optuna.sampler = self._sampler(number)
            of_study = self._storage.get_study_id_from_name(NAME)
            trial = Trial(self.optuna, self._storage.get_trial_id_from_study_id_trial_number(of_study, number))
        elif (begun := len(self.outcomes())) < self.size:
            self.optuna.sampler = self._sampler(begun)
            trial = self.optuna.ask()
        else:
            return None
        draw(trial, self._space)
        return trial

    def report(self, trial: Trial, validations: Sequence[Validation]) -> bool:
        """Take in all validations of a trial so far; whether it is to be pruned for what was new.

        A step of the study is a validation, since batches of several sizes come to it at several samples. One that was
        reported before, in a life that was killed, is known.
        """
        known = len(self._trials()[trial.number].intermediate_values)
        if len(validations) <= known:
            return False
        for step, each in enumerate(validations[known:], known + 1):
            trial.report(each.metrics["loss"], step)
        best = min(validations, key=lambda each: each.metrics["loss"])
        trial.set_user_attr("best", {"samples": best.samples, "metrics": dict(best.metrics)})
        return trial.should_prune()

    def end(self, trial: Trial, state: str, samples: int) -> None:
        """The trial has come to its end; the value of one that is complete is its lowest validation loss."""
        trial.set_user_attr("samples", samples)
        losses = self._trials()[trial.number].intermediate_values.values()
        self.optuna.tell(trial, min(losses) if state == "complete" else None, STATES[state])

    def outcomes(self) -> list[Outcome]:
        """Of all trials that have begun, in their order."""
        return [_outcome(each) for each in self._trials() if each.state in STATES.values()]

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def _sampler(self, number: int) -> BaseSampler:
        """Each trial draws with a seed of its own, so that a sweep which was killed draws what it would have drawn."""
        seed = int(np.random.SeedSequence((self._settings.seed, number)).generate_state(1)[0])
        if self._settings.sampler == "tpe":
            return TPESampler(n_startup_trials=self._settings.startup_trials, seed=seed)
        return RandomSampler(seed)  # of a grid nothing is left to draw


def best_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sorted by how far they came, then by their lowest loss."""
    order = list(STATES)
    return sorted(outcomes, key=lambda each: (order.index(each.state), each.loss))


def _pruner(settings: SweepSettings) -> BasePruner:
    match settings.pruner:
        case "median":
            return MedianPruner(n_startup_trials=settings.startup_trials)
        case "halving":
            return SuccessiveHalvingPruner()
        case "none":
            return NopPruner()


def _outcome(trial: FrozenTrial) -> Outcome:
    best = trial.user_attrs.get("best", {"samples": 0, "metrics": {}})
    return Outcome(
        number=trial.number,
        state=next(name for name, state in STATES.items() if state == trial.state),
        values=trial.params,
        samples=trial.user_attrs.get("samples", best["samples"]),
        best_samples=best["samples"],
        metrics=best["metrics"],
    )


def _check_same(study: optuna.Study, folder: Path, space: Space, meaning: Mapping[str, Any]) -> None:
    now = {f"space: {name}": json.loads(distribution_to_json(each)) for name, each in space.items()}
    now |= {f"train: {name}": json.loads(json.dumps(each)) for name, each in meaning.items()}
    was = study.user_attrs.get("meaning")
    if was is None:
        study.set_user_attr("meaning", now)
    elif was != now:
        differing = ", ".join(name for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name))
        mend = "give these as they were, or another --sweep_dir"
        raise UsageError(f"{folder} holds a sweep of other settings ({differing}): {mend}")
